//! Where data is kept when nobody says where.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{Error, process::is_root};

/// `$SETTLE_DATA`, else /var/lib/settle for root (Postgres then runs as another user, who cannot enter /root), else
/// `$XDG_DATA_HOME/settle`.
pub fn default_dir() -> Result<PathBuf, Error> {
    choose(env::var_os("SETTLE_DATA"), "/var/lib/settle", "XDG_DATA_HOME", ".local/share")
}

/// What was fetched once for all data directories: `$SETTLE_CACHE`, else /var/cache/settle for root, else `$XDG_CACHE_HOME/settle`.
pub fn cache_dir() -> Result<PathBuf, Error> {
    choose(env::var_os("SETTLE_CACHE"), "/var/cache/settle", "XDG_CACHE_HOME", ".cache")
}

fn choose(named: Option<OsString>, roots: &str, xdg: &str, under_home: &str) -> Result<PathBuf, Error> {
    from(named, is_root().then_some(Path::new(roots)), env::var_os(xdg), env::var_os("HOME"), under_home).ok_or(Error::NoHome)
}

/// An empty variable is an unset one, and XDG ignores relative paths.
fn from(
    named: Option<OsString>,
    roots: Option<&Path>,
    xdg: Option<OsString>,
    home: Option<OsString>,
    under_home: &str,
) -> Option<PathBuf> {
    let absolute = |found: Option<OsString>| found.map(PathBuf::from).filter(|path| path.is_absolute());
    named
        .filter(|named| !named.is_empty())
        .map(PathBuf::from)
        .or_else(|| roots.map(Path::to_owned))
        .or_else(|| absolute(xdg).map(|xdg| xdg.join("settle")))
        .or_else(|| absolute(home).map(|home| home.join(under_home).join("settle")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(named: &str, roots: Option<&str>, xdg: &str, home: &str) -> Option<String> {
        let found = from(Some(named.into()), roots.map(Path::new), Some(xdg.into()), Some(home.into()), ".local/share");
        found.map(|path| path.display().to_string())
    }

    #[test]
    fn the_first_that_is_set() {
        assert_eq!(is("here", Some("/var/lib/settle"), "/x", "/h").as_deref(), Some("here"));
        assert_eq!(is("", Some("/var/lib/settle"), "/x", "/h").as_deref(), Some("/var/lib/settle"));
        assert_eq!(is("", None, "/x", "/h").as_deref(), Some("/x/settle"));
        assert_eq!(is("", None, "relative", "/h").as_deref(), Some("/h/.local/share/settle"));
        assert_eq!(is("", None, "", ""), None);
    }
}
