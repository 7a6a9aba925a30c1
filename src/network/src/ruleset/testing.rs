//! A small world for tests: a host, pods on its bridge, a client on its link; each a network
//! namespace that goes when the test ends.

#![expect(clippy::disallowed_methods, reason = "the real tools are the judge in these tests")]

use crate::netns::inside_net;
use crate::{Call, Capabilities, CniResult, PortMapping, Protocol};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a connection that should work may take, and how long one that should not is awaited.
const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

/// Addresses of the host on its link.
pub(crate) const HOST4: &str = "192.0.2.1";
/// The same, IPv6.
pub(crate) const HOST6: &str = "2001:db8::1";
/// Addresses of the client.
pub(crate) const CLIENT4: &str = "192.0.2.2";
/// The same, IPv6.
pub(crate) const CLIENT6: &str = "2001:db8::2";

/// Runs a tool in the calling thread's namespaces; panics unless it succeeds.
pub(crate) fn tool(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?} {input}: {text} {errors}");
    text.into_owned()
}

/// The ruleset of the host as the `nft` tool sees it.
pub(crate) fn ruleset() -> String {
    tool("nft", &["list", "ruleset"], "")
}

fn namespace() -> OwnedFd {
    let make = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        crate::netns::open(Path::new("/proc/thread-self/ns/net")).unwrap()
    };
    let made = std::thread::scope(|scope| scope.spawn(make).join().unwrap());
    inside_net(&made, || tool("ip", &["link", "set", "lo", "up"], "")).unwrap();
    made
}

/// A place that is not the host.
#[derive(Debug)]
pub(crate) struct Place {
    namespace: OwnedFd,
}

impl Place {
    fn new() -> Self {
        Self { namespace: namespace() }
    }

    /// The same place once more.
    pub(crate) fn again(&self) -> Self {
        Self { namespace: self.namespace.try_clone().unwrap() }
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }

    /// Runs something there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside_net(&self.namespace, work).unwrap()
    }

    /// Connects from there and says whom the server saw; `None` where nobody answers.
    pub(crate) fn reaches(&self, server: &TcpListener, to: &str) -> Option<IpAddr> {
        self.run(|| reach(server, to))
    }

    /// A TCP server there.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        self.run(|| TcpListener::bind(("::", port)).unwrap())
    }

    /// A UDP socket there.
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        self.run(|| {
            let socket = UdpSocket::bind(("::", port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    }
}

fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Connects from the calling thread's namespace to a server's address as the client sees it.
/// A word is sent each way, so translation must work in both directions.
pub(crate) fn reach(server: &TcpListener, to: &str) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    server.set_nonblocking(true).unwrap();
    let mut client = match TcpStream::connect_timeout(&to, PATIENCE.min(SILENCE * 4)) {
        Ok(client) => client,
        Err(_) => return None,
    };
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"ping").unwrap();
    // Connected, so the connection is in somebody's queue: in this server's, or somebody else
    // answered.
    let (mut accepted, from) = server.accept().ok()?;
    accepted.set_nonblocking(false).unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut word = [0; 4];
    accepted.read_exact(&mut word).unwrap();
    accepted.write_all(b"pong").unwrap();
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"pong");
    Some(plain(from.ip()))
}

/// Sends a datagram; says whom the server saw, after its answer came back from where it went.
pub(crate) fn exchange(server: &UdpSocket, client: &UdpSocket, to: &str) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    server.set_read_timeout(Some(SILENCE)).unwrap();
    // What an earlier exchange sent may still wait here.
    static WORD: AtomicU32 = AtomicU32::new(0);
    let sent = WORD.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    client.send_to(&sent, to).unwrap();
    let mut word = [0; 4];
    let from = loop {
        let (_, from) = server.recv_from(&mut word).ok()?;
        if word == sent {
            break from;
        }
    };
    server.send_to(b"pong", from).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_, answered) = client.recv_from(&mut word).unwrap();
    assert_eq!((plain(answered.ip()), answered.port()), (plain(to.ip()), to.port()));
    Some(plain(from.ip()))
}

/// The host's side: the thread that runs a test is in it.
#[derive(Debug)]
pub(crate) struct World {
    /// A machine on the host's link, with a default route by the host.
    pub(crate) client: Place,
    pods: usize,
}

/// A pod on the host's bridge.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Where it is.
    pub(crate) place: Place,
    /// Its container id.
    pub(crate) id: String,
    /// The result of the plugins before.
    pub(crate) result: CniResult,
}

