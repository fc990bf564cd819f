//! The log files of supervised programs: how far they were, and what was said since.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use crate::Error;

/// A longer log is begun anew at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// More than this of a log is not read back.
const READ_BYTES_MAX: u64 = 64 << 10;

/// Opens for appending.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    if size(path) > LOG_BYTES_MAX {
        fs::remove_file(path).map_err(Error::io("remove", path))?;
    }
    File::options().append(true).create(true).open(path).map_err(Error::io("open", path))
}

pub(crate) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// What was written after the first `offset` bytes; nothing when there is no such file.
pub(crate) fn since(path: &Path, offset: u64) -> String {
    let mut said = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(offset.max(size(path).saturating_sub(READ_BYTES_MAX)))).is_ok()
    {
        // An unreadable log leaves the message without its last words.
        let _ = file.take(READ_BYTES_MAX).read_to_end(&mut said);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// The last lines, joined into one for an error message; without Java's stack traces.
pub(crate) fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("at ") && !line.starts_with("... "))
        .collect();
    match lines.len() {
        0 => "it said nothing".to_owned(),
        count => lines[count.saturating_sub(4)..].join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_came_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let offset = size(&path);
        fs::write(&path, "before\nafter\n\nlast\n").unwrap();
        assert_eq!(last_words(&since(&path, offset)), "after | last");
        assert_eq!(last_words(&since(&dir.path().join("none"), 0)), "it said nothing");
    }
}
