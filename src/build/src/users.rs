//! Names of users and groups, looked up in the root that a step sees.

/// Who a process is, or who a file belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory; empty where the user has none.
    pub home: String,
}

/// A name that the root does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} {name:?} in {file} of the root file system")]
pub struct UnknownName {
    kind: &'static str,
    name: String,
    file: &'static str,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Passwd { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

fn group(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((name, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

fn find_group(name: &str, groups: &str) -> Result<u32, UnknownName> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    group(groups)
        .find(|(other, ..)| *other == name)
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| UnknownName { kind: "group", name: name.to_owned(), file: "/etc/group" })
}

fn find_user<'a>(name: &str, users: &'a str) -> Result<(u32, Option<Passwd<'a>>), UnknownName> {
    if let Some(found) = passwd(users).find(|entry| entry.name == name) {
        return Ok((found.uid, Some(found)));
    }
    match name.parse() {
        Ok(uid) => Ok((uid, passwd(users).find(|entry| entry.uid == uid))),
        Err(_) => Err(UnknownName { kind: "user", name: name.to_owned(), file: "/etc/passwd" }),
    }
}

/// `--chown`: `user`, `user:group`, `:group`, `user:` with names or numbers. A number alone is both
/// the user and the group; a name brings its own group.
pub fn owner(text: &str, users: &str, groups: &str) -> Result<Identity, UnknownName> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut found = Identity::default();
    if !user.is_empty() {
        let (uid, entry) = find_user(user, users)?;
        found.uid = uid;
        let numeric = user.parse::<u32>().is_ok();
        found.gid = match entry {
            Some(entry) if !numeric => entry.gid,
            _ => uid,
        };
    }
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        found.gid = find_group(group, groups)?;
    }
    Ok(found)
}

/// `USER`: who a process is. A user without a group has the one of the password file and all that
/// name it; a number that the file does not know has group 0.
pub fn process(text: &str, users: &str, groups: &str) -> Result<Identity, UnknownName> {
    let (user, named) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let (uid, entry) = find_user(user, users)?;
    let mut found = Identity { uid, ..Identity::default() };
    if let Some(entry) = &entry {
        found.gid = entry.gid;
        entry.home.clone_into(&mut found.home);
    }
    match (named, entry) {
        (Some(name), _) => found.gid = find_group(name, groups)?,
        (None, Some(entry)) => {
            let member = |list: &str| list.split(',').any(|other| other == entry.name);
            found.groups =
                group(groups).filter(|(_, _, list)| member(list)).map(|(_, gid, _)| gid).collect();
        }
        (None, None) => {}
    }
    if !found.groups.contains(&found.gid) {
        found.groups.push(found.gid);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nbad\n";
    const GROUPS: &str = "root:x:0:\napp:x:1001:\nextra:x:50:other,app\n";

    #[test]
    fn owners() {
        for (text, uid, gid) in [
            ("app", 1000, 1001),
            ("1000", 1000, 1000),
            ("app:extra", 1000, 50),
            (":5", 0, 5),
            ("app:", 1000, 1001),
            ("7:8", 7, 8),
            ("root", 0, 0),
        ] {
            let found = owner(text, USERS, GROUPS).unwrap();
            assert_eq!((found.uid, found.gid), (uid, gid), "{text}");
        }
        for bad in ["nobody", "app:none", "-1"] {
            assert!(owner(bad, USERS, GROUPS).is_err(), "{bad}");
        }
        let error = owner("nobody", USERS, GROUPS).unwrap_err();
        assert!(error.to_string().contains("/etc/passwd"));
    }

    #[test]
    fn processes() {
        let app = process("app", USERS, GROUPS).unwrap();
        assert_eq!((app.uid, app.gid, app.home.as_str()), (1000, 1001, "/home/app"));
        assert_eq!(app.groups, [50, 1001]);
        assert_eq!(process("app:extra", USERS, GROUPS).unwrap().groups, [50]);
        assert_eq!(process("4242", USERS, GROUPS).unwrap().gid, 0);
        assert_eq!(process("", USERS, GROUPS).unwrap().uid, 0);
        assert!(process("ghost", USERS, GROUPS).is_err());
    }
}
