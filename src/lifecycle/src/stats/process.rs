//! Counts over a container's processes, which only `/proc` has.

use orlop_sys::cgroup::Meter;
use std::path::Path;

/// Descriptors that are looked at for one container: a container decides how many there are.
const BUDGET: usize = 16_384;

/// Counts over the processes of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// Processes.
    pub count: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Sockets among them; of more than 16,384 descriptors only so many are looked at.
    pub sockets: u64,
    /// How many files its first process may open; `None`: it has ended.
    pub open_files_limit: Option<u64>,
}

/// Counts now.
pub(super) fn processes(meter: &Meter, init: Option<u32>) -> Processes {
    let pids = meter.procs().unwrap_or_default();
    let mut found = Processes {
        count: pids.len() as u64,
        open_files_limit: init.and_then(open_files_limit),
        ..Processes::default()
    };
    let mut budget = BUDGET;
    for pid in pids {
        let dir = format!("/proc/{pid}/fd");
        let (descriptors, sockets) = descriptors(Path::new(&dir), &mut budget);
        found.descriptors += descriptors;
        found.sockets += sockets;
    }
    found
}

/// Since Linux 6.2 the size of the directory is the number of descriptors in it.
fn descriptors(dir: &Path, budget: &mut usize) -> (u64, u64) {
    let told = std::fs::metadata(dir).map_or(0, |found| found.len());
    let (mut seen, mut sockets) = (0, 0);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if *budget == 0 {
            break;
        }
        *budget -= 1;
        seen += 1;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        sockets += u64::from(target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
    }
    (seen.max(told), sockets)
}

fn open_files_limit(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_ascii_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_descriptors() {
        let _sockets = std::os::unix::net::UnixStream::pair().unwrap();
        let mut budget = BUDGET;
        let (count, sockets) = descriptors(Path::new("/proc/self/fd"), &mut budget);
        assert!(count >= 5 && sockets >= 2, "{count} {sockets}");
        let mut none = 0;
        assert_eq!(descriptors(Path::new("/proc/self/fd"), &mut none).1, 0, "the budget holds");
        assert_eq!(descriptors(Path::new("/proc/0/fd"), &mut budget), (0, 0));
        assert!(open_files_limit(std::process::id()).unwrap() > 0);
        assert_eq!(open_files_limit(0), None);
    }
}
