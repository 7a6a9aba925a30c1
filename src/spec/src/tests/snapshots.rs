//! Whole specs, so that any change of one is seen.

use super::*;
use oci_spec::runtime::PosixRlimitType;

#[test]
fn plain() {
    insta::assert_json_snapshot!(World::new().json());
}

#[test]
fn privileged() {
    let mut world = World::new();
    world.sandbox.security.privileged = true;
    world.container.security.privileged = true;
    world.container.security.seccomp = Some(SecurityProfile::RuntimeDefault);
    world.host.apparmor = true;
    world.devices = vec![ResolvedDevice {
        container_path: "/dev/fuse".into(),
        kind: DeviceKind::Char,
        major: 10,
        minor: 229,
        mode: 0o020_666,
        uid: 0,
        gid: 0,
        permissions: "rwm".into(),
    }];
    insta::assert_json_snapshot!(world.json());
}

#[test]
fn everything() {
    let mut world = World::new();
    let container = &mut world.container;
    container.tty = true;
    container.command = vec!["sh".into()];
    container.args = vec!["-c".into(), "true".into()];
    container.working_dir = "/work".into();
    container.envs = vec![
        ("A".into(), b"request".to_vec()),
        ("B".into(), b"1".to_vec()),
        ("B".into(), b"2".to_vec()),
    ];
    let map = IdMapping { container_id: 0, host_id: 100_000, length: 65_536 };
    container.mounts = vec![
        volume("/data/deep/er", "/v/3"),
        Mount {
            propagation: Propagation::HostToContainer,
            readonly: true,
            ..volume("/data", "/v/1")
        },
        Mount { recursive_read_only: true, readonly: true, ..volume("/rro", "/v/2") },
        Mount { uid_mappings: vec![map], gid_mappings: vec![map], ..volume("/mapped", "/v/4") },
        volume("/etc/hosts", "/kubelet/hosts"),
        volume("/dev/shm", "/v/shm"),
    ];
    container.security.readonly_rootfs = true;
    container.security.seccomp = Some(SecurityProfile::RuntimeDefault);
    container.security.apparmor = Some(SecurityProfile::RuntimeDefault);
    container.security.capabilities = CapabilityRequest {
        add: vec!["CAP_NET_ADMIN".into()],
        drop: vec!["CAP_MKNOD".into(), "CAP_NET_RAW".into()],
        add_ambient: vec!["CAP_NET_BIND_SERVICE".into()],
    };
    container.resources = Resources {
        cpu_period: Some(100_000),
        cpu_quota: Some(50_000),
        cpu_shares: Some(512),
        memory_limit: Some(64 << 20),
        memory_swap_limit: None,
        oom_score_adj: Some(-998),
        cpuset_cpus: "0-1".into(),
        cpuset_mems: "0".into(),
        hugepage_limits: vec![("2MB".into(), 4 << 20)],
        unified: [("memory.high".to_owned(), "1000000".to_owned())].into(),
        ..Resources::default()
    };
    world.host.apparmor = true;
    world.host.min_oom_score_adj = Some(-500);
    world.seccomp =
        Some(serde_json::from_str(r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}"#).unwrap());
    world.selinux = Some(SelinuxLabels { process: "u:r:t:s0".into(), mount: "u:r:f:s0".into() });
    world.rlimits = vec![Rlimit { kind: PosixRlimitType::RlimitNofile, soft: 1024, hard: 4096 }];
    world.namespaces.pid = Namespace::Path("/proc/77/ns/pid".into());
    insta::assert_json_snapshot!(world.json());
}

#[test]
fn user_namespace() {
    let mut world = World::new();
    let map = IdMapping { container_id: 0, host_id: 100_000, length: 65_536 };
    world.sandbox.security.namespaces.user = Some(UserNamespace { uids: map, gids: map });
    world.namespaces.user = Namespace::New;
    world.namespaces.network = Namespace::Host;
    insta::assert_json_snapshot!(world.json());
}

#[test]
fn sandbox_init() {
    let world = World::new();
    let spec = sandbox_init_spec(&world.namespaces, "web-1", "/kubepods/pod1/init").unwrap();
    insta::assert_json_snapshot!(sorted(&spec));
}
