//! Compiled kernels on disk.
//!
//! An entry is one file, named by its key: the hash of everything that its contents depend on, as named fields, and of nothing
//! else (no paths, no time). It is written beside its place and renamed into it, so any number of processes may write and
//! read. It holds a hash of its contents: what is damaged is deleted and made again. Where the folder is missing or cannot be
//! written, entries are kept in memory, with one [`warning`](Cache::take_warning). Whoever asks never fails because of the cache.

use super::compile::{Compiled, Kind, Request};
use super::folders;
use crate::net::write_atomically;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// First bytes of an entry; another version of the format has others.
const FORMAT: &[u8] = b"jetc kernel 1\n";
const HASH: usize = 32;
const ENDING: &str = "kernel";

/// What an entry depends on, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; HASH]);

impl Key {
    /// The key of named fields; their order matters.
    pub fn new(fields: &[(&str, &[u8])]) -> Self {
        let mut hash = Sha256::new();
        for part in fields.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Key(hash.finalize().into())
    }

    /// The key of a compilation by a version of NVRTC.
    pub fn of(request: &Request<'_>, nvrtc: (u32, u32)) -> Self {
        let version = format!("{}.{}", nvrtc.0, nvrtc.1);
        let options = request.options().join("\n");
        Key::new(&[
            ("format", FORMAT),
            ("text", request.module.text.as_bytes()),
            ("nvrtc", version.as_bytes()),
            ("options", options.as_bytes()),
            ("arch", request.arch.to_string().as_bytes()),
            ("kind", request.kind.name().as_bytes()),
        ])
    }

    fn file(self) -> String {
        let digits: String = self.0.iter().map(|b| format!("{b:02x}")).collect();
        format!("{digits}.{ENDING}")
    }
}

/// A cache of compiled kernels.
#[derive(Debug, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    memory: HashMap<Key, Compiled>,
    /// Why entries are in memory; said once.
    trouble: Option<String>,
    is_told: bool,
}

