//! Bad inputs, each with the field that its refusal must name; and that good ones pass.

use super::*;
use crate::v1;
use crate::v1::security_profile::ProfileType;
use orlop_spec::request::{
    ContainerConfig, NamespaceMode, RunAsUser, SandboxConfig, SecurityProfile,
};
use std::path::Path;

const ABLE: Abilities =
    Abilities { user_namespaces: true, recursive_read_only: true, systemd: false };

fn good_sandbox() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u-1".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: "web".into(),
        log_directory: "/var/log/pods/web".into(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/pod1".into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption::default()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn good_container() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: "sha256:abc".into(), ..Default::default() }),
        log_path: "app/0.log".into(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources::default()),
            security_context: Some(v1::LinuxContainerSecurityContext::default()),
        }),
        ..Default::default()
    }
}

fn check_sandbox(config: &v1::PodSandboxConfig, able: Abilities) -> Result<SandboxConfig> {
    sandbox(SandboxRequest { config: Some(config), runtime_handler: "", able })
}

type Spoil<T> = Box<dyn Fn(&mut T)>;

/// Each change must be refused with a message that starts with the field's name.
fn refused<T: Clone, R: std::fmt::Debug>(
    good: &T,
    check: impl Fn(&T) -> Result<R>,
    cases: Vec<(&str, Spoil<T>)>,
) {
    check(good).expect("the unchanged request passes");
    for (field, spoil) in cases {
        let mut raw = good.clone();
        spoil(&mut raw);
        match check(&raw) {
            Ok(made) => panic!("{field}: accepted as {made:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with(field), "{field}: {text}");
                assert!(text.contains(": "), "{field}: no remedy in {text:?}");
                assert!(!text.contains('\n') && text.len() < 600, "{field}: {text}");
            }
        }
    }
}

fn spoil<T>(change: impl Fn(&mut T) + 'static) -> Spoil<T> {
    Box::new(change)
}

fn linux(raw: &mut v1::PodSandboxConfig) -> &mut v1::LinuxPodSandboxConfig {
    raw.linux.as_mut().unwrap()
}

fn pod_security(raw: &mut v1::PodSandboxConfig) -> &mut v1::LinuxSandboxSecurityContext {
    linux(raw).security_context.as_mut().unwrap()
}

fn pod_namespaces(raw: &mut v1::PodSandboxConfig) -> &mut v1::NamespaceOption {
    pod_security(raw).namespace_options.as_mut().unwrap()
}

fn security(raw: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    raw.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

fn limits(raw: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    raw.linux.as_mut().unwrap().resources.as_mut().unwrap()
}

fn value(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn port(protocol: i32, container_port: i32, host_port: i32, host_ip: &str) -> v1::PortMapping {
    v1::PortMapping { protocol, container_port, host_port, host_ip: host_ip.into() }
}

fn profile(kind: ProfileType, localhost_ref: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: localhost_ref.into() })
}

#[test]
fn sandbox_identity_and_files() {
    type Raw = v1::PodSandboxConfig;
    let text = |at: &'static str, set: fn(&mut Raw, String), value: &str| {
        let value = value.to_owned();
        (at, spoil(move |raw: &mut Raw| set(raw, value.clone())))
    };
    let host: fn(&mut Raw, String) = |raw, value| raw.hostname = value;
    let log: fn(&mut Raw, String) = |raw, value| raw.log_directory = value;
    let parent: fn(&mut Raw, String) = |raw, value| linux(raw).cgroup_parent = value;
    refused(
        &good_sandbox(),
        |raw| check_sandbox(raw, ABLE),
        vec![
            ("metadata", spoil(|raw| raw.metadata = None)),
            ("metadata.name", spoil(|raw| raw.metadata.as_mut().unwrap().name.clear())),
            ("metadata.name", spoil(|raw| raw.metadata.as_mut().unwrap().name = "a\nb".into())),
            ("metadata.name", spoil(|raw| raw.metadata.as_mut().unwrap().name = "a".repeat(254))),
            ("metadata.uid", spoil(|raw| raw.metadata.as_mut().unwrap().uid.clear())),
            ("metadata.namespace", spoil(|raw| raw.metadata.as_mut().unwrap().namespace.clear())),
            text("hostname", host, &"a".repeat(65)),
            text("hostname", host, "a\nb"),
            text("hostname", host, "a b"),
            text("hostname", host, "a\0"),
            text("hostname", host, "-a"),
            text("log_directory", log, "logs"),
            text("log_directory", log, "/var/log/../../etc"),
            text("log_directory", log, "/a\0"),
            text("log_directory", log, &format!("/{}", "a".repeat(5000))),
            text("linux.cgroup_parent", parent, "../x"),
            text("linux.cgroup_parent", parent, "/a/../x"),
            text("linux.cgroup_parent", parent, "kubepods.slice"),
            text("linux.cgroup_parent", parent, "/a\n"),
        ],
    );
}

