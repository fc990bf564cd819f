use std::{
    fs::{self, File, TryLockError},
    io::{Read, Write},
    path::Path,
};

use crate::Error;

/// One owner a data directory. The kernel lets go when the process ends, however it ends, so a lock is never stale.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes the directory where it is missing.
    pub fn take(dir: &Path) -> Result<DirLock, Error> {
        fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
        let path = dir.join("lock");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: without it the answer is the same.
                let _ = file.read_to_string(&mut holder);
                return Err(Error::AlreadyRunning { dir: dir.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::Io { doing: "lock", path, source }),
        }
        file.set_len(0).map_err(Error::io("write", &path))?;
        writeln!(file, "{}", std::process::id()).map_err(Error::io("write", &path))?;
        Ok(DirLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_named_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::take(dir.path()).unwrap();
        match DirLock::take(dir.path()).unwrap_err() {
            Error::AlreadyRunning { pid, .. } => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other}"),
        }
        drop(first);
        DirLock::take(dir.path()).unwrap();
    }
}