impl Cache {
    /// The cache of this user.
    pub fn shared() -> &'static Cache {
        static SHARED: OnceLock<Cache> = OnceLock::new();
        SHARED.get_or_init(|| Cache::new(folders::cache()))
    }

    /// A cache in a folder, which is made when something is stored; none: in memory.
    pub fn new(folder: Option<PathBuf>) -> Self {
        let cache = Cache { folder, state: Mutex::default() };
        if cache.folder.is_none() {
            cache.lock().trouble = Some("there is no home folder; set JETC_CACHE_DIR".into());
        }
        cache
    }

    /// Its folder.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What is stored under a key. A damaged entry is deleted.
    pub fn get(&self, key: Key) -> Option<Compiled> {
        if let Some(found) = self.lock().memory.get(&key) {
            return Some(found.clone());
        }
        let path = self.folder.as_ref()?.join(key.file());
        let bytes = std::fs::read(&path).ok()?;
        let found = decode(&bytes, Some(key));
        if found.is_none() {
            // a failure to delete it shows when it is written anew
            let _ = std::fs::remove_file(&path);
        }
        found
    }

    /// Stores: on disk, or else in memory.
    pub fn put(&self, key: Key, compiled: &Compiled) {
        let wrong = match &self.folder {
            Some(folder) => match store(folder, key, compiled) {
                Ok(()) => return,
                Err(e) => Some(format!("{}: {e}", folder.display())),
            },
            None => None,
        };
        let mut state = self.lock();
        state.trouble = state.trouble.take().or(wrong);
        state.memory.insert(key, Compiled { took: None, ..compiled.clone() });
    }

    /// Forgets an entry that was of no use: the driver did not load it.
    pub fn remove(&self, key: Key) {
        self.lock().memory.remove(&key);
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_file(folder.join(key.file()));
        }
    }

    /// What is stored, or what `make` gives, which is then stored.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or<E>(&self, key: Key, make: impl FnOnce() -> Result<Compiled, E>) -> Result<Compiled, E> {
        match self.get(key) {
            Some(found) => Ok(found),
            None => {
                let made = make()?;
                self.put(key, &made);
                Ok(made)
            }
        }
    }

    /// Once: why kernels are not kept, for the user.
    pub fn take_warning(&self) -> Option<String> {
        let mut state = self.lock();
        let wanted = !state.is_told && !state.memory.is_empty();
        state.is_told |= wanted;
        let trouble = state.trouble.as_ref().filter(|_| wanted)?;
        Some(format!("compiled kernels are kept in memory only, and compiled again next time ({trouble})"))
    }

    /// The entries on disk, by name.
    ///
    /// # Errors
    /// Where the folder cannot be read; one that does not exist holds nothing.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let Some(folder) = &self.folder else { return Ok(vec![]) };
        let files = match std::fs::read_dir(folder) {
            Ok(files) => files,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(e),
        };
        let mut out = Vec::new();
        for file in files {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == ENDING) && !is_hidden(&path) {
                out.push(Entry::read(path));
            }
        }
        out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(out)
    }

    /// Deletes all entries, and what writers that died have left; nothing else. The number of files.
    ///
    /// # Errors
    /// Where a file cannot be deleted.
    pub fn clear(&self) -> io::Result<usize> {
        self.lock().memory.clear();
        let Some(folder) = &self.folder else { return Ok(0) };
        let files = match std::fs::read_dir(folder) {
            Ok(files) => files,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(e),
        };
        let mut deleted = 0;
        for file in files {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == ENDING) {
                std::fs::remove_file(&path)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // every change is one insertion: there is no half-made state
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry on disk.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// What it holds; none where it is damaged.
    pub kind: Option<Kind>,
}

impl Entry {
    fn read(path: PathBuf) -> Self {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let decoded = decode(&bytes, None);
        // the name is the key that the file says
        let name = bytes.get(FORMAT.len()..FORMAT.len() + HASH).and_then(|k| k.try_into().ok()).map(|k| Key(k).file());
        let is_its_own = name.is_some_and(|n| path.file_name().is_some_and(|f| f == n.as_str()));
        Entry { path, bytes: bytes.len() as u64, kind: decoded.filter(|_| is_its_own).map(|c| c.kind) }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        write!(f, "{name}  {:>9} bytes  {}", self.bytes, self.kind.map_or("damaged", Kind::name))
    }
}

/// A temporary file of a writer.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
}

fn store(folder: &Path, key: Key, compiled: &Compiled) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    write_atomically(&folder.join(key.file()), |file| file.write_all(&encode(key, compiled)))
}

/// Format, key, hash of all that follows; then kind, log, image, each after its length.
fn encode(key: Key, compiled: &Compiled) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [compiled.kind.name().as_bytes(), compiled.log.as_bytes(), &compiled.image] {
        body.extend_from_slice(&(field.len() as u64).to_le_bytes());
        body.extend_from_slice(field);
    }
    [FORMAT, &key.0, &<[u8; HASH]>::from(Sha256::digest(&body)), &body].concat()
}

/// The contents of an entry, if it is whole and has that key.
fn decode(bytes: &[u8], key: Option<Key>) -> Option<Compiled> {
    let rest = bytes.strip_prefix(FORMAT)?;
    let (found, rest) = rest.split_first_chunk::<HASH>()?;
    let (hash, mut body) = rest.split_first_chunk::<HASH>()?;
    if key.is_some_and(|k| k.0 != *found) || <[u8; HASH]>::from(Sha256::digest(body)) != *hash {
        return None;
    }
    let mut field = || -> Option<&[u8]> {
        let (length, rest) = body.split_first_chunk()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        body = rest;
        Some(field)
    };
    let kind = match field()? {
        b"cubin" => Kind::Cubin,
        b"ptx" => Kind::Ptx,
        _ => return None,
    };
    let log = String::from_utf8(field()?.into()).ok()?;
    Some(Compiled { kind, log, image: field()?.into(), took: None })
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