#[test]
fn sandbox_network() {
    let dns = |change: fn(&mut v1::DnsConfig)| {
        spoil(move |raw: &mut v1::PodSandboxConfig| {
            change(raw.dns_config.insert(v1::DnsConfig::default()))
        })
    };
    let ports = |ports: Vec<v1::PortMapping>| {
        spoil(move |raw: &mut v1::PodSandboxConfig| raw.port_mappings.clone_from(&ports))
    };
    refused(
        &good_sandbox(),
        |raw| check_sandbox(raw, ABLE),
        vec![
            ("dns_config.servers", dns(|dns| dns.servers = vec!["10.0.0.1".into(); 200])),
            ("dns_config.servers[0]", dns(|dns| dns.servers = vec!["ns.example".into()])),
            (
                "dns_config.servers[1]",
                dns(|dns| dns.servers = vec!["10.0.0.1".into(), String::new()]),
            ),
            (
                "dns_config.searches[0]",
                dns(|dns| dns.searches = vec!["a\nnameserver 6.6.6.6".into()]),
            ),
            ("dns_config.searches[0]", dns(|dns| dns.searches = vec!["a\r".into()])),
            ("dns_config.searches[0]", dns(|dns| dns.searches = vec!["a b".into()])),
            ("dns_config.searches[0]", dns(|dns| dns.searches = vec!["a".repeat(256)])),
            ("dns_config.searches", dns(|dns| dns.searches = vec!["a".repeat(200); 11])),
            ("dns_config.options[0]", dns(|dns| dns.options = vec!["ndots:5\n".into()])),
            ("port_mappings[0].protocol", ports(vec![port(3, 80, 80, "")])),
            ("port_mappings[0].protocol", ports(vec![port(-1, 80, 80, "")])),
            ("port_mappings[0].container_port", ports(vec![port(0, 0, 80, "")])),
            ("port_mappings[0].container_port", ports(vec![port(0, 65536, 80, "")])),
            ("port_mappings[0].container_port", ports(vec![port(0, -1, 0, "")])),
            ("port_mappings[0].host_port", ports(vec![port(0, 80, 65536, "")])),
            ("port_mappings[0].host_ip", ports(vec![port(0, 80, 80, "localhost")])),
            (
                "port_mappings[1].host_port",
                ports(vec![port(0, 80, 80, ""), port(0, 81, 80, "0.0.0.0")]),
            ),
        ],
    );
}

