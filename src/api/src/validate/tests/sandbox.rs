//! Sandboxes.

use super::*;
use crate::validate::sandbox;
use orlop_spec::request::NamespaceMode;

#[test]
fn sandbox_identity_and_files() {
    type Raw = v1::PodSandboxConfig;
    let text = |at: &'static str, set: fn(&mut Raw, String), value: &str| {
        let value = value.to_owned();
        (at, pod(move |raw| set(raw, value.clone())))
    };
    let host: fn(&mut Raw, String) = |raw, value| raw.hostname = value;
    let log: fn(&mut Raw, String) = |raw, value| raw.log_directory = value;
    let parent: fn(&mut Raw, String) = |raw, value| linux(raw).cgroup_parent = value;
    refused(
        &good_sandbox(),
        |raw| check_sandbox(raw, ABLE),
        vec![
            ("metadata", pod(|raw| raw.metadata = None)),
            ("metadata.name", pod(|raw| raw.metadata.as_mut().unwrap().name.clear())),
            ("metadata.name", pod(|raw| raw.metadata.as_mut().unwrap().name = "a\nb".into())),
            ("metadata.name", pod(|raw| raw.metadata.as_mut().unwrap().name = "a".repeat(254))),
            ("metadata.uid", pod(|raw| raw.metadata.as_mut().unwrap().uid.clear())),
            ("metadata.namespace", pod(|raw| raw.metadata.as_mut().unwrap().namespace.clear())),
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
        pod(move |raw| change(raw.dns_config.insert(v1::DnsConfig::default())))
    };
    let ports = |ports: Vec<v1::PortMapping>| pod(move |raw| raw.port_mappings.clone_from(&ports));
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
        ("net.ipv4.ip_forward", pod(|raw| pod_namespaces(raw).network = 2)),
        ("kernel.domainname", pod(|raw| pod_namespaces(raw).network = 2)),
        ("kernel.msgmax", pod(|raw| pod_namespaces(raw).ipc = 2)),
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
    const NAMESPACES: &str = "linux.security_context.namespace_options";
    let field = |name: &str| format!("{NAMESPACES}.{name}");
    let userns = |raw: Option<v1::UserNamespace>| {
        pod(move |sandbox| pod_namespaces(sandbox).userns_options.clone_from(&raw))
    };
    let one = [(0, 100_000, 65_536)];
    let names = [field("network"), field("pid"), field("ipc"), field("userns_options")];
    let [network, pid, ipc, user] = names.each_ref().map(String::as_str);
    refused(
        &good_sandbox(),
        |raw| check_sandbox(raw, ABLE),
        vec![
            (network, pod(|raw| pod_namespaces(raw).network = 1)),
            (network, pod(|raw| pod_namespaces(raw).network = 3)),
            (network, pod(|raw| pod_namespaces(raw).network = 7)),
            (pid, pod(|raw| pod_namespaces(raw).pid = 3)),
            (pid, pod(|raw| pod_namespaces(raw).pid = -1)),
            (ipc, pod(|raw| pod_namespaces(raw).ipc = 1)),
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
                pod(|raw| pod_security(raw).run_as_user = value(-1)),
            ),
            (
                "linux.security_context.run_as_user",
                pod(|raw| pod_security(raw).run_as_user = value(4_294_967_295)),
            ),
            (
                "linux.security_context.run_as_group",
                pod(|raw| pod_security(raw).run_as_group = value(1)),
            ),
            (
                "linux.security_context.supplemental_groups[1]",
                pod(|raw| pod_security(raw).supplemental_groups = vec![1, 1 << 40]),
            ),
            (
                "linux.security_context.supplemental_groups_policy",
                pod(|raw| pod_security(raw).supplemental_groups_policy = 2),
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
    // All addresses of one family and all of the other are two things.
    raw.port_mappings.push(port(0, 81, 8080, "::"));
    let made = check_sandbox(&raw, ABLE).unwrap();
    assert_eq!(made.port_mappings.len(), 3);
    let hosts = made.port_mappings.iter().map(|mapping| mapping.host_ip.unwrap().to_string());
    assert_eq!(hosts.collect::<Vec<_>>(), ["127.0.0.1", "0.0.0.0", "::"]);
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
    for (good, name) in [
        ("", ""),
        ("kubepods.slice", "kubepods.slice"),
        ("/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice"),
    ] {
        assert_eq!(with(good).unwrap().cgroup_parent, name);
    }
    for bad in
        ["/kubepods", "a.slice/../b.slice", "a.slice/b", "a.slice\n", "a--b.slice", "a:b:c.slice"]
    {
        assert!(with(bad).is_err(), "{bad}");
    }
}
