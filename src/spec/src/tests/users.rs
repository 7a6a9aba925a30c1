//! Who the process is.

use super::*;

fn table() -> UserTable {
    let user =
        |name: &str, uid, gid, home: &str| User { name: name.into(), uid, gid, home: home.into() };
    let group = |name: &str, gid, members: &[&str]| Group {
        name: name.into(),
        gid,
        members: members.iter().map(ToString::to_string).collect(),
    };
    UserTable {
        users: vec![
            user("root", 0, 0, "/root"),
            user("www", 33, 33, "/var/www"),
            user("www", 99, 99, "/second"),
            user("odd", 50, 51, "relative"),
            user("line", 60, 61, "/x\nroot2::0:0::/:/bin/sh"),
        ],
        groups: vec![
            group("root", 0, &[]),
            group("www", 33, &[]),
            group("extra", 500, &["www", "odd"]),
            group("more", 600, &["www"]),
        ],
    }
}

fn resolve(
    image_user: &str,
    change: impl Fn(&mut ContainerSecurity),
) -> Result<ResolvedUser, SpecError> {
    let mut security = container_security();
    change(&mut security);
    resolve_user(&security, image_user, &table())
}

#[test]
fn images_user() {
    for (text, uid, gid, groups, home) in [
        ("", 0, 0, vec![0], "/root"),
        ("0", 0, 0, vec![0], "/root"),
        ("www", 33, 33, vec![33, 500, 600], "/var/www"),
        ("33", 33, 33, vec![33, 500, 600], "/var/www"),
        ("www:extra", 33, 500, vec![500, 600], "/var/www"),
        ("www:7", 33, 7, vec![7, 500, 600], "/var/www"),
        ("1234", 1234, 0, vec![0], ""),
        ("1234:5678", 1234, 5678, vec![5678], ""),
        ("4294967294:4294967294", u32::MAX - 1, u32::MAX - 1, vec![u32::MAX - 1], ""),
        ("2147483648:0", 1 << 31, 0, vec![0], ""),
        ("odd", 50, 51, vec![51, 500], ""),
        ("line", 60, 61, vec![61], ""),
    ] {
        let found = resolve(text, |_| {}).expect(text);
        let expected = ResolvedUser { uid, gid, additional_gids: groups, home: home.into() };
        assert_eq!(found, expected, "{text}");
    }
}

/// CVE-2026-30892, CVE-2024-40635: no text may become another user than the one it names.
#[test]
fn hostile_texts() {
    for text in [
        "1e3",
        "0x0",
        "+0",
        " 0",
        "0 ",
        "1:",
        ":1",
        ":",
        "1:2:3",
        "4294967295",
        "4294967296",
        "-1",
        "１",
        "99999999999999999999",
        "0:4294967295",
        "0:-1",
        "www:",
        "nobody\n",
        "www\0",
        "a:b c",
        "nosuch",
        "www:nosuch",
        "..",
        "/",
    ] {
        let found = resolve(text, |_| {});
        assert!(found.is_err(), "{text:?} became {found:?}");
    }
    let long = resolve(&"a".repeat(10_000), |_| {}).unwrap_err().to_string();
    assert!(long.len() < 400, "{long}");
}

#[test]
fn the_request_wins() {
    let by_id = |uid| {
        move |security: &mut ContainerSecurity| security.run_as_user = Some(RunAsUser::Id(uid))
    };
    assert_eq!(
        resolve("www:7", by_id(33)).unwrap().gid,
        33,
        "the image's group goes with the image's user"
    );
    assert_eq!(resolve("www", by_id(4000)).unwrap().gid, 0);
    let group = resolve("root", |security| {
        security.run_as_user = Some(RunAsUser::Id(33));
        security.run_as_group = Some(44);
        security.supplemental_groups = vec![9, 8, 9];
    });
    assert_eq!(group.unwrap().additional_gids, [8, 9, 44, 500, 600]);
    let name = |name: &str| {
        let name = name.to_owned();
        resolve("root", move |security| security.run_as_user = Some(RunAsUser::Name(name.clone())))
    };
    assert_eq!(name("www").unwrap().uid, 33);
    assert_eq!(name("1000").unwrap().uid, 1000);
    for bad in ["nosuch", "", "www:www", "4294967296", "1e3"] {
        assert!(name(bad).is_err(), "{bad}");
    }
}

#[test]
fn strict_leaves_out_the_images_groups() {
    let found = resolve("www", |security| {
        security.groups_policy = GroupsPolicy::Strict;
        security.supplemental_groups = vec![1234];
    });
    assert_eq!(found.unwrap().additional_gids, [33, 1234]);
}

#[test]
fn empty_tables() {
    let security = container_security();
    let none = UserTable::default();
    assert_eq!(resolve_user(&security, "", &none).unwrap().additional_gids, [0]);
    assert!(resolve_user(&security, "root", &none).is_err(), "a name is not guessed");
}
