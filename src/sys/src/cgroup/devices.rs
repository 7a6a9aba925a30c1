//! Which devices a group may use: nothing, then what the spec allows, then the devices that every
//! container has.

use super::files::no_controller;
use super::{Cgroup, Layout, bpf};
use crate::error::{Context, Error, Result};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{Mode, OFlags};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

/// One rule; a later one wins over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    /// `None` is both block and character devices.
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    /// `ACCESS_*` bits.
    pub(super) access: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Character,
}

/// The kernel's bits for making, reading and writing.
pub(super) const MAKE: u32 = 1;
pub(super) const READ: u32 = 2;
pub(super) const WRITE: u32 = 4;
pub(super) const ALL: u32 = MAKE | READ | WRITE;

const fn character(major: u32, minor: Option<u32>, access: u32) -> Rule {
    Rule { allow: true, kind: Some(Kind::Character), major: Some(major), minor, access }
}

/// Making any node is harmless (opening is what counts); null, zero, full, random, urandom, tty,
/// console, ptmx and terminals are everywhere.
const DEFAULTS: [Rule; 11] = [
    Rule { allow: true, kind: Some(Kind::Character), major: None, minor: None, access: MAKE },
    Rule { allow: true, kind: Some(Kind::Block), major: None, minor: None, access: MAKE },
    character(1, Some(3), ALL),
    character(1, Some(5), ALL),
    character(1, Some(7), ALL),
    character(1, Some(8), ALL),
    character(1, Some(9), ALL),
    character(5, Some(0), ALL),
    character(5, Some(1), ALL),
    character(5, Some(2), ALL),
    character(136, None, ALL),
];

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            None => 'a',
            Some(Kind::Block) => 'b',
            Some(Kind::Character) => 'c',
        };
        let number =
            |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')] {
            if self.access & bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Applies the rules of the spec.
pub(super) fn apply(group: &Cgroup, listed: &[LinuxDeviceCgroup]) -> Result<()> {
    let rules = rules(listed)?;
    match (group.legacy("devices"), group.layout) {
        (Some(dir), _) => apply_v1(dir, &rules),
        (None, Layout::V2 | Layout::Hybrid) => match group.unified() {
            Some(dir) => bpf::attach(dir, &bpf::program(&rules)),
            None => Err(no_controller("devices")),
        },
        (None, Layout::V1) => Err(no_controller("devices")),
    }
}

/// All rules, in order, each effective one once.
pub(super) fn rules(listed: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = listed.iter().map(rule).collect::<Result<Vec<_>>>()?;
    // What comes before a rule for everything has no effect.
    if let Some(last) = rules.iter().rposition(|rule| everything(*rule)) {
        rules.drain(..last);
    }
    for default in DEFAULTS {
        if !rules.contains(&default)
            && !rules.first().is_some_and(|first| first.allow && everything(*first))
        {
            rules.push(default);
        }
    }
    Ok(rules)
}

fn everything(rule: Rule) -> bool {
    rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none() && rule.access == ALL
}

fn rule(listed: &LinuxDeviceCgroup) -> Result<Rule> {
    let bad = |what: &str| Error::new("device rule", what, libc::EINVAL);
    let kind = match listed.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Character),
        Some(LinuxDeviceType::P) => return Err(bad("p: a pipe is no device")),
    };
    // Negative numbers are the wildcard of older specs.
    let number = |number: Option<i64>| match number {
        Some(number) if number >= 0 => {
            u32::try_from(number).map(Some).map_err(|_| bad("number out of range"))
        }
        _ => Ok(None),
    };
    let mut access = 0;
    for letter in listed.access().as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => return Err(bad("access must be made of r, w and m")),
        };
    }
    let (major, minor) = (number(listed.major())?, number(listed.minor())?);
    // On v1 a rule for both kinds means everything, whatever else it says; so it must say so.
    if kind.is_none() && (major.is_some() || minor.is_some() || access != ALL && access != 0) {
        return Err(bad("type a goes with all numbers and rwm only: use b and c"));
    }
    let access = if access == 0 { ALL } else { access };
    Ok(Rule { allow: listed.allow(), kind, major, minor, access })
}

fn apply_v1(dir: &Path, rules: &[Rule]) -> Result<()> {
    let open = |file: &str| -> Result<OwnedFd> {
        let path = dir.join(file);
        rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .context("open", || path.display().to_string())
    };
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    let write = |fd: &OwnedFd, text: &str| {
        let name = || format!("{} ({text})", dir.join("devices").display());
        rustix::io::write(fd, text.as_bytes()).map(drop).context("write", name)
    };
    // The kernel refuses "a" where children exist; a rule that changes nothing is then skipped.
    if !rules.first().is_some_and(|first| everything(*first)) {
        write(&deny, "a")?;
    }
    for rule in rules {
        let fd = if rule.allow { &allow } else { &deny };
        let text = if everything(*rule) { "a".to_owned() } else { rule.to_string() };
        write(fd, &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn everything_is_denied_first_and_defaults_come_once() {
        let rules = rules(&listed(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
                {"allow":true,"type":"b","major":8,"minor":-1,"access":"r"}]"#,
        ))
        .unwrap();
        let text: Vec<String> = rules.iter().map(ToString::to_string).collect();
        assert_eq!(text.first().map(String::as_str), Some("a *:* rwm"));
        assert!(!rules.first().unwrap().allow);
        assert_eq!(text.iter().filter(|line| *line == "c 1:3 rwm").count(), 1);
        assert!(text.contains(&"b 8:* r".to_owned()));
        assert!(text.contains(&"c 136:* rwm".to_owned()));
    }

    #[test]
    fn a_privileged_container_needs_no_more_rules() {
        let rules =
            rules(&listed(r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#))
                .unwrap();
        assert_eq!(rules.len(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#"[{"allow":true,"type":"c","access":"x"}]"#,
            r#"[{"allow":true,"type":"a","major":1,"access":"rwm"}]"#,
            r#"[{"allow":true,"type":"c","major":99999999999,"access":"r"}]"#,
        ] {
            assert!(rules(&listed(json)).is_err(), "{json}");
        }
    }
}
