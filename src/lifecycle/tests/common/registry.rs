//! A registry with one image, on loopback: busybox of this host with users and groups.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// Serves until the test process ends; its thread waits in accept and costs nothing.
pub struct Registry {
    pub port: u16,
}

type Content = HashMap<String, (&'static str, Vec<u8>)>;

impl Registry {
    pub fn start() -> Self {
        // The namespace is new: its loopback is down.
        bring_up_loopback();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let content = Arc::new(content());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&content);
                std::thread::spawn(move || serve(stream, &content));
            }
        });
        Self { port }
    }
}

fn bring_up_loopback() {
    use orlop_sys::netlink::{Request, Socket};
    let mut socket = Socket::open().unwrap();
    let lo = socket.link_by_name("lo").unwrap().unwrap();
    socket.run(&[Request::set_up(&lo, true)]).unwrap();
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Path to media type and body.
fn content() -> Content {
    let layer = layer();
    let config = serde_json::json!({
        "architecture": orlop_model::Platform::host().architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "StopSignal": "SIGUSR1"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let blob = |bytes: &[u8]| format!("/v2/box/blobs/{}", digest(bytes));
    HashMap::from([
        ("/v2/".into(), ("application/json", b"{}".to_vec())),
        (format!("/v2/box/manifests/{}", digest(&manifest)), (manifest_type, manifest.clone())),
        ("/v2/box/manifests/1".into(), (manifest_type, manifest)),
        (blob(&config), ("application/octet-stream", config)),
        (blob(&layer), ("application/octet-stream", layer)),
    ])
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |path: &str, kind, mode, size| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_path(path).unwrap();
        header
    };
    for (dir, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700)] {
        let mut entry = header(dir, tar::EntryType::Directory, mode, 0);
        entry.set_cksum();
        tar.append(&entry, &[][..]).unwrap();
    }
    let busybox = std::fs::read("/bin/busybox").expect("tests need busybox-static");
    for (path, mode, body) in [
        ("bin/busybox", 0o755, busybox.as_slice()),
        ("bin/text", 0o644, b"not a program\n"),
        (
            "etc/passwd",
            0o644,
            b"root:x:0:0::/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n",
        ),
        ("etc/group", 0o644, b"root:x:0:\nsailor:x:1000:\ndeck:x:2000:sailor\n"),
    ] {
        let mut entry = header(path, tar::EntryType::Regular, mode, body.len() as u64);
        entry.set_cksum();
        tar.append(&entry, body).unwrap();
    }
    for name in [
        "sh", "cat", "echo", "sleep", "id", "ls", "true", "hostname", "ps", "kill", "mount", "df",
        "env", "tail", "dd",
    ] {
        let mut entry = header(&format!("bin/{name}"), tar::EntryType::Symlink, 0o777, 0);
        entry.set_link_name("busybox").unwrap();
        entry.set_cksum();
        tar.append(&entry, &[][..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// As much HTTP/1.1 as a registry client needs.
fn serve(stream: TcpStream, content: &Content) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let (status, kind, body) = match content.get(path) {
            Some((kind, body)) => ("200 OK", *kind, body.as_slice()),
            None => ("404 Not Found", "application/json", &b"{}"[..]),
        };
        let extra = if path.contains("/manifests/") {
            format!("Docker-Content-Digest: {}\r\n", digest(body))
        } else {
            String::new()
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{extra}\r\n",
            body.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        if method == "GET" {
            writer.write_all(body).ok()?;
        }
    }
}