#[test]
fn sandbox_sysctls() {
    let good = good_sandbox();
    let set = |name: &str, value: &str| {
        let mut raw = good.clone();
        linux(&mut raw).sysctls.insert(name.into(), value.into());
        raw
    };
    for (name, value) in [
        ("kernel.core_pattern", "|/x"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x"),
        ("kernel.shm_rmid_forced=1+kernel.core_pattern", "x"),
        ("kernel.shm_rmid_forced ", "1"),
        ("kernel.shm_rmid_forced\n", "1"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=x"),
        ("kernel.shm_rmid_forced", "1\0"),
        ("net.ipv4/ip_forward", "1"),
        ("net.ipv4..ip_forward", "1"),
        ("net/../kernel/core_pattern", "1"),
        ("net...kernel", "1"),
        ("net", "1"),
        ("", "1"),
        ("vm.swappiness", "1"),
        ("fs.file-max", "1"),
        ("kernel.hostname", "x"),
        ("kernel.sem2", "1"),
    ] {
        let error = check_sandbox(&set(name, value), ABLE).expect_err(name).to_string();
        assert!(error.starts_with("linux.sysctls["), "{error}");
    }
    for (name, value) in [
        ("net.ipv4.ip_local_port_range", "1024\t65000"),
        ("net/ipv4/ip_forward", "1"),
        ("kernel.sem", "250 32000 100 128"),
        ("fs.mqueue.msg_max", "20"),
        ("kernel.domainname", "example.org"),
        ("net.ipv4.conf.eth0-1.rp_filter", "-1"),
    ] {
        let made = check_sandbox(&set(name, value), ABLE).expect(name);
        assert_eq!(made.sysctls[&name.replace('/', ".")], value);
    }
    for (name, spoil) in [
        (
            "net.ipv4.ip_forward",
            spoil(|raw: &mut v1::PodSandboxConfig| pod_namespaces(raw).network = 2),
        ),
        ("kernel.domainname", spoil(|raw| pod_namespaces(raw).network = 2)),
        ("kernel.msgmax", spoil(|raw| pod_namespaces(raw).ipc = 2)),
    ] {
        let mut raw = set(name, "1");
        spoil(&mut raw);
        let error = check_sandbox(&raw, ABLE).expect_err(name).to_string();
        assert!(error.contains("host's"), "{error}");
    }
}

fn user_namespace(
    mode: i32,
    uids: &[(u32, u32, u32)],
    gids: &[(u32, u32, u32)],
) -> Option<v1::UserNamespace> {
    let map = |(container_id, host_id, length): &(u32, u32, u32)| v1::IdMapping {
        host_id: *host_id,
        container_id: *container_id,
        length: *length,
    };
    Some(v1::UserNamespace {
        mode,
        uids: uids.iter().map(map).collect(),
        gids: gids.iter().map(map).collect(),
    })
}

#[test]
fn sandbox_namespaces_and_users() {
    type Raw = v1::PodSandboxConfig;
    const NAMESPACES: &str = "linux.security_context.namespace_options";
    let field = |name: &str| format!("{NAMESPACES}.{name}");
    let userns = |raw: Option<v1::UserNamespace>| {
        spoil(move |sandbox: &mut Raw| pod_namespaces(sandbox).userns_options.clone_from(&raw))
    };
    let one = [(0, 100_000, 65_536)];
    let names = [field("network"), field("pid"), field("ipc"), field("userns_options")];
    let [network, pid, ipc, user] = names.each_ref().map(String::as_str);
    refused(
        &good_sandbox(),
        |raw| check_sandbox(raw, ABLE),
        vec![
            (network, spoil(|raw| pod_namespaces(raw).network = 1)),
            (network, spoil(|raw| pod_namespaces(raw).network = 3)),
            (network, spoil(|raw| pod_namespaces(raw).network = 7)),
            (pid, spoil(|raw| pod_namespaces(raw).pid = 3)),
            (pid, spoil(|raw| pod_namespaces(raw).pid = -1)),
            (ipc, spoil(|raw| pod_namespaces(raw).ipc = 1)),
            (user, userns(user_namespace(1, &one, &one))),
            (user, userns(user_namespace(3, &one, &one))),
            (user, userns(user_namespace(9, &one, &one))),
            (user, userns(user_namespace(2, &one, &one))),
            (user, userns(user_namespace(0, &[], &one))),
            (user, userns(user_namespace(0, &one, &[]))),
            (user, userns(user_namespace(0, &[(0, 1, 1), (5, 5, 1)], &one))),
            (user, userns(user_namespace(0, &[(1, 100_000, 10)], &one))),
            (user, userns(user_namespace(0, &[(0, 100_000, 0)], &one))),
            (user, userns(user_namespace(0, &[(0, u32::MAX, 2)], &one))),
            (
                "linux.security_context.run_as_user",
                spoil(|raw| pod_security(raw).run_as_user = value(-1)),
            ),
            (
                "linux.security_context.run_as_user",
                spoil(|raw| pod_security(raw).run_as_user = value(4_294_967_295)),
            ),
            (
                "linux.security_context.run_as_group",
                spoil(|raw| pod_security(raw).run_as_group = value(1)),
            ),
            (
                "linux.security_context.supplemental_groups[1]",
                spoil(|raw| pod_security(raw).supplemental_groups = vec![1, 1 << 40]),
            ),
            (
                "linux.security_context.supplemental_groups_policy",
                spoil(|raw| pod_security(raw).supplemental_groups_policy = 2),
            ),
        ],
    );
    let mut raw = good_sandbox();
    pod_namespaces(&mut raw).userns_options = user_namespace(0, &one, &one);
    assert!(check_sandbox(&raw, ABLE).unwrap().security.namespaces.user.is_some());
    let unable = Abilities { user_namespaces: false, ..ABLE };
    assert!(matches!(check_sandbox(&raw, unable), Err(Invalid::Unsupported { .. })));
    pod_namespaces(&mut raw).userns_options = user_namespace(2, &[], &[]);
    assert!(check_sandbox(&raw, unable).unwrap().security.namespaces.user.is_none());
}

#[test]
fn sandbox_details() {
    let mut raw = good_sandbox();
    raw.port_mappings =
        vec![port(0, 80, 0, ""), port(1, 53, 5353, "127.0.0.1"), port(0, 80, 8080, "0.0.0.0")];
    let made = check_sandbox(&raw, ABLE).unwrap();
    assert_eq!(made.port_mappings.len(), 2);
    assert_eq!(made.port_mappings[1].host_ip, None);
    pod_namespaces(&mut raw).network = 2;
    raw.hostname.clear();
    let made = check_sandbox(&raw, ABLE).unwrap();
    assert_eq!(made.security.namespaces.network, NamespaceMode::Node);
    assert!(made.port_mappings.is_empty(), "ports of the host's network are not mapped");
    raw.linux = None;
    assert_eq!(check_sandbox(&raw, ABLE).unwrap().security.namespaces.pid, NamespaceMode::Pod);
    assert!(matches!(
        sandbox(SandboxRequest { config: None, runtime_handler: "", able: ABLE }),
        Err(Invalid::Missing { .. })
    ));
}

#[test]
fn systemd_parents_are_slices() {
    let able = Abilities { systemd: true, ..ABLE };
    let with = |parent: &str| {
        let mut raw = good_sandbox();
        linux(&mut raw).cgroup_parent = parent.into();
        check_sandbox(&raw, able)
    };
    for good in ["", "kubepods.slice", "/kubepods.slice/kubepods-pod1.slice"] {
        assert_eq!(with(good).unwrap().cgroup_parent, good);
    }
    for bad in ["/kubepods", "a.slice/../b.slice", "a.slice/b", "a.slice\n"] {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn container_basics() {
    type Raw = v1::ContainerConfig;
    let env = |key: &str, value: &[u8]| {
        let env = v1::KeyValue { key: key.into(), value: value.to_vec() };
        spoil(move |raw: &mut Raw| {
            raw.envs = vec![v1::KeyValue { key: "A".into(), value: vec![] }, env.clone()]
        })
    };
    let log = |path: &str| {
        let path = path.to_owned();
        spoil(move |raw: &mut Raw| raw.log_path.clone_from(&path))
    };
    refused(
        &good_container(),
        |raw| container(Some(raw), ABLE),
        vec![
            ("metadata", spoil(|raw| raw.metadata = None)),
            ("metadata.name", spoil(|raw| raw.metadata.as_mut().unwrap().name.clear())),
            ("image", spoil(|raw| raw.image = None)),
            ("image.image", spoil(|raw| raw.image.as_mut().unwrap().image.clear())),
            ("command[1]", spoil(|raw| raw.command = vec!["sh".into(), "a\0b".into()])),
            ("args[0]", spoil(|raw| raw.args = vec!["\0".into()])),
            ("working_dir", spoil(|raw| raw.working_dir = "tmp".into())),
            ("working_dir", spoil(|raw| raw.working_dir = "/a\n".into())),
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
                spoil(|raw| raw.cdi_devices = vec![v1::CdiDevice { name: "v.com/gpu=0".into() }]),
            ),
            (
                "annotations[\"cdi.k8s.io/x\"]",
                spoil(|raw| {
                    drop(raw.annotations.insert("cdi.k8s.io/x".into(), "v.com/gpu=0".into()))
                }),
            ),
            ("stop_signal", spoil(|raw| raw.stop_signal = 66)),
            ("stop_signal", spoil(|raw| raw.stop_signal = -1)),
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
    type Raw = v1::ContainerConfig;
    let mount = |mount: v1::Mount| {
        spoil(move |raw: &mut Raw| raw.mounts = vec![volume("/a", "/a"), mount.clone()])
    };
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
        spoil(move |raw: &mut Raw| raw.devices = vec![device.clone()])
    };
    let map =
        |container_id, length| v1::IdMapping { container_id, host_id: 1000 + container_id, length };
    let image = || Some(v1::ImageSpec { image: "a".into(), ..Default::default() });
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
                spoil(|raw| {
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
            ("mounts[1].image", with_image("", true)),
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
    let set = |change: fn(&mut v1::LinuxContainerResources)| {
        spoil(move |raw: &mut Raw| change(limits(raw)))
    };
    let pages = |sizes: &[&str]| {
        let limits_of: Vec<_> = sizes
            .iter()
            .map(|size| v1::HugepageLimit { page_size: (*size).to_owned(), limit: 0 })
            .collect();
        spoil(move |raw: &mut Raw| limits(raw).hugepage_limits.clone_from(&limits_of))
    };
    let unified = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        spoil(move |raw: &mut Raw| drop(limits(raw).unified.insert(key.clone(), value.clone())))
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
        spoil(move |raw: &mut Raw| security(raw).seccomp.clone_from(&profile))
    };
    let old = |text: &'static str| {
        spoil(move |raw: &mut Raw| security(raw).seccomp_profile_path = text.into())
    };
    let add = |name: &'static str| {
        spoil(move |raw: &mut Raw| {
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
            spoil(|raw| security(raw).apparmor = profile(ProfileType::Localhost, "")),
        ),
        (
            "apparmor.localhost_ref",
            spoil(|raw| security(raw).apparmor = profile(ProfileType::Localhost, "a\nb")),
        ),
        ("apparmor_profile", spoil(|raw| security(raw).apparmor_profile = "local/x".into())),
        ("capabilities.add_capabilities[1]", add("CAP_FOO")),
        ("capabilities.add_capabilities[1]", add("")),
        ("capabilities.add_capabilities[1]", add("CAP_")),
        ("run_as_user", spoil(|raw| security(raw).run_as_user = value(4_294_967_295))),
        ("run_as_user", spoil(|raw| security(raw).run_as_user = value(4_294_967_296))),
        ("run_as_user", spoil(|raw| security(raw).run_as_user = value(-1))),
        ("run_as_group", spoil(|raw| security(raw).run_as_group = value(0))),
        (
            "run_as_username",
            spoil(|raw| {
                security(raw).run_as_user = value(1);
                security(raw).run_as_username = "root".into();
            }),
        ),
        ("run_as_username", spoil(|raw| security(raw).run_as_username = "a\nb".into())),
        ("supplemental_groups[0]", spoil(|raw| security(raw).supplemental_groups = vec![-5])),
        ("masked_paths[0]", spoil(|raw| security(raw).masked_paths = vec!["proc".into()])),
        (
            "readonly_paths[0]",
            spoil(|raw| security(raw).readonly_paths = vec!["/proc/../etc".into()]),
        ),
        (
            "namespace_options.target_id",
            spoil(|raw| {
                security(raw).namespace_options =
                    Some(v1::NamespaceOption { pid: 3, ..Default::default() });
            }),
        ),
        (
            "selinux_options.level",
            spoil(|raw| {
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
