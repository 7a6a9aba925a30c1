//! Containers.

use super::*;
use crate::validate::container;
use orlop_spec::request::{ContainerConfig, RunAsUser, SecurityProfile};
use std::path::Path;

#[test]
fn container_basics() {
    let env = |key: &str, value: &[u8]| {
        let env = v1::KeyValue { key: key.into(), value: value.to_vec() };
        ctr(move |raw| {
            raw.envs = vec![v1::KeyValue { key: "A".into(), value: vec![] }, env.clone()]
        })
    };
    let log = |path: &str| {
        let path = path.to_owned();
        ctr(move |raw| raw.log_path.clone_from(&path))
    };
    refused(
        &good_container(),
        |raw| container(Some(raw), ABLE),
        vec![
            ("metadata", ctr(|raw| raw.metadata = None)),
            ("metadata.name", ctr(|raw| raw.metadata.as_mut().unwrap().name.clear())),
            ("image", ctr(|raw| raw.image = None)),
            ("image.image", ctr(|raw| raw.image.as_mut().unwrap().image.clear())),
            ("command[1]", ctr(|raw| raw.command = vec!["sh".into(), "a\0b".into()])),
            ("args[0]", ctr(|raw| raw.args = vec!["\0".into()])),
            ("working_dir", ctr(|raw| raw.working_dir = "tmp".into())),
            ("working_dir", ctr(|raw| raw.working_dir = "/a\n".into())),
            ("envs[1].key", env("", b"x")),
            ("envs[1].key", env("A=B", b"x")),
            ("envs[1].key", env("A\0", b"x")),
            ("envs[1].value", env("A", b"x\0y")),
            ("envs[1].value", env("A", b"\xff")),
            ("log_path", log("/etc/passwd")),
            ("log_path", log("../../etc/passwd")),
            ("log_path", log("a/../b")),
            ("log_path", log("a\0b")),
            ("log_path", log(".")),
            ("log_path", log(&"a".repeat(5000))),
            (
                "CDI_devices[0].name",
                ctr(|raw| raw.cdi_devices = vec![v1::CdiDevice { name: String::new() }]),
            ),
            ("stop_signal", ctr(|raw| raw.stop_signal = 66)),
            ("stop_signal", ctr(|raw| raw.stop_signal = -1)),
        ],
    );
}

fn volume(container_path: &str, host_path: &str) -> v1::Mount {
    v1::Mount {
        container_path: container_path.into(),
        host_path: host_path.into(),
        ..Default::default()
    }
}

