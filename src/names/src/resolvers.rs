//! The host's resolvers.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// As many as a C library asks.
const MAX_SERVERS: usize = 3;

/// What the host's resolv.conf says, read anew when it has changed.
#[derive(Debug)]
pub(crate) struct Resolvers {
    path: PathBuf,
    changed: Option<SystemTime>,
    servers: Vec<IpAddr>,
    /// Our own addresses: asking them would go round.
    own: Vec<IpAddr>,
}

impl Resolvers {
    pub(crate) fn new(path: &Path, own: Vec<IpAddr>) -> Self {
        Self { path: path.to_owned(), changed: None, servers: Vec::new(), own }
    }

    pub(crate) fn servers(&mut self) -> &[IpAddr] {
        let changed = std::fs::metadata(&self.path).and_then(|found| found.modified()).ok();
        if changed.is_none() || changed != self.changed {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            self.servers = parse(&text);
            self.servers.retain(|server| !self.own.contains(server));
            self.changed = changed;
        }
        &self.servers
    }
}

fn parse(text: &str) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    servers.truncate(MAX_SERVERS);
    if servers.is_empty() {
        // As resolv.conf(5) has it.
        servers.push(IpAddr::from([127, 0, 0, 1]));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let ips = |text: &str| parse(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            ips("# nameserver 1.1.1.1\nnameserver 10.0.0.1 x\n nameserver fd00::1\nsearch a\n"),
            ["10.0.0.1", "fd00::1"]
        );
        assert_eq!(ips("nameserver fe80::1%eth0\n"), ["127.0.0.1"]);
    }

    #[test]
    fn it_is_read_again_when_it_changes_and_we_do_not_ask_ourselves() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n").unwrap();
        let mut resolvers = Resolvers::new(&path, vec!["10.0.0.1".parse().unwrap()]);
        assert_eq!(resolvers.servers(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        std::fs::write(&path, "nameserver 10.0.0.3\n").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(resolvers.servers(), ["10.0.0.3".parse::<IpAddr>().unwrap()]);
    }
}
