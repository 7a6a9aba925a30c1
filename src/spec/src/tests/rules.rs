//! The rules, one table each.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn entrypoint_and_cmd() {
    type Words = &'static [&'static str];
    type Case = (Words, Words, Words, Words, Result<Words, ()>);
    let cases: [Case; 9] = [
        (&["e"], &["c"], &[], &[], Ok(&["e", "c"])),
        (&["e"], &["c"], &["x"], &[], Ok(&["x"])),
        (&["e"], &["c"], &["x"], &["y"], Ok(&["x", "y"])),
        (&["e"], &["c"], &[], &["y"], Ok(&["e", "y"])),
        (&[], &["c"], &[], &[], Ok(&["c"])),
        (&[], &["c"], &[], &["y"], Ok(&["y"])),
        (&[], &[], &["x"], &[], Ok(&["x"])),
        (&[], &[], &[], &[], Err(())),
        (&["a\0"], &[], &[], &[], Err(())),
    ];
    for (entrypoint, cmd, command, args, expected) in cases {
        let mut world = World::new();
        world.image = image(entrypoint, cmd, &[]);
        world.container.command = command.iter().map(ToString::to_string).collect();
        world.container.args = args.iter().map(ToString::to_string).collect();
        match (world.spec(), expected) {
            (Ok(spec), Ok(expected)) => {
                let found = spec.process().as_ref().unwrap().args().clone().unwrap();
                assert_eq!(found, expected, "{entrypoint:?} {cmd:?} {command:?} {args:?}");
            }
            (found, expected) => assert!(found.is_err() && expected.is_err(), "{found:?}"),
        }
    }
    let mut world = World::new();
    world.image = image(&[], &[], &[]);
    assert_eq!(world.spec().unwrap_err(), SpecError::NoCommand);
    assert!(container_spec(&Inputs { image: None, ..world.inputs() }).is_err());
}

#[test]
fn environment() {
    let env = |image_env: &[&str], request: &[(&str, &str)], tty: bool, home: &str| {
        let mut world = World::new();
        world.image = image(&["e"], &[], image_env);
        world.container.envs =
            request.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        world.container.tty = tty;
        home.clone_into(&mut world.user.home);
        world.spec().unwrap().process().as_ref().unwrap().env().clone().unwrap()
    };
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env(&[], &[], false, ""), [path, "HOSTNAME=web-1", "HOME=/"]);
    assert_eq!(
        env(&["PATH=/x", "A=1", "A=2"], &[("A", "3"), ("HOSTNAME", "h"), ("A", "4")], true, "/h"),
        ["PATH=/x", "HOSTNAME=h", "TERM=xterm", "A=4", "HOME=/h"]
    );
    assert_eq!(
        env(&["TERM=dumb", "HOME=/i"], &[], true, "/h"),
        [path, "HOSTNAME=web-1", "TERM=dumb", "HOME=/i"]
    );
    assert_eq!(
        env(&["=x", "NOEQUALS", "N=\0"], &[("E", "")], false, ""),
        [path, "HOSTNAME=web-1", "E=", "HOME=/"]
    );
    let mut world = World::new();
    world.container.envs = vec![("A".into(), vec![0xff])];
    assert_eq!(world.spec().unwrap_err(), SpecError::EnvNotUtf8 { key: "A".into() });
    world.container.envs = vec![("A".into(), vec![0])];
    assert!(matches!(world.spec().unwrap_err(), SpecError::Nul { .. }));
}

#[test]
fn working_directory() {
    for (image_dir, request, expected) in [
        ("", "", Some("/")),
        ("/i", "", Some("/i")),
        ("i", "", Some("/i")),
        ("/i", "/r", Some("/r")),
        ("", "r", None),
        ("", "/r\n", None),
        ("/i\0", "", None),
    ] {
        let mut world = World::new();
        world.image.set_working_dir(Some(image_dir.to_owned()));
        request.clone_into(&mut world.container.working_dir);
        let found =
            world.spec().map(|spec| spec.process().as_ref().unwrap().cwd().display().to_string());
        match expected {
            Some(expected) => assert_eq!(found.unwrap(), expected, "{image_dir:?} {request:?}"),
            None => assert!(
                matches!(found, Err(SpecError::BadWorkingDir { .. })),
                "{image_dir:?} {request:?}"
            ),
        }
    }
}