#[test]
fn container_mounts_and_devices() {
    let mount =
        |mount: v1::Mount| ctr(move |raw| raw.mounts = vec![volume("/a", "/a"), mount.clone()]);
    let with = |change: fn(&mut v1::Mount)| {
        let mut raw = volume("/b", "/b");
        change(&mut raw);
        mount(raw)
    };
    let device = |container_path: &str, host_path: &str, permissions: &str| {
        let device = v1::Device {
            container_path: container_path.into(),
            host_path: host_path.into(),
            permissions: permissions.into(),
        };
        ctr(move |raw| raw.devices = vec![device.clone()])
    };
    let map =
        |container_id, length| v1::IdMapping { container_id, host_id: 1000 + container_id, length };
    let image = || Some(v1::ImageSpec { image: "a".into(), ..Default::default() });
    let with_sub_path = |path: &str| {
        let image_sub_path = path.to_owned();
        mount(v1::Mount { image: image(), readonly: true, image_sub_path, ..volume("/b", "") })
    };
    let with_image = |host_path: &str, readonly| {
        mount(v1::Mount { image: image(), readonly, ..volume("/b", host_path) })
    };
    let mapped = move |uids: Vec<v1::IdMapping>, gids: Vec<v1::IdMapping>| {
        mount(v1::Mount { uid_mappings: uids, gid_mappings: gids, ..volume("/b", "/b") })
    };
    refused(
        &good_container(),
        |raw| container(Some(raw), ABLE),
        vec![
            (
                "mounts",
                ctr(|raw| {
                    raw.mounts = (0..10_000).map(|i| volume(&format!("/{i}"), "/a")).collect()
                }),
            ),
            ("mounts[1].container_path", mount(volume("", "/b"))),
            ("mounts[1].container_path", mount(volume("b", "/b"))),
            ("mounts[1].container_path", mount(volume("/", "/b"))),
            ("mounts[1].container_path", mount(volume("/./", "/b"))),
            ("mounts[1].container_path", mount(volume("/proc", "/b"))),
            ("mounts[1].container_path", mount(volume("//proc/", "/b"))),
            ("mounts[1].container_path", mount(volume("/proc/sys", "/b"))),
            ("mounts[1].container_path", mount(volume("/b/../proc", "/b"))),
            ("mounts[1].container_path", mount(volume("/a/", "/b"))),
            ("mounts[1].container_path", mount(volume("/b\n", "/b"))),
            ("mounts[1].host_path", mount(volume("/b", ""))),
            ("mounts[1].host_path", mount(volume("/b", "b"))),
            ("mounts[1].host_path", mount(volume("/b", "/b/../c"))),
            ("mounts[1].propagation", with(|raw| raw.propagation = 3)),
            ("mounts[1].recursive_read_only", with(|raw| raw.recursive_read_only = true)),
            (
                "mounts[1].recursive_read_only",
                with(|raw| {
                    (raw.recursive_read_only, raw.readonly, raw.propagation) = (true, true, 1)
                }),
            ),
            ("mounts[1].host_path", with_image("/b", true)),
            ("mounts[1].readonly", with_image("", false)),
            ("mounts[1].image_sub_path", with_sub_path("../x")),
            ("mounts[1].image_sub_path", with_sub_path("/x")),
            ("mounts[1].image_sub_path", with_sub_path("a/../../x")),
            ("mounts[1].uidMappings[0].length", mapped(vec![map(0, 0)], vec![map(0, 1)])),
            ("mounts[1].gidMappings[1]", mapped(vec![map(0, 1)], vec![map(0, 5), map(4, 5)])),
            ("mounts[1].uidMappings", mapped(vec![map(0, 1)], vec![])),
            ("devices[0].host_path", device("/dev/x", "", "rwm")),
            ("devices[0].host_path", device("/dev/x", "dev/x", "rwm")),
            ("devices[0].container_path", device("x", "/dev/x", "rwm")),
            ("devices[0].permissions", device("", "/dev/x", "rwx")),
            ("devices[0].permissions", device("", "/dev/x", "rr")),
        ],
    );
    let mut raw = good_container();
    raw.mounts = vec![volume("/proc/cpuinfo", "/lxcfs/cpuinfo"), volume("/data//x/.", "/b")];
    let made = container(Some(&raw), ABLE).unwrap();
    assert_eq!(made.mounts[1].container_path, Path::new("/data/x"));
}

#[test]
fn container_limits() {
    type Raw = v1::ContainerConfig;
    const AT: &str = "linux.resources";
    let set = |change: fn(&mut v1::LinuxContainerResources)| ctr(move |raw| change(limits(raw)));
    let pages = |sizes: &[&str]| {
        let limits_of: Vec<_> = sizes
            .iter()
            .map(|size| v1::HugepageLimit { page_size: (*size).to_owned(), limit: 0 })
            .collect();
        ctr(move |raw| limits(raw).hugepage_limits.clone_from(&limits_of))
    };
    let unified = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        ctr(move |raw| drop(limits(raw).unified.insert(key.clone(), value.clone())))
    };
    let cases: Vec<(&str, Spoil<Raw>)> = vec![
        ("cpu_shares", set(|raw| raw.cpu_shares = -1)),
        ("cpu_shares", set(|raw| raw.cpu_shares = 262_145)),
        ("cpu_period", set(|raw| raw.cpu_period = 999)),
        ("cpu_period", set(|raw| raw.cpu_period = 1_000_001)),
        ("cpu_quota", set(|raw| raw.cpu_quota = -2)),
        ("cpu_quota", set(|raw| raw.cpu_quota = 999)),
        ("memory_limit_in_bytes", set(|raw| raw.memory_limit_in_bytes = 1)),
        ("memory_limit_in_bytes", set(|raw| raw.memory_limit_in_bytes = -2)),
        ("memory_swap_limit_in_bytes", set(|raw| raw.memory_swap_limit_in_bytes = 1 << 30)),
        (
            "memory_swap_limit_in_bytes",
            set(|raw| {
                (raw.memory_limit_in_bytes, raw.memory_swap_limit_in_bytes) = (1 << 30, 1 << 20)
            }),
        ),
        ("oom_score_adj", set(|raw| raw.oom_score_adj = 1001)),
        ("oom_score_adj", set(|raw| raw.oom_score_adj = -1001)),
        ("cpuset_cpus", set(|raw| raw.cpuset_cpus = "a".into())),
        ("cpuset_cpus", set(|raw| raw.cpuset_cpus = "3-1".into())),
        ("cpuset_cpus", set(|raw| raw.cpuset_cpus = "0,,1".into())),
        ("cpuset_cpus", set(|raw| raw.cpuset_cpus = "0\n".into())),
        ("cpuset_cpus", set(|raw| raw.cpuset_cpus = "99999".into())),
        ("cpuset_mems", set(|raw| raw.cpuset_mems = "-1".into())),
        ("hugepage_limits[0].page_size", pages(&["3MB"])),
        ("hugepage_limits[0].page_size", pages(&["2Mi"])),
        ("hugepage_limits[0].page_size", pages(&["../2MB"])),
        ("hugepage_limits[1].page_size", pages(&["2MB", "2MB"])),
        ("unified[", unified("../memory.max", "1")),
        ("unified[", unified("memory/max", "1")),
        ("unified[", unified("memory", "1")),
        ("unified[", unified("cgroup.procs", "1")),
        ("unified[", unified("memory.high", "1\n2")),
        ("unified[", unified("memory.high", "")),
    ];
    for (field, spoil) in cases {
        let at = format!("{AT}.{field}");
        refused(&good_container(), |raw| container(Some(raw), ABLE), vec![(&at, spoil)]);
    }
    let mut raw = good_container();
    *limits(&mut raw) = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 2,
        memory_limit_in_bytes: 1 << 20,
        memory_swap_limit_in_bytes: 1 << 20,
        oom_score_adj: -998,
        cpuset_cpus: "0-3,7".into(),
        hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 1 }],
        unified: [("memory.high".to_owned(), "max".to_owned())].into(),
        ..Default::default()
    };
    let made = container(Some(&raw), ABLE).unwrap().resources;
    assert_eq!(
        (made.cpu_quota, made.memory_swap_limit, made.oom_score_adj),
        (Some(-1), Some(1 << 20), Some(-998))
    );
}

