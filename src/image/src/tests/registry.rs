//! A real registry: Debian's docker-registry on a loopback port, ended with the test.

use super::parts::ImageParts;
use crate::registry::sha256;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

pub(super) struct Registry {
    child: Child,
    pub(super) port: u16,
}

/// What the registry asks of its clients.
#[derive(Default)]
pub(super) struct Demands<'a> {
    pub(super) user: Option<(&'a str, &'a str)>,
    /// Certificate and key files.
    pub(super) tls: Option<(PathBuf, PathBuf)>,
    /// With it, clients must have a certificate of this authority.
    pub(super) client_ca: Option<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "tests run the tools of the machine")]
pub(super) fn command(program: &str) -> std::process::Command {
    std::process::Command::new(program)
}

impl Registry {
    /// An open registry with its storage in `dir`.
    pub(super) fn start(dir: &Path) -> Self {
        Self::with(dir, &Demands::default())
    }

    /// Starts on a free port; another one where somebody was faster.
    pub(super) fn with(dir: &Path, demands: &Demands<'_>) -> Self {
        (0..10).find_map(|_| Self::try_start(dir, demands)).expect("docker-registry starts")
    }

    fn try_start(dir: &Path, demands: &Demands<'_>) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.join("registry").display()
        );
        if let Some((certificate, key)) = &demands.tls {
            config += &format!(
                "  tls: {{certificate: {}, key: {}{}}}\n",
                certificate.display(),
                key.display(),
                demands
                    .client_ca
                    .as_ref()
                    .map(|ca| format!(", clientcas: [{}]", ca.display()))
                    .unwrap_or_default()
            );
        }
        if let Some((user, password)) = demands.user {
            let made = command("htpasswd").args(["-Bbn", user, password]).output().unwrap();
            let file = dir.join("htpasswd");
            std::fs::write(&file, made.stdout).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        }
        let file = dir.join(format!("registry-{port}.yml"));
        std::fs::write(&file, config).unwrap();
        let mut child = command("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let up = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        if !up {
            child.wait().unwrap();
            return None;
        }
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self { child, port })
    }

    pub(super) fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    /// Stores an image under a tag. Only where nothing is demanded.
    pub(super) fn push(&self, repository: &str, tag: &str, image: &ImageParts) {
        for blob in image.blobs() {
            self.push_blob(repository, &blob);
        }
        self.push_manifest(repository, tag, image.media_type, &image.manifest);
    }

    pub(super) fn push_blob(&self, repository: &str, blob: &[u8]) {
        let reply = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        let location = reply
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .unwrap_or_else(|| panic!("no location in {reply}"));
        let path = location
            .split_once("//")
            .map_or(location, |(_, rest)| &rest[rest.find('/').unwrap()..]);
        let path = format!("{path}&digest={}", sha256(blob));
        let reply = self.request("PUT", &path, "application/octet-stream", blob);
        assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
    }

    pub(super) fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) {
        let reply =
            self.request("PUT", &format!("/v2/{repository}/manifests/{tag}"), media_type, bytes);
        assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
    }

    fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        std::io::read_to_string(stream).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