#[test]
fn capabilities() {
    type Names = &'static [&'static str];
    let cases: [(Names, Names, Names, usize, &str, bool); 7] = [
        (&[], &[], &[], 14, "CAP_CHOWN", true),
        (&["CAP_SYS_TIME"], &[], &[], 15, "CAP_SYS_TIME", true),
        (&[], &["ALL"], &[], 0, "CAP_CHOWN", false),
        (&["CAP_SYS_TIME"], &["ALL"], &[], 1, "CAP_SYS_TIME", true),
        (&["ALL"], &["CAP_SYS_TIME"], &[], 40, "CAP_SYS_TIME", false),
        (&["CAP_SYS_TIME"], &["CAP_SYS_TIME"], &[], 14, "CAP_SYS_TIME", false),
        (&["ALL"], &["ALL"], &[], 0, "CAP_CHOWN", false),
    ];
    for (add, drop, ambient, count, name, has) in cases {
        let list = |names: Names| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut world = World::new();
        world.container.security.capabilities =
            CapabilityRequest { add: list(add), drop: list(drop), add_ambient: list(ambient) };
        let sets = world.json()["process"]["capabilities"].clone();
        for set in ["bounding", "effective", "permitted"] {
            let names = strings(&sets[set]);
            assert_eq!(
                (names.len(), names.contains(&name)),
                (count, has),
                "{set}: {add:?} {drop:?}"
            );
        }
        assert!(strings(&sets["inheritable"]).is_empty() && strings(&sets["ambient"]).is_empty());
    }
}

#[test]
fn ambient_capabilities_are_in_every_set_and_only_they_are_inheritable() {
    let mut world = World::new();
    world.container.security.capabilities.add_ambient =
        vec!["CAP_SYS_TIME".into(), "CAP_SYS_BOOT".into()];
    world.container.security.capabilities.drop = vec!["CAP_SYS_BOOT".into()];
    let sets = world.json()["process"]["capabilities"].clone();
    assert_eq!(strings(&sets["ambient"]), ["CAP_SYS_TIME"]);
    assert_eq!(strings(&sets["inheritable"]), ["CAP_SYS_TIME"]);
    assert!(strings(&sets["permitted"]).contains(&"CAP_SYS_TIME"));
    assert!(!strings(&sets["bounding"]).contains(&"CAP_SYS_BOOT"));
}

#[test]
fn all_is_what_the_host_gives() {
    let mut world = World::new();
    world.host.capabilities = vec!["CAP_CHOWN".into(), "CAP_KILL".into()];
    world.container.security.capabilities.add = vec!["ALL".into()];
    assert_eq!(strings(&world.json()["process"]["capabilities"]["bounding"]).len(), 2);
    world.sandbox.security.privileged = true;
    world.container.security = ContainerSecurity { privileged: true, ..container_security() };
    assert_eq!(strings(&world.json()["process"]["capabilities"]["bounding"]).len(), 2);
}

#[test]
fn privileged_needs_its_sandbox() {
    let mut world = World::new();
    world.container.security.privileged = true;
    assert_eq!(world.spec().unwrap_err(), SpecError::PrivilegedSandbox);
}

