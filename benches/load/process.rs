//! CPU time and memory of processes, out of `/proc` (proc(5)). Linux only: elsewhere a `--pid` is an error.

use std::collections::BTreeMap;
use std::fs;
use std::str::FromStr;

use serde::Serialize;

use crate::Failure;

/// Ticks of `/proc/PID/stat` in a second: USER_HZ is 100 on every Linux that Larder is built for.
const TICKS: f64 = 100.0;

/// The processes of one server.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    name: String,
    roots: Vec<u32>,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pids) = text.split_once('=').unwrap_or(("server", text));
        let parse = |pid: &str| pid.parse().map_err(|_| format!("{pid:?} is no process id"));
        Ok(Self { name: name.to_owned(), roots: pids.split(',').map(parse).collect::<Result<_, _>>()? })
    }
}

/// What a server has used so far.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reading {
    pub(crate) name: String,
    /// User and system time, seconds, a multiple of a hundredth.
    pub(crate) cpu_seconds: f64,
    /// Resident memory now, all processes added up, KiB.
    pub(crate) rss_kib: u64,
    /// The most each process ever had, added up, KiB.
    pub(crate) peak_rss_kib: u64,
}

#[derive(Debug)]
struct Stat {
    parent: u32,
    ticks: u64,
}

/// Reads every group, and this tool itself as the last.
pub(crate) fn readings(groups: &[Group]) -> Result<Vec<Reading>, Failure> {
    let own = Group { name: "load".to_owned(), roots: vec![std::process::id()] };
    if groups.is_empty() && stat(std::process::id()).is_none() {
        return Ok(Vec::new()); // no /proc, and nobody asked for it
    }
    let all = processes()?;
    groups.iter().chain([&own]).map(|group| read(group, &all)).collect()
}

fn read(group: &Group, all: &BTreeMap<u32, Stat>) -> Result<Reading, Failure> {
    let (mut ticks, mut rss_kib, mut peak_rss_kib) = (0, 0, 0);
    let mut family = group.roots.clone();
    while let Some(pid) = family.pop() {
        let stat = all.get(&pid).ok_or_else(|| format!("process {pid} ({}) is not there", group.name))?;
        ticks += stat.ticks;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        rss_kib += kib(&status, "VmRSS:");
        peak_rss_kib += kib(&status, "VmHWM:");
        family.extend(all.iter().filter(|(_, child)| child.parent == pid).map(|(child, _)| *child));
    }
    Ok(Reading { name: group.name.clone(), cpu_seconds: ticks as f64 / TICKS, rss_kib, peak_rss_kib })
}

/// What was used between two readings, with the memory of the later.
///
/// Time that runs backwards means that a process ended and took its share along: no figure then, rather than a wrong one.
pub(crate) fn used(before: &[Reading], after: &[Reading]) -> Result<Vec<Reading>, Failure> {
    let used = |(before, after): (&Reading, &Reading)| {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        if cpu_seconds < 0.0 {
            return Err(format!("a process of {} ended during the run", after.name).into());
        }
        Ok(Reading { cpu_seconds, ..after.clone() })
    };
    before.iter().zip(after).map(used).collect()
}

/// Every process of the machine: a server's workers are found by their parent.
fn processes() -> Result<BTreeMap<u32, Stat>, Failure> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(stat) = stat(pid)
        {
            all.insert(pid, stat);
        }
    }
    Ok(all)
}

/// `None` where the process has gone meanwhile.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; behind the last one come the third field and all others.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let mut ticks = fields.skip(9).map(|field| field.parse::<u64>().ok());
    Some(Stat { parent, ticks: ticks.next()?? + ticks.next()?? })
}

fn kib(status: &str, field: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