#[test]
fn container_security() {
    type Raw = v1::ContainerConfig;
    const AT: &str = "linux.security_context";
    let seccomp = |profile: Option<v1::SecurityProfile>| {
        ctr(move |raw| security(raw).seccomp.clone_from(&profile))
    };
    let old = |text: &'static str| ctr(move |raw| security(raw).seccomp_profile_path = text.into());
    let add = |name: &'static str| {
        ctr(move |raw| {
            let capabilities = security(raw).capabilities.insert(v1::Capability::default());
            capabilities.add_capabilities = vec!["NET_ADMIN".into(), name.into()];
        })
    };
    let cases: Vec<(&str, Spoil<Raw>)> = vec![
        ("seccomp.localhost_ref", seccomp(profile(ProfileType::Localhost, ""))),
        ("seccomp.localhost_ref", seccomp(profile(ProfileType::Localhost, "profile.json"))),
        ("seccomp.localhost_ref", seccomp(profile(ProfileType::Localhost, "/a/../b.json"))),
        (
            "seccomp.profile_type",
            seccomp(Some(v1::SecurityProfile { profile_type: 3, localhost_ref: String::new() })),
        ),
        ("seccomp_profile_path", old("localhost/")),
        ("seccomp_profile_path", old("localhost/rel.json")),
        ("seccomp_profile_path", old("other")),
        (
            "apparmor.localhost_ref",
            ctr(|raw| security(raw).apparmor = profile(ProfileType::Localhost, "")),
        ),
        (
            "apparmor.localhost_ref",
            ctr(|raw| security(raw).apparmor = profile(ProfileType::Localhost, "a\nb")),
        ),
        ("apparmor_profile", ctr(|raw| security(raw).apparmor_profile = "local/x".into())),
        ("capabilities.add_capabilities[1]", add("CAP_FOO")),
        ("capabilities.add_capabilities[1]", add("")),
        ("capabilities.add_capabilities[1]", add("CAP_")),
        ("run_as_user", ctr(|raw| security(raw).run_as_user = value(4_294_967_295))),
        ("run_as_user", ctr(|raw| security(raw).run_as_user = value(4_294_967_296))),
        ("run_as_user", ctr(|raw| security(raw).run_as_user = value(-1))),
        ("run_as_group", ctr(|raw| security(raw).run_as_group = value(0))),
        (
            "run_as_username",
            ctr(|raw| {
                security(raw).run_as_user = value(1);
                security(raw).run_as_username = "root".into();
            }),
        ),
        ("run_as_username", ctr(|raw| security(raw).run_as_username = "a\nb".into())),
        ("supplemental_groups[0]", ctr(|raw| security(raw).supplemental_groups = vec![-5])),
        ("masked_paths[0]", ctr(|raw| security(raw).masked_paths = vec!["proc".into()])),
        (
            "readonly_paths[0]",
            ctr(|raw| security(raw).readonly_paths = vec!["/proc/../etc".into()]),
        ),
        (
            "namespace_options.target_id",
            ctr(|raw| {
                security(raw).namespace_options =
                    Some(v1::NamespaceOption { pid: 3, ..Default::default() });
            }),
        ),
        (
            "selinux_options.level",
            ctr(|raw| {
                security(raw).selinux_options =
                    Some(v1::SeLinuxOption { level: "s0\n".into(), ..Default::default() });
            }),
        ),
    ];
    for (field, spoil) in cases {
        let at = format!("{AT}.{field}");
        refused(&good_container(), |raw| container(Some(raw), ABLE), vec![(&at, spoil)]);
    }
}