#[test]
fn profiles() {
    let localhost = || Some(SecurityProfile::Localhost("/p.json".into()));
    let mut world = World::new();
    for asked in [Some(SecurityProfile::RuntimeDefault), localhost()] {
        world.container.security.seccomp = asked;
        assert!(
            matches!(world.spec().unwrap_err(), SpecError::SeccompMissing { .. }),
            "must fail closed"
        );
    }
    for asked in [None, Some(SecurityProfile::Unconfined)] {
        world.container.security.seccomp = asked;
        assert!(world.json()["linux"]["seccomp"].is_null());
    }
    for (enabled, asked, expected) in [
        (false, None, Ok(None)),
        (false, Some(SecurityProfile::RuntimeDefault), Ok(None)),
        (false, Some(SecurityProfile::Localhost("mine".into())), Err(())),
        (true, None, Ok(Some("orlop-default"))),
        (true, Some(SecurityProfile::RuntimeDefault), Ok(Some("orlop-default"))),
        (true, Some(SecurityProfile::Unconfined), Ok(None)),
        (true, Some(SecurityProfile::Localhost("mine".into())), Ok(Some("mine"))),
    ] {
        world.host.apparmor = enabled;
        world.container.security.apparmor = asked;
        let found =
            world.spec().map(|spec| spec.process().as_ref().unwrap().apparmor_profile().clone());
        assert_eq!(found.map_err(|_| ()), expected.map(|name| name.map(str::to_owned)));
    }
}

#[test]
fn mounts_of_the_request_win() {
    let at = |world: &World| {
        let json = world.json();
        let mounts = json["mounts"].as_array().unwrap().clone();
        mounts
            .iter()
            .map(|mount| {
                (
                    mount["destination"].as_str().unwrap().to_owned(),
                    mount["source"].as_str().unwrap().to_owned(),
                )
            })
            .collect::<Vec<_>>()
    };
    let find = |list: &[(String, String)], path: &str| {
        list.iter()
            .filter(|(at, _)| at == path)
            .map(|(_, source)| source.clone())
            .collect::<Vec<_>>()
    };
    let mut world = World::new();
    world.container.mounts =
        vec![volume("/etc/hosts", "/k"), volume("/sys/fs/cgroup", "/c"), volume("/dev", "/dev")];
    let list = at(&world);
    assert_eq!(find(&list, "/etc/hosts"), ["/k"]);
    assert_eq!(find(&list, "/sys/fs/cgroup"), ["/c"]);
    assert_eq!(find(&list, "/dev"), ["/dev"]);
    assert!(
        find(&list, "/dev/pts").is_empty(),
        "what lies beneath a volume would be hidden or spoil it"
    );
    assert_eq!(find(&list, "/dev/shm").len(), 1);
    assert_eq!(find(&list, "/sys"), ["sysfs"]);
    for (i, (path, _)) in list.iter().enumerate() {
        let child_before =
            list[..i].iter().any(|(earlier, _)| earlier.starts_with(&format!("{path}/")));
        assert!(!child_before, "{path} comes after something beneath it");
    }
}

#[test]
fn what_the_kernel_lacks_is_an_error() {
    let map = IdMapping { container_id: 0, host_id: 1, length: 1 };
    let mut world = World::new();
    world.host.recursive_read_only = false;
    world.host.idmapped_mounts = false;
    for mount in [
        Mount { recursive_read_only: true, readonly: true, ..volume("/a", "/a") },
        Mount { uid_mappings: vec![map], gid_mappings: vec![map], ..volume("/a", "/a") },
    ] {
        world.container.mounts = vec![mount];
        assert!(matches!(world.spec().unwrap_err(), SpecError::MountUnsupported { .. }));
    }
}

#[test]
fn propagation_of_the_root() {
    use Propagation::{Bidirectional, HostToContainer, Private};
    for (all, expected) in [
        (vec![], Value::Null),
        (vec![Private], Value::Null),
        (vec![Private, HostToContainer], "rslave".into()),
        (vec![Bidirectional, HostToContainer], "rshared".into()),
    ] {
        let mut world = World::new();
        let each = |(i, propagation)| Mount { propagation, ..volume(&format!("/{i}"), "/v") };
        world.container.mounts = all.into_iter().enumerate().map(each).collect();
        assert_eq!(world.json()["linux"]["rootfsPropagation"], expected);
    }
}

