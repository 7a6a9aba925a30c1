//! From the configuration to what each room takes.

use super::load::entries;
use super::schema::What;
use super::{Bridge, CgroupDriver, Config};
use orlop_lifecycle::{ForeignHandler, Options as RuntimeOptions};
use orlop_network::{BuiltinBridge, NetworkConfig};
use std::net::SocketAddr;
use std::path::PathBuf;

impl Config {
    /// Where CRI is served.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run.join("orlop.sock"))
    }

    /// Keys that are addresses to listen on, with those; port 0 is any that is free.
    pub(crate) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let listened = entries(self).into_iter().filter_map(|entry| match entry.what {
            What::Key { value: Some(value), .. } => {
                Some((entry.key, value.as_str()?.parse().ok()?))
            }
            _ => None,
        });
        listened.filter(|(_, address): &(String, SocketAddr)| address.port() != 0).collect()
    }

    /// For the image store.
    pub(crate) fn image_options(&self) -> anyhow::Result<orlop_image::Options> {
        self.images.options(&self.root)
    }

    /// For the network.
    pub(crate) fn network_config(&self) -> NetworkConfig {
        let network = &self.network;
        let in_cache = || network.cache_dir.join("networks");
        NetworkConfig {
            conf_dir: network.conf_dir.clone(),
            bin_dirs: network.bin_dirs.clone(),
            cache_dir: network.cache_dir.clone(),
            ipam_dir: network.ipam_dir.clone().unwrap_or_else(in_cache),
            run_dir: self.run.clone(),
            pool_size: network.pool_size,
            plugin_timeout: network.plugin_timeout.0,
            builtin: builtin(&network.bridge),
        }
    }

    /// The handlers of other makers. Checked before, so that none is left out.
    pub(crate) fn foreign_handlers(&self) -> Vec<ForeignHandler> {
        let systemd = self.cgroup.driver() == CgroupDriver::Systemd;
        let all = self.runtimes.0.iter();
        all.filter_map(|(name, runtime)| runtime.handler(name, systemd).ok()).collect()
    }

    /// For sandboxes and containers.
    pub(crate) fn runtime_options(&self) -> RuntimeOptions {
        let runtime = &self.runtime;
        RuntimeOptions {
            root: self.root.clone(),
            run: self.run.clone(),
            default_cgroup_parent: self.cgroup.default_parent(),
            handlers: runtime.handlers.clone(),
            runtimes: self.foreign_handlers(),
            criu: runtime.criu.clone(),
            seccomp_dir: runtime.seccomp_dir.clone(),
            exec_output_cap: usize::try_from(runtime.exec_output_cap.0).unwrap_or(usize::MAX),
            ..RuntimeOptions::default()
        }
    }
}

fn builtin(bridge: &Bridge) -> BuiltinBridge {
    BuiltinBridge {
        enabled: bridge.enabled,
        bridge: bridge.name.clone(),
        subnet: bridge.subnet,
        subnet6: bridge.subnet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn derived_paths() {
        let mut config = Config { run: "/r".into(), ..Config::default() };
        config.network.cache_dir = "/c".into();
        assert_eq!(config.socket(), Path::new("/r/orlop.sock"));
        assert_eq!(config.network_config().ipam_dir, Path::new("/c/networks"));
    }

    #[test]
    fn token_services_are_listed_by_registry() {
        let mut config = Config::default();
        let hosts = vec!["id.example".to_owned(), "id.example:444".to_owned()];
        config.images.token_hosts.insert("r.example".into(), hosts);
        let pair = |host: &str| ("r.example".to_owned(), host.to_owned());
        let listed = config.image_options().unwrap().registry.token_hosts;
        assert_eq!(listed, [pair("id.example"), pair("id.example:444")]);
    }
}
