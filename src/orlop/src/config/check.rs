//! What one key alone cannot say.

use super::problem::{Origins, Problem};
use super::{CgroupDriver, Config};
use std::path::Path;

/// `sun_path` less its closing NUL byte.
const MAX_SOCKET_PATH: usize = 107;

/// Tells of values that do not go together, at the key that was set last of those named first.
pub(super) fn several_keys(config: &Config, origins: &Origins, problems: &mut Vec<Problem>) {
    let mut fault = |keys: &[&str], message: String| {
        let place = keys.iter().find_map(|key| origins.get(*key)).cloned();
        problems.push(Problem { place, message });
    };
    let within = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    if within(&config.root, &config.run) {
        let (root, run) = (&config.root, &config.run);
        let message = format!(
            "root {root:?} and run {run:?}: use directories of which neither lies in the other"
        );
        fault(&["root", "run"], message);
    }
    let socket = config.socket();
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let message = format!(
            "socket: use a path of at most {MAX_SOCKET_PATH} bytes; {socket:?} has {length} bytes"
        );
        fault(&["socket", "run"], message);
    }
    for (name, runtime) in &config.runtimes.0 {
        let at = super::schema::dotted("runtimes", name);
        if config.runtime.handlers.contains(name) || name.is_empty() {
            fault(&[&at], format!("{at}: use another name: the built-in runtime has this one"));
        }
        if let Err(error) = runtime.check() {
            fault(&[&at], format!("{at}: {error:#}"));
        }
    }
    let (driver, parent) = (config.cgroup.driver(), config.cgroup.default_parent());
    let slice = driver == CgroupDriver::Systemd;
    if slice != parent.ends_with(".slice") || slice == parent.starts_with('/') {
        let message = format!(
            "cgroup.default_parent: use an absolute path with the cgroupfs driver, a name that ends in .slice with the systemd driver, not {parent:?}"
        );
        fault(&["cgroup.default_parent", "cgroup.driver"], message);
    }
    if config.cgroup.driver == Some(CgroupDriver::Systemd)
        && let Err(lack) = crate::host::systemd_manages_cgroups()
    {
        let message = format!("cgroup.driver: use \"cgroupfs\", because {lack}");
        fault(&["cgroup.driver"], message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        several_keys(config, &Origins::new(), &mut problems);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn what_goes_together() {
        assert_eq!(problems(&Config::default()), Vec::<String>::new());
        let mut config = Config { root: "/run/orlop/x".into(), ..Config::default() };
        config.socket = Some(format!("/{}", "s".repeat(107)).into());
        config.cgroup.driver = Some(CgroupDriver::Cgroupfs);
        config.cgroup.default_parent = Some("x.slice".into());
        let found = problems(&config);
        let words = ["neither lies in the other", "has 108 bytes", ".slice with the systemd"];
        for (at, word) in words.iter().enumerate() {
            assert!(found[at].contains(word), "{found:?}");
        }
        config.cgroup.default_parent = Some("/x".into());
        assert_eq!(problems(&config).len(), 2);
    }
}