#[test]
fn swap_and_hugepages_need_their_controllers() {
    let mut world = World::new();
    world.container.resources.memory_limit = Some(1 << 20);
    world.container.resources.hugepage_limits = vec![("2MB".into(), 0)];
    let resources = |world: &World| world.json()["linux"]["resources"].clone();
    assert_eq!(resources(&world)["memory"]["swap"], 1 << 20);
    world.container.resources.memory_swap_limit = Some(-1);
    assert_eq!(resources(&world)["memory"]["swap"], -1);
    world.host.swap = false;
    world.host.hugetlb = false;
    assert!(resources(&world)["memory"]["swap"].is_null());
    assert!(resources(&world)["hugepageLimits"].is_null());
}

#[test]
fn devices_are_denied_first() {
    let json = World::new().json();
    let first = &json["linux"]["resources"]["devices"][0];
    assert_eq!((first["allow"].as_bool(), first["access"].as_str()), (Some(false), Some("rwm")));
}

#[test]
fn exec_keeps_everything_but_its_words() {
    let mut world = World::new();
    world.container.security.capabilities.drop = vec!["ALL".into()];
    let spec = world.spec().unwrap();
    let exec = process_for_exec(&spec, &["id".to_owned()], false).unwrap();
    let mut expected = spec.process().clone().unwrap();
    expected.set_args(Some(vec!["id".to_owned()]));
    assert_eq!(exec, expected);
    let tty = process_for_exec(&spec, &["id".to_owned()], true).unwrap();
    assert!(tty.env().as_ref().unwrap().contains(&"TERM=xterm".to_owned()));
    assert!(process_for_exec(&spec, &[], false).is_err());
    assert!(process_for_exec(&spec, &["a\0".to_owned()], false).is_err());
}

/// CVE-2021-21334: what one container's spec says must not reach another's.
#[test]
fn specs_share_nothing() {
    let world = World::new();
    let before = world.json();
    let mut other = world.clone();
    other.container.envs = vec![("SECRET".into(), b"s".to_vec())];
    let mut spec = other.spec().unwrap();
    if let Some(mounts) = spec.mounts_mut() {
        mounts.clear();
    }
    let mut process = spec.process().clone().unwrap();
    process.set_env(Some(vec!["SECRET=changed".into()]));
    spec.set_process(Some(process));
    assert_eq!(world.json(), before);
}

proptest! {
    /// Whatever volumes there are, nothing is mounted before what it lies in.
    #[test]
    fn parents_come_first(paths in prop::collection::btree_set("(/[a-c]){1,4}", 0..12)) {
        let mut world = World::new();
        world.container.mounts = paths.iter().map(|path| volume(path, "/v")).collect();
        let json = world.json();
        let order: Vec<String> = json["mounts"].as_array().unwrap().iter()
            .map(|mount| mount["destination"].as_str().unwrap().to_owned()).collect();
        for (i, path) in order.iter().enumerate() {
            let inside = format!("{path}/");
            prop_assert!(!order[..i].iter().any(|earlier| earlier.starts_with(&inside)));
        }
        prop_assert!(paths.iter().all(|path| order.contains(path)));
    }

    /// The last value of a variable wins, and each is there once.
    #[test]
    fn variables_are_unique(pairs in prop::collection::vec(("[A-C]", "[a-z]{0,3}"), 0..10)) {
        let mut world = World::new();
        world.container.envs = pairs.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect();
        let spec = world.spec().unwrap();
        let env = spec.process().as_ref().unwrap().env().clone().unwrap();
        for (key, value) in pairs.iter().map(|(key, _)| key).map(|key| {
            (key, &pairs.iter().rev().find(|(other, _)| other == key).unwrap().1)
        }) {
            let found: Vec<_> = env.iter().filter(|entry| entry.starts_with(&format!("{key}="))).collect();
            let expected = format!("{key}={value}");
            prop_assert_eq!(found, vec![&expected]);
        }
    }
}
