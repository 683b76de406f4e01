//! One run at a time in a folder.

use super::types::Error;
use crate::net::sweep;
use std::fs::{File, TryLockError};
use std::path::Path;

/// A folder that is ours. Given up by hand, since processes that were forked meanwhile have it open, too.
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Keeps others from a folder, where the system can; what killed runs have left there is removed.
pub fn lock(folder: &Path) -> Result<Option<Lock>, Error> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: folder.into() }),
        Err(TryLockError::Error(_)) => return Ok(None),
        Ok(()) => {}
    }
    sweep(folder);
    Ok(Some(Lock(file)))
}
