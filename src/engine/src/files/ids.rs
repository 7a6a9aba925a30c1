//! Users of a container as the host numbers them, where it has a user namespace.

use std::io;

/// Both maps of a user namespace; empty ones map every number to itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    users: Vec<Range>,
    groups: Vec<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    length: u32,
}

/// What the kernel shows for a number that the map does not have.
const NOBODY: u32 = 65534;

impl Ids {
    /// The maps of the process `pid`.
    pub(crate) fn of_process(pid: u32) -> io::Result<Self> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        Ok(Self { users: parse(&read("uid_map")?), groups: parse(&read("gid_map")?) })
    }

    /// From the host's numbers to the container's.
    pub(crate) fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let map = |ranges: &[Range], id: u32| {
            let found = ranges.iter().find_map(|range| {
                let at = id.checked_sub(range.outside).filter(|at| *at < range.length)?;
                range.inside.checked_add(at)
            });
            if ranges.is_empty() { id } else { found.unwrap_or(NOBODY) }
        };
        (map(&self.users, uid), map(&self.groups, gid))
    }

    /// From the container's numbers to the host's; `None`: the container has no such.
    pub(crate) fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let map = |ranges: &[Range], id: u32| {
            let found = ranges.iter().find_map(|range| {
                let at = id.checked_sub(range.inside).filter(|at| *at < range.length)?;
                range.outside.checked_add(at)
            });
            if ranges.is_empty() { Some(id) } else { found }
        };
        Some((map(&self.users, uid)?, map(&self.groups, gid)?))
    }
}

/// Lines of three numbers; the host's own map is none.
fn parse(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        Some(Range {
            inside: numbers.next()?.ok()?,
            outside: numbers.next()?.ok()?,
            length: numbers.next()?.ok()?,
        })
    };
    let ranges: Vec<Range> = text.lines().filter_map(range).collect();
    match ranges.as_slice() {
        [Range { inside: 0, outside: 0, length: u32::MAX }] => Vec::new(),
        _ => ranges,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let users = parse("         0     100000      65536\n     70000       5        1\n");
        let ids = Ids { users, groups: parse("0 0 4294967295\n") };
        assert_eq!(ids.inside(100_033, 7), (33, 7));
        assert_eq!(ids.inside(5, 7), (70_000, 7));
        assert_eq!(ids.inside(0, 0), (NOBODY, 0));
        assert_eq!(ids.outside(33, 7), Some((100_033, 7)));
        assert_eq!(ids.outside(65_536, 0), None);
        let same = Ids::of_process(std::process::id()).unwrap();
        assert_eq!(same.outside(0, 0), Some((0, 0)));
    }
}
