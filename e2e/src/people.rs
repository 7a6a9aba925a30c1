//! The command line as people use it, with the daemon of the world or without one.

use crate::process::{output, run};
use crate::{World, images, program};
use serde_json::Value;
use std::process::{Command, Output};

impl World {
    /// A world without a daemon whose command line knows its directories.
    pub fn for_people() -> Self {
        let world = Self::prepared();
        let config = format!(
            "[network]\nconf_dir = {:?}\ncache_dir = {:?}\n[cgroup]\ndriver = \"cgroupfs\"\n",
            world.path("cni"),
            world.path("cni-cache")
        );
        std::fs::write(world.path("orlop.toml"), config).expect("configuration file");
        world
    }

    /// `orlop` with these arguments, on this world.
    pub fn orlop(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(program("orlop"));
        command.arg("--config").arg(self.path("orlop.toml"));
        command.arg("--root").arg(self.path("root")).arg("--run").arg(self.path("run"));
        command.arg("--host").arg(self.socket()).args(arguments);
        command
    }

    /// What it prints; panics when it fails.
    pub fn says(&self, arguments: &[&str]) -> String {
        run(&mut self.orlop(arguments)).trim_end().to_owned()
    }

    /// Its exit status and what it prints on standard error.
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stderr, .. } = output(&mut self.orlop(arguments));
        assert!(!status.success(), "orlop {arguments:?} succeeded");
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&stderr).into_owned())
    }

    /// What `inspect` shows of a container.
    pub fn look(&self, container: &str) -> Value {
        let text = self.says(&["container", "inspect", container]);
        serde_json::from_str::<Value>(&text).expect("JSON")[0].clone()
    }

    /// The word for how a container stands.
    pub fn state(&self, container: &str) -> String {
        self.look(container)["State"]["Status"].as_str().expect("a word").to_owned()
    }

    /// A busybox image with this configuration, pulled without a daemon, by a short name.
    pub fn image(&mut self, name: &str, config: &str) -> String {
        let layer = images::busybox_layer(&self.path("tmp"));
        let reference = self.push(&format!("test/{name}:1"), &[&layer], config, &[]);
        self.says(&["pull", &reference]);
        self.says(&["tag", &reference, name]);
        name.to_owned()
    }

    /// Removes every container.
    pub fn remove_containers(&self) {
        for id in self.says(&["ps", "-aq", "--no-trunc"]).lines() {
            self.says(&["rm", "-f", id]);
        }
    }
}