fn made(change: impl Fn(&mut v1::LinuxContainerSecurityContext)) -> ContainerConfig {
    let mut raw = good_container();
    change(security(&mut raw));
    container(Some(&raw), ABLE).unwrap()
}

#[test]
fn container_security_that_passes() {
    for (text, expected) in [
        ("", None),
        ("runtime/default", Some(SecurityProfile::RuntimeDefault)),
        ("docker/default", Some(SecurityProfile::RuntimeDefault)),
        ("unconfined", Some(SecurityProfile::Unconfined)),
        ("localhost//p/a.json", Some(SecurityProfile::Localhost("/p/a.json".into()))),
    ] {
        assert_eq!(
            made(|raw| raw.seccomp_profile_path = text.into()).security.seccomp,
            expected,
            "{text}"
        );
    }
    let newer = made(|raw| {
        raw.seccomp = profile(ProfileType::RuntimeDefault, "");
        raw.seccomp_profile_path = "unconfined".into();
    });
    assert_eq!(newer.security.seccomp, Some(SecurityProfile::RuntimeDefault));
    for reference in ["mine", "localhost/mine"] {
        let named = made(|raw| raw.apparmor = profile(ProfileType::Localhost, reference));
        assert_eq!(named.security.apparmor, Some(SecurityProfile::Localhost("mine".into())));
    }
    let names = made(|raw| {
        raw.capabilities = Some(v1::Capability {
            add_capabilities: vec!["net_admin".into(), "CAP_SYS_TIME".into(), "all".into()],
            drop_capabilities: vec!["ALL".into()],
            add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
        });
    });
    assert_eq!(names.security.capabilities.add, ["CAP_NET_ADMIN", "CAP_SYS_TIME", "ALL"]);
    let user = made(|raw| {
        raw.run_as_username = "www".into();
        raw.run_as_group = value(4_294_967_294);
    });
    assert_eq!(user.security.run_as_user, Some(RunAsUser::Name("www".into())));
    assert_eq!(user.security.run_as_group, Some(u32::MAX - 1));
}

#[test]
fn paths_are_hidden_where_nothing_is_said() {
    assert!(made(|_| {}).security.masked_paths.is_empty(), "a context without paths hides none");
    let mut raw = good_container();
    raw.linux = None;
    let security = container(Some(&raw), ABLE).unwrap().security;
    assert!(security.masked_paths.iter().any(|path| path == "/proc/kcore"));
    assert!(security.readonly_paths.iter().any(|path| path == "/proc/sys"));
}

#[test]
fn rro_needs_the_kernel() {
    let mut raw = good_container();
    raw.mounts =
        vec![v1::Mount { readonly: true, recursive_read_only: true, ..volume("/b", "/b") }];
    assert!(container(Some(&raw), ABLE).unwrap().mounts[0].recursive_read_only);
    let unable = Abilities { recursive_read_only: false, ..ABLE };
    let error = container(Some(&raw), unable).unwrap_err();
    assert!(error.to_string().contains("RROUnsupported"), "{error}");
}

/// Every signal that CRI numbers has the kernel's number behind it.
#[test]
fn stop_signals() {
    for (raw, number) in [
        (0, None),
        (1, Some(6)),
        (13, Some(9)),
        (23, Some(15)),
        (35, Some(34)),
        (51, Some(50)),
        (65, Some(64)),
    ] {
        let config = v1::ContainerConfig { stop_signal: raw, ..good_container() };
        let made = container(Some(&config), ABLE).unwrap();
        assert_eq!(made.stop_signal.map(orlop_model::Signal::number), number, "{raw}");
    }
    for raw in 1..=65 {
        let config = v1::ContainerConfig { stop_signal: raw, ..good_container() };
        container(Some(&config), ABLE).unwrap();
    }
}
