//! `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` and `/dev/shm` of a pod.

use crate::error::io;
use crate::{Error, Result};
use orlop_spec::request::{DnsConfig, NamespaceMode, SandboxConfig};
use rustix::mount::{MountFlags, mount};
use std::fmt::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Bytes of a pod's `/dev/shm`, the field's default.
const SHM_SIZE: u64 = 64 << 20;

const CGROUPS: &str = "cgroups";

/// Makes the sandbox's directory with all that does not depend on the network.
pub(super) fn prepare(dir: &Path, config: &SandboxConfig, hostname: &str) -> Result<()> {
    let resolv_conf = match &config.dns {
        Some(dns) => resolv_conf(dns)?,
        // A host without one leaves the pod without one, too.
        None => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
    };
    check("hostname", hostname)?;
    // The daemon's directory above is closed to others; what containers see must be readable.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(io("making directory", dir))?;
    let owner = owner(config);
    write(dir, "hostname", format!("{hostname}\n").as_bytes(), owner)?;
    write(dir, "resolv.conf", &resolv_conf, owner)?;
    if config.security.namespaces.network == NamespaceMode::Node {
        write(dir, "hosts", &std::fs::read("/etc/hosts").unwrap_or_default(), owner)?;
    }
    if config.security.namespaces.ipc == NamespaceMode::Pod {
        let size = config.extras.shm_size.unwrap_or(SHM_SIZE);
        mount_shm(&dir.join("shm"), size, owner)?;
    }
    Ok(())
}

/// Notes the cgroups that are about to be made for a sandbox: until it has a record, this is how
/// recovery finds them.
pub(super) fn note_cgroups(dir: &Path, made: &[String]) -> Result<()> {
    write(dir, CGROUPS, made.join("\n").as_bytes(), (0, 0))
}

/// The cgroups that were noted for a sandbox.
pub(crate) fn noted_cgroups(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(CGROUPS)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Writes `hosts` of a pod with a network of its own, once its addresses are known.
pub(super) fn write_hosts(
    dir: &Path,
    config: &SandboxConfig,
    hostname: &str,
    ips: &[IpAddr],
) -> Result<()> {
    let mut text = hosts(hostname, &config.extras.aliases, ips);
    for (name, address) in &config.extras.hosts {
        check("add-host", name)?;
        check("add-host", address)?;
        let _ = writeln!(text, "{address}\t{name}");
    }
    write(dir, "hosts", text.as_bytes(), owner(config))
}

/// Root of the pod, in numbers of the host: its files are its own.
fn owner(config: &SandboxConfig) -> (u32, u32) {
    let user = config.security.namespaces.user.as_ref();
    user.map_or((0, 0), |user| (user.uids.host_id, user.gids.host_id))
}

fn mount_shm(path: &Path, size: u64, (uid, gid): (u32, u32)) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io("making directory", path)(error));
        }
        _ => {}
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = format!("mode=1777,size={size},uid={uid},gid={gid}");
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount("shm", path, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(|error| io("mounting shared memory at", path)(error.into()))
}

fn write(dir: &Path, name: &str, content: &[u8], (uid, gid): (u32, u32)) -> Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, content).map_err(io("writing", &path))?;
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, mode).map_err(io("setting the mode of", &path))?;
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).map_err(io("giving away", &path))
}

fn hosts(hostname: &str, aliases: &[String], ips: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for ip in ips {
        // Writing to a string cannot fail.
        let _ = write!(text, "{ip}\t{hostname}");
        for alias in aliases {
            let _ = write!(text, " {alias}");
        }
        text.push('\n');
    }
    text
}

fn resolv_conf(dns: &DnsConfig) -> Result<Vec<u8>> {
    let mut text = String::new();
    for (field, values) in [
        ("dns_config.searches", &dns.searches),
        ("dns_config.servers", &dns.servers),
        ("dns_config.options", &dns.options),
    ] {
        for value in values {
            check(field, value)?;
        }
    }
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    Ok(text.into_bytes())
}

/// A value that goes into a line of a file must not bring lines of its own (CVE-2022-4318). The
/// request was validated, but these files are read by everything in the pod.
fn check(field: &'static str, value: &str) -> Result<()> {
    if value.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        let value = value.chars().take(80).collect();
        let why = "it holds control characters; remove them".into();
        return Err(Error::Invalid { field, value, why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::sandbox_config;

    #[test]
    fn resolv_conf_says_what_was_asked() {
        let dns = DnsConfig {
            servers: vec!["10.0.0.10".into(), "fd00::1".into()],
            searches: vec!["a.local".into(), "b.local".into()],
            options: vec!["ndots:5".into()],
        };
        let text = String::from_utf8(resolv_conf(&dns).unwrap()).unwrap();
        assert_eq!(
            text,
            "search a.local b.local\nnameserver 10.0.0.10\nnameserver fd00::1\noptions ndots:5\n"
        );
        assert!(resolv_conf(&DnsConfig::default()).unwrap().is_empty());
    }

    #[test]
    fn no_value_brings_lines_of_its_own() {
        for evil in ["a\nnameserver 6.6.6.6", "a\rb", "a\0b", "\x1b[0m", "\x7f"] {
            let evil = evil.to_owned();
            for dns in [
                DnsConfig { servers: vec![evil.clone()], ..DnsConfig::default() },
                DnsConfig { searches: vec![evil.clone()], ..DnsConfig::default() },
                DnsConfig { options: vec![evil.clone()], ..DnsConfig::default() },
            ] {
                assert!(resolv_conf(&dns).is_err(), "{evil:?}");
            }
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("s");
            let error = prepare(&dir, &sandbox_config("x"), &evil).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
            assert!(!dir.exists(), "nothing is made before the check");
        }
    }

    #[test]
    fn hosts_name_the_pod() {
        let text = hosts("web", &[], &["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()]);
        assert!(text.contains("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.1.2.3\tweb\nfd00::3\tweb\n"));
    }
}
