//! Kafka's jars: fetched once from Maven Central, kept in the cache directory. And the Java to run them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Error,
    data_dir::cache_dir,
    watch::{self, Plan},
};

/// In the binary, so that it works away from its source.
const POM: &str = include_str!("../../../deploy/kafka/pom.xml");
const FETCH_WITHIN: Duration = Duration::from_secs(600);
const JAVA_MIN: u32 = 17;

/// The directory of the jars, filled at the first use.
pub(crate) async fn directory() -> Result<PathBuf, Error> {
    let cache = cache_dir()?;
    let kept = cache.join(format!("kafka-{}", version()));
    if kept.is_dir() {
        return Ok(kept);
    }
    let maven = on_path("mvn").ok_or(Error::MavenMissing)?;
    // Another name until it is whole: a fetch cut short is begun anew, and two at once do not meet.
    let unfinished = cache.join(format!("kafka-{}.new-{:08x}", version(), rand::random::<u32>()));
    let fetched = fetch(&maven, &cache, &unfinished).await;
    let placed = fetched.and_then(|()| match fs::rename(unfinished.join("jars"), &kept) {
        // Somebody else was faster.
        Err(_) if kept.is_dir() => Ok(()),
        moved => moved.map_err(Error::io("move into place", &kept)),
    });
    // Only the log of a failure is worth keeping.
    if placed.is_ok() {
        fs::remove_dir_all(&unfinished).map_err(Error::io("remove", &unfinished))?;
    }
    placed.map(|()| kept)
}

async fn fetch(maven: &Path, cache: &Path, into: &Path) -> Result<(), Error> {
    clear_unfinished(cache);
    fs::create_dir_all(into).map_err(Error::io("make", into))?;
    let pom = into.join("pom.xml");
    fs::write(&pom, POM).map_err(Error::io("write", &pom))?;
    tracing::info!("fetching Apache Kafka {} from Maven Central (44 MB, only this once)", version());
    let plan = Plan::new(maven, into, &into.join("log"))
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(&pom)
        .arg(format!("-DoutputDirectory={}", into.join("jars").display()))
        .arg("dependency:copy-dependencies");
    watch::run("fetching Kafka with Maven", &plan, FETCH_WITHIN).await
}

/// What fetches left that were cut short an hour ago or more; a younger one may still be at work.
fn clear_unfinished(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|time| time.elapsed().ok());
        if entry.file_name().to_string_lossy().contains(".new-") && age.is_some_and(|age| age.as_secs() > 3600) {
            // Rubbish that cannot be removed is only rubbish.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The pom's own version, the first in it.
fn version() -> &'static str {
    let after = POM.split_once("<version>").map_or("", |(_, after)| after);
    after.split_once("</version>").map_or("unknown", |(version, _)| version)
}

/// `$JAVA_HOME/bin/java`, else the one on PATH; 17 or newer.
pub(crate) fn java() -> Result<PathBuf, Error> {
    let at_home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")).filter(|java| java.is_file());
    let java = at_home.or_else(|| on_path("java")).ok_or(Error::JavaMissing)?;
    let said = Command::new(&java).arg("-version").stdin(Stdio::null()).output().map_err(Error::spawn("java"))?;
    match major_of(&String::from_utf8_lossy(&said.stderr)) {
        Some(found) if found < JAVA_MIN => Err(Error::JavaTooOld { java, found }),
        Some(_) => Ok(java),
        // macOS has a `java` that only says that there is none.
        None => Err(Error::JavaMissing),
    }
}

/// From `openjdk version "17.0.15" 2025-04-15`, also `java version "1.8.0_292"`.
fn major_of(said: &str) -> Option<u32> {
    let mut numbers = said.split_once("version \"")?.1.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert!(version().starts_with('4'), "{}", version());
        assert_eq!(major_of("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(major_of("java version \"1.8.0_292\""), Some(8));
        assert_eq!(major_of("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(major_of("No Java runtime present"), None);
    }
}
