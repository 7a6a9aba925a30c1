//! Who a container's process is: the request's user and groups against the image's.
//!
//! Numbers are read strictly and in range; a number that does not fit is an error and never a name
//! (CVE-2024-40635). The primary group is always among the supplemental ones (CVE-2022-36109).

use crate::request::{ContainerSecurity, GroupsPolicy, RunAsUser};
use crate::{ResolvedUser, SpecError};
use std::collections::BTreeSet;

/// One line of the image's `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

/// One line of the image's `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// Users and groups of an image, in file order; entries out of range are already dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UserTable {
    pub users: Vec<User>,
    pub groups: Vec<Group>,
}

impl UserTable {
    fn by_uid(&self, uid: u32) -> Option<&User> {
        self.users.iter().find(|user| user.uid == uid)
    }

    fn by_name(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    fn group_by_name(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }
}

/// Part of a `USER` text: a number, or a name.
enum Part<'a> {
    Number(u32),
    Name(&'a str),
}

/// Resolves `run_as_user`, `run_as_group` and supplemental groups of a request, else the image's
/// `USER` (`image_user`; empty: root), against the image's tables.
pub fn resolve_user(
    security: &ContainerSecurity,
    image_user: &str,
    table: &UserTable,
) -> Result<ResolvedUser, SpecError> {
    let (user, group) = match &security.run_as_user {
        Some(RunAsUser::Id(uid)) => (Part::Number(*uid), None),
        Some(RunAsUser::Name(name)) => (part(name, name)?, None),
        None => split(image_user)?,
    };
    let (uid, entry) = match user {
        Part::Number(uid) => (uid, table.by_uid(uid)),
        Part::Name(name) => {
            let entry =
                table.by_name(name).ok_or_else(|| SpecError::UnknownUser { user: shown(name) })?;
            (entry.uid, Some(entry))
        }
    };
    let named = match group {
        Some(Part::Number(gid)) => Some(gid),
        Some(Part::Name(name)) => Some(
            table
                .group_by_name(name)
                .ok_or_else(|| SpecError::UnknownGroup { group: shown(name) })?
                .gid,
        ),
        None => None,
    };
    let gid = security.run_as_group.or(named).or(entry.map(|entry| entry.gid)).unwrap_or(0);
    Ok(ResolvedUser {
        uid,
        gid,
        additional_gids: groups(security, gid, entry, table),
        home: entry
            .map(|entry| entry.home.clone())
            .filter(|home| sane_home(home))
            .unwrap_or_default(),
    })
}

/// Numbers of groups given by name or number.
pub fn resolve_groups(names: &[String], table: &UserTable) -> Result<Vec<u32>, SpecError> {
    let number = |text: &String| match part(text, text)? {
        Part::Number(gid) => Ok(gid),
        Part::Name(name) => table
            .group_by_name(name)
            .map(|group| group.gid)
            .ok_or_else(|| SpecError::UnknownGroup { group: shown(name) }),
    };
    names.iter().map(number).collect()
}

fn groups(
    security: &ContainerSecurity,
    gid: u32,
    entry: Option<&User>,
    table: &UserTable,
) -> Vec<u32> {
    let mut gids: BTreeSet<u32> = security.supplemental_groups.iter().copied().collect();
    gids.insert(gid);
    if let (GroupsPolicy::Merge, Some(entry)) = (security.groups_policy, entry) {
        let member = |group: &&Group| group.members.contains(&entry.name);
        gids.extend(table.groups.iter().filter(member).map(|group| group.gid));
    }
    gids.into_iter().collect()
}

fn sane_home(home: &str) -> bool {
    home.starts_with('/') && !home.bytes().any(|byte| byte < 0x20)
}

/// `user`, `user:group`, or nothing.
fn split(text: &str) -> Result<(Part<'_>, Option<Part<'_>>), SpecError> {
    match text.split_once(':') {
        None if text.is_empty() => Ok((Part::Number(0), None)),
        None => Ok((part(text, text)?, None)),
        Some((user, group)) => Ok((part(user, text)?, Some(part(group, text)?))),
    }
}

fn part<'a>(text: &'a str, whole: &str) -> Result<Part<'a>, SpecError> {
    let bad = |why| SpecError::BadUser { user: shown(whole), why };
    let bytes = text.as_bytes();
    match bytes.first() {
        None => Err(bad("the user and, behind ':', the group must not be empty")),
        Some(_) if bytes.iter().all(u8::is_ascii_digit) => match text.parse::<u32>() {
            Ok(number) if number < u32::MAX => Ok(Part::Number(number)),
            _ => Err(bad("a numeric id must be at most 4294967294")),
        },
        Some(first) if first.is_ascii_alphabetic() || *first == b'_' => {
            if bytes.len() <= 256
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.@$\\".contains(b))
            {
                Ok(Part::Name(text))
            } else {
                Err(bad(
                    "a name has letters, digits, '_', '-', '.', '@', '$' and '\\', at most 256 of them",
                ))
            }
        }
        Some(_) => {
            Err(bad("it must be a decimal number or a name that starts with a letter or '_'"))
        }
    }
}

/// Cut to a printable length.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
