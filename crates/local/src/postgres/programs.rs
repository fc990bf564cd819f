//! Finding the programs of a Postgres server: Debian and Homebrew keep most of them off PATH.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Error;

/// The programs of one version, all in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    bin: PathBuf,
    pub(super) major: u32,
}

impl Programs {
    /// The first on PATH, else the newest; with data there already, the version that made them.
    pub(super) fn find(made_by: Option<u32>, data: &Path) -> Result<Programs, Error> {
        let mut found: Vec<Programs> = Vec::new();
        for bin in candidates() {
            if found.iter().all(|known| known.bin != bin)
                && let Some(programs) = Programs::at(bin)
            {
                if made_by.is_none_or(|major| major == programs.major) {
                    return Ok(programs);
                }
                found.push(programs);
            }
        }
        match (made_by, found.first()) {
            (Some(has), Some(other)) => Err(Error::PostgresVersion { dir: data.to_owned(), has, found: other.major }),
            _ => Err(Error::PostgresMissing),
        }
    }

    fn at(bin: PathBuf) -> Option<Programs> {
        if !["initdb", "postgres", "createdb"].iter().all(|name| bin.join(name).is_file()) {
            return None;
        }
        let said = Command::new(bin.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
        let major = major_of(&String::from_utf8_lossy(&said.stdout))?;
        Some(Programs { bin, major })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also `18beta1`.
fn major_of(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A link on PATH (/usr/local/bin/initdb) leads to the directory where the others are.
    let mut found: Vec<PathBuf> =
        env::split_paths(&path).filter_map(|dir| Some(dir.join("initdb").canonicalize().ok()?.parent()?.to_owned())).collect();
    found.extend(versions(Path::new("/usr/lib/postgresql"), ""));
    found.extend(versions(Path::new("/usr"), "pgsql-"));
    found.extend(versions(Path::new("/opt/homebrew/opt"), "postgresql"));
    found.extend(versions(Path::new("/usr/local/opt"), "postgresql"));
    found
}

/// The `bin` of each version's directory, newest first.
fn versions(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.trim_start_matches('@');
            // Homebrew's unversioned name is a link to one of the others.
            Some((version.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, bin)| bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    fn newest_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["postgresql@9", "postgresql@17", "postgresql@16", "postgresql", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let expected: Vec<_> = [17, 16, 9].iter().map(|n| dir.path().join(format!("postgresql@{n}/bin"))).collect();
        assert_eq!(versions(dir.path(), "postgresql"), expected);
    }
}