/// Runs a test on the host of a new world.
pub(crate) fn in_world(test: impl FnOnce(&mut World) + Send) {
    let host = namespace();
    inside_net(&host, || {
        for (name, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/default/accept_dad", "0"),
        ] {
            std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
        }
        let client = Place::new();
        let batch = format!(
            "link add cni0 type bridge\naddr add 10.88.0.1/16 dev cni0\n\
             addr add fd00:88::1/64 dev cni0 nodad\nlink set cni0 up\n\
             link add up0 type veth peer name eth0 netns {}\naddr add {HOST4}/24 dev up0\n\
             addr add {HOST6}/64 dev up0 nodad\nlink set up0 up\n",
            client.path()
        );
        tool("ip", &["-batch", "-"], &batch);
        client.run(|| {
            let batch = format!(
                "addr add {CLIENT4}/24 dev eth0\naddr add {CLIENT6}/64 dev eth0 nodad\n\
                 link set eth0 up\nroute add default via {HOST4}\nroute add default via {HOST6}\n"
            );
            tool("ip", &["-batch", "-"], &batch)
        });
        test(&mut World { client, pods: 0 });
    })
    .unwrap();
}

impl World {
    /// A second bridge, `cni1`, with 10.89.0.1/16 and fd00:89::1/64.
    pub(crate) fn second_bridge(&self) {
        let batch = "link add cni1 type bridge\naddr add 10.89.0.1/16 dev cni1\n\
             addr add fd00:89::1/64 dev cni1 nodad\nlink set cni1 up\n";
        tool("ip", &["-batch", "-"], batch);
    }

    /// A new pod on `cni0`: 10.88.0.2 and fd00:88::2, then 3 and so on.
    pub(crate) fn pod(&mut self) -> Pod {
        self.pod_on(0)
    }

    /// A new pod on `cni0` or `cni1`.
    pub(crate) fn pod_on(&mut self, bridge: usize) -> Pod {
        self.pods += 1;
        let net = 88 + bridge;
        let number = self.pods + 1;
        let place = Place::new();
        let batch = format!(
            "link add veth{number} master cni{bridge} type veth peer name eth0 netns {}\nlink set veth{number} type bridge_slave hairpin on\nlink set veth{number} up\n",
            place.path()
        );
        tool("ip", &["-batch", "-"], &batch);
        place.run(|| {
            let batch = format!(
                "addr add 10.{net}.0.{number}/16 dev eth0\naddr add fd00:{net}::{number:x}/64 dev eth0 nodad\n\
                 link set eth0 up\nroute add default via 10.{net}.0.1\nroute add default via fd00:{net}::1\n"
            );
            tool("ip", &["-batch", "-"], &batch)
        });
        let result = json!({
            "interfaces": [
                {"name": format!("cni{bridge}")}, {"name": format!("veth{number}")},
                {"name": "eth0", "sandbox": place.path()},
            ],
            "ips": [
                {"interface": 2, "address": format!("10.{net}.0.{number}/16"), "gateway": format!("10.{net}.0.1")},
                {"interface": 2, "address": format!("fd00:{net}::{number:x}/64"), "gateway": format!("fd00:{net}::1")},
            ],
        });
        let result = serde_json::from_value(result).unwrap();
        Pod { place, id: format!("{number:064x}"), result }
    }
}

/// One host port.
pub(crate) fn port(
    protocol: Protocol,
    host_port: u16,
    container_port: u16,
    host_ip: &str,
) -> PortMapping {
    PortMapping { host_port, container_port, protocol, host_ip: host_ip.parse().ok() }
}

impl Pod {
    /// Calls a plugin for this pod as the engine does.
    pub(crate) fn call<T>(
        &self,
        config: &Value,
        ports: &[PortMapping],
        work: impl FnOnce(&Call<'_>) -> T,
    ) -> T {
        let runtime = Capabilities { port_mappings: ports.to_vec(), ..Capabilities::default() };
        let path = self.place.path();
        work(&Call {
            container_id: &self.id,
            ifname: "eth0",
            netns: Some(Path::new(&path)),
            args: &[],
            network: "net",
            cni_version: "1.0.0",
            config,
            runtime: &runtime,
            prev_result: Some(&self.result),
            ipam_dir: Path::new("/nonexistent"),
            bin_dirs: &[],
            timeout: PATIENCE,
            netns_dies: false,
        })
    }
}

/// Calls a plugin of Debian's package in the calling thread's namespaces; its result, or the
/// message of its error.
pub(crate) fn reference(
    kind: &str,
    call: &Call<'_>,
    command: &str,
) -> Result<Option<Value>, String> {
    let mut config = call.config.clone();
    config["cniVersion"] = json!(call.cni_version);
    config["name"] = json!(call.network);
    config["type"] = json!(kind);
    config["prevResult"] = serde_json::to_value(call.prev_result).unwrap();
    config["prevResult"]["cniVersion"] = json!(call.cni_version);
    config["runtimeConfig"] = json!({"portMappings": call.runtime.port_mappings});
    let mut child = std::process::Command::new(format!("/usr/lib/cni/{kind}"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", call.container_id)
        .env("CNI_IFNAME", call.ifname)
        .env("CNI_NETNS", call.netns.unwrap())
        .env("CNI_PATH", "/usr/lib/cni")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::inherit())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(text.into_owned());
    }
    let mut value: Option<Value> = serde_json::from_str(&text).ok();
    if let Some(value) = &mut value {
        value.as_object_mut().unwrap().remove("cniVersion");
    }
    Ok(value)
}
