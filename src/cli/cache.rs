//! `cache`: the compiled kernels on disk.

use super::args::Cache as Action;
use super::{Done, Failure, print};
use crate::cuda::cache::{Cache, Entry};
use std::io;
use std::path::Path;

/// `jetc cache ACTION`
pub fn cache(action: &Action) -> Done {
    let cache = Cache::shared();
    let Some(folder) = cache.folder() else {
        return Err(Failure::Input("there is no home folder for a cache; set JETC_CACHE_DIR".into()));
    };
    match action {
        Action::Path => print(&folder.display().to_string())?,
        Action::Ls => {
            let entries = entries(cache, folder)?;
            entries.iter().try_for_each(|e| print(&e.to_string()))?;
            let bytes: u64 = entries.iter().map(|e| e.bytes).sum();
            print(&format!("{} entries, {:.1} MB", entries.len(), bytes as f64 / 1e6))?;
        }
        Action::Clear => {
            let deleted = cache.clear().map_err(unusable(folder))?;
            print(&format!("{deleted} files deleted from {}", folder.display()))?;
        }
        Action::Verify => {
            let entries = entries(cache, folder)?;
            let damaged: Vec<&Entry> = entries.iter().filter(|e| e.kind.is_none()).collect();
            damaged.iter().try_for_each(|e| print(&e.to_string()))?;
            print(&format!("{} of {} entries are whole", entries.len() - damaged.len(), entries.len()))?;
            if !damaged.is_empty() {
                return Err(Failure::Work("damaged entries are made again when they are needed".into()));
            }
        }
    }
    Ok(())
}

fn entries(cache: &Cache, folder: &Path) -> Result<Vec<Entry>, Failure> {
    cache.entries().map_err(unusable(folder))
}

fn unusable(folder: &Path) -> impl Fn(io::Error) -> Failure {
    move |e| Failure::Input(format!("{}: {e}", folder.display()))
}
