//! Files that are either the old one or the new one, whole: written beside their place, then renamed into it.

use std::fs::{DirEntry, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;
use tempfile::{Builder, NamedTempFile};

/// How the names of files begin that are not whole yet.
const PREFIX: &str = ".jetc-";

/// An empty file beside `path`, to be written and then renamed with [`replace`]; it vanishes if it is dropped.
pub fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Some writers choose the format by the ending.
    let suffix = path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(&suffix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; this one becomes a result. The umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Puts a file that is written in its place.
pub fn replace(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Writes a file through `write`. If anything fails before the end, or the process dies, what was at `path` stays. Behind a link it is
/// where the link leads; what is no file, a device or a pipe, is written to as it is.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let whole = |file: &File| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        write(&mut out)?;
        out.flush()
    };
    // standard output may lead to a file that others write, too
    let is_system =
        cfg!(unix) && ["/proc", "/dev/fd", "/dev/stdout", "/dev/stderr"].iter().any(|folder| path.starts_with(folder));
    let place = path.canonicalize().unwrap_or_else(|_| match std::fs::read_link(path) {
        Ok(target) => path.parent().unwrap_or(Path::new("")).join(target),
        Err(_) => path.into(),
    });
    match place.metadata() {
        Ok(there) if there.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(there) if is_system || !there.is_file() => whole(&OpenOptions::new().append(true).open(path)?),
        _ => {
            let temporary = beside(&place)?;
            whole(temporary.as_file())?;
            replace(temporary, &place)
        }
    }
}

/// Removes what processes that were killed have left in a folder: files that [`beside`] names, which nobody has written to for some time.
pub fn sweep(folder: &Path) {
    const AGE: Duration = Duration::from_secs(600);
    let is_left = |entry: &DirEntry| {
        let name = entry.file_name();
        let middle = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next());
        let is_ours = middle.is_some_and(|m| m.len() == 6 && m.bytes().all(|b| b.is_ascii_alphanumeric()));
        let age = || entry.metadata().ok().filter(Metadata::is_file)?.modified().ok()?.elapsed().ok();
        is_ours && age().is_some_and(|age| age > AGE)
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(is_left) {
        let _ = std::fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        write_atomically(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half of the new")?;
            out.flush()?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomically(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_on_and_devices_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, |out| out.write_all(b"new")).unwrap();
        assert!(link.is_symlink() && std::fs::read(&file).unwrap() == b"new");
        let (ahead, target) = (folder.path().join("ahead"), folder.path().join("target"));
        std::os::unix::fs::symlink("target", &ahead).unwrap();
        write_atomically(&ahead, |out| out.write_all(b"new")).unwrap();
        assert!(ahead.is_symlink() && std::fs::read(&target).unwrap() == b"new");
        // a link to a device: the folder of the device is not ours to write in
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        write_atomically(&null, |out| out.write_all(b"gone")).unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(write_atomically(folder.path(), |_| Ok(())).is_err());
    }

    #[test]
    fn what_is_left_over_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let keep = || beside(&folder.path().join("a.csv")).unwrap().keep().unwrap();
        let ((old, left), (_, fresh)) = (keep(), keep());
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        old.set_modified(long_ago).unwrap();
        let own = folder.path().join(".jetc-notes.txt");
        File::create(&own).unwrap().set_modified(long_ago).unwrap();
        sweep(folder.path());
        assert!(!left.exists() && fresh.exists() && own.exists());
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_atomically(&folder.path().join("no/such/file"), |_| Ok(())).is_err());
    }
}
