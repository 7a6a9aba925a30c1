//! The host's resolv.conf as a container with a network of its own can use it.

use std::net::IpAddr;

const OWN: &str = "/etc/resolv.conf";
/// What systemd-resolved asks itself; in the other file it names its own address, on loopback.
const BEHIND: &str = "/run/systemd/resolve/resolv.conf";

/// The text, and whether it is another than the host's own file has.
pub(crate) fn of_host() -> (String, bool) {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    choose(read(OWN), || read(BEHIND))
}

/// Resolvers on loopback are of no use in another network namespace.
fn choose(own: String, behind: impl FnOnce() -> String) -> (String, bool) {
    if !own.lines().any(is_on_loopback) {
        return (own, false);
    }
    let behind = behind();
    let text = if values(&behind, "nameserver").is_empty() { own } else { behind };
    let kept = text.lines().filter(|line| !is_on_loopback(line));
    (kept.map(|line| format!("{line}\n")).collect(), true)
}

fn is_on_loopback(line: &str) -> bool {
    let server = line.trim().strip_prefix("nameserver").map(str::trim);
    server.and_then(|text| text.parse::<IpAddr>().ok()).is_some_and(|ip| ip.is_loopback())
}

/// All words of a kind of line.
pub(crate) fn values(text: &str, word: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(word));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_loopback_is_looked_behind() {
        let usual = "search a\nnameserver 10.0.0.1\n".to_owned();
        assert_eq!(choose(usual.clone(), || unreachable!()), (usual, false));
        let stub = "nameserver 127.0.0.53\nsearch a\n".to_owned();
        let behind = "nameserver 10.0.0.2\nsearch b\n";
        assert_eq!(choose(stub.clone(), || behind.to_owned()), (behind.to_owned(), true));
        assert_eq!(choose(stub, String::new), ("search a\n".to_owned(), true));
        assert_eq!(values(behind, "search"), ["b"]);
    }
}
