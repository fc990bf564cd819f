//! CPU time (user + system) of processes, from /proc. It is counted in ticks of 10 ms, so measure over seconds.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
};

use crate::process;

/// Linux reports to programs in hundredths of a second, whatever the kernel's own clock.
const TICK_US: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    ended_children_ticks: u64,
}

/// Microseconds of one process, without its children.
pub fn process_us(pid: u32) -> io::Result<u64> {
    Ok(read(pid)?.own_ticks * TICK_US)
}

/// Microseconds of a process and everything it started that still lives or was waited for: for `settle up` that is the servers
/// under their watchers too.
pub fn tree_us(pid: u32) -> io::Result<u64> {
    let root = read(pid)?;
    let mut times: HashMap<u32, Times> = process::all().into_iter().filter_map(|pid| Some((pid, read(pid).ok()?))).collect();
    times.insert(pid, root);
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (child, of) in &times {
        children.entry(of.parent).or_default().push(*child);
    }
    let mut ticks = 0;
    let mut seen = HashSet::new();
    let mut open = vec![pid];
    while let Some(next) = open.pop() {
        // Read one after the other, the parents need not fit together when an id was used anew: no process counts twice.
        if !seen.insert(next) {
            continue;
        }
        ticks += times.get(&next).map_or(0, |of| of.own_ticks + of.ended_children_ticks);
        open.extend(children.get(&next).into_iter().flatten());
    }
    Ok(ticks * TICK_US)
}

/// [`tree_us`] of this process.
pub fn own_tree_us() -> io::Result<u64> {
    tree_us(std::process::id())
}

fn read(pid: u32) -> io::Result<Times> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {stat}")))
}

/// The name in brackets may hold anything; what follows the last bracket are `state ppid …`, the times at 11 to 14.
fn parse(stat: &str) -> Option<Times> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Times {
        parent: fields.get(1)?.parse().ok()?,
        own_ticks: ticks(11)? + ticks(12)?,
        ended_children_ticks: ticks(13)? + ticks(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_right_fields() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 99";
        assert_eq!(parse(stat), Some(Times { parent: 3, own_ticks: 33, ended_children_ticks: 77 }));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn counts_what_a_child_has_used() {
        let before = own_tree_us().unwrap();
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", script]).status().unwrap().success());
        assert!(own_tree_us().unwrap() > before);
        assert!(process_us(std::process::id()).unwrap() <= own_tree_us().unwrap());
    }
}
