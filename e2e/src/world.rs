//! One test's world: a network namespace, directories, a registry and a daemon, none of which another test or the
//! machine can see.

use crate::process::{Server, output, run, until};
use crate::{leaks, program, root, tool};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A daemon with everything around it. Dropping it stops the daemon and, unless the test is failing already, fails on
/// anything of ours that is left.
pub struct World {
    dir: tempfile::TempDir,
    netns: String,
    daemon: Option<Server>,
    registry: Option<(Server, u16)>,
    environment: Vec<(String, String)>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl World {
    /// A world with a running daemon.
    pub fn new() -> Self {
        let mut world = Self::prepared();
        world.start();
        world
    }

    /// A world whose daemon runs with this configuration file.
    pub fn configured(config: impl FnOnce(&Self) -> String) -> Self {
        let mut world = Self::prepared();
        std::fs::write(world.path("orlop.toml"), config(&world)).expect("configuration file");
        world.start();
        world
    }

    /// A world whose daemon does not run yet.
    pub fn prepared() -> Self {
        let netns =
            format!("orlop-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &netns]));
        let dir =
            tempfile::Builder::new().prefix("orlop-e2e-").tempdir().expect("temporary directory");
        let world = Self { dir, netns, daemon: None, registry: None, environment: Vec::new() };
        run(world.inside("ip").args(["link", "set", "lo", "up"]));
        for sub in ["root", "run", "cni", "cni-cache", "logs", "tmp"] {
            std::fs::create_dir(world.path(sub)).expect("directory");
        }
        world
    }

    /// A path in the world's own directory.
    pub fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    /// A program in the world's network namespace. `nsenter` and not `ip netns exec`: that one hides the cgroups.
    pub fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).arg("--").arg(program);
        command
    }

    /// The file that the world's network namespace is pinned at.
    pub fn netns_path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.netns)
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let mut command = self.inside(program("orlop"));
        command.arg("serve").envs(self.environment.iter().map(|(name, value)| (name, value)));
        for (flag, sub) in [
            ("--root", "root"),
            ("--run", "run"),
            ("--cni-conf-dir", "cni"),
            ("--cni-cache-dir", "cni-cache"),
        ] {
            command.arg(flag).arg(self.path(sub));
        }
        if self.path("orlop.toml").exists() {
            command.arg("--config").arg(self.path("orlop.toml"));
        }
        command.arg("--listen").arg(self.socket());
        self.daemon = Some(Server::start(command, self.path("orlop.log")));
        until("the daemon to answer", || {
            assert!(!self.daemon().ended(), "orlop serve ended:\n{}", self.log());
            self.try_crictl(&["version"]).status.success()
        });
    }

    /// Sets a variable for daemons that are started from now on.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Takes back what [`Self::environment`] set.
    pub fn clear_environment(&mut self) {
        self.environment.clear();
    }

    /// Name of the world's network namespace, as in `/run/netns`.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    fn daemon(&mut self) -> &mut Server {
        self.daemon.as_mut().expect("the daemon runs")
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").pid()
    }

    /// kill -9 of the daemon.
    pub fn kill(&mut self) {
        self.daemon().kill();
        self.daemon = None;
    }

    /// An orderly end of the daemon.
    pub fn stop(&mut self) {
        self.daemon().terminate();
        self.daemon = None;
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("orlop.log")).unwrap_or_default()
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("run/orlop.sock")
    }

    /// crictl with these arguments; panics when it fails.
    pub fn crictl(&self, arguments: &[&str]) -> String {
        let output = self.try_crictl(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "crictl {arguments:?}: {}\n{}{}\n--- the daemon:\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout).trim_end().to_owned()
    }

    /// crictl with these arguments, whatever comes of it.
    pub fn try_crictl(&self, arguments: &[&str]) -> Output {
        let endpoint = format!("unix://{}", self.socket().display());
        output(
            Command::new(tool("crictl"))
                .args([
                    "--config",
                    "/dev/null",
                    "-r",
                    &endpoint,
                    "-i",
                    &endpoint,
                    "--timeout",
                    "60s",
                ])
                .args(arguments),
        )
    }

    /// What crictl says when it must fail.
    pub fn crictl_error(&self, arguments: &[&str]) -> String {
        let output = self.try_crictl(arguments);
        assert!(!output.status.success(), "crictl {arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The address of the world's registry, `127.0.0.1:PORT`; started on first use.
    pub fn registry(&mut self) -> String {
        if self.registry.is_none() {
            let port = 5000;
            let config = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  delete: {{enabled: true}}\n  \
                 filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
                self.path("registry").display()
            );
            std::fs::write(self.path("registry.yml"), config).expect("registry.yml");
            let mut command = self.inside("docker-registry");
            command.arg("serve").arg(self.path("registry.yml"));
            self.registry = Some((Server::start(command, self.path("registry.log")), port));
            until("the registry to answer", || {
                output(self.inside("curl").args(["-fsS", &format!("http://127.0.0.1:{port}/v2/")]))
                    .status
                    .success()
            });
        }
        format!("127.0.0.1:{}", self.registry.as_ref().expect("started").1)
    }

    /// Ends the registry.
    pub fn stop_registry(&mut self) {
        self.registry = None;
    }

    /// Pushes an image made of tar files with `e2e/images/image.py`; returns its reference.
    pub fn push(&mut self, name: &str, layers: &[&Path], config: &str, more: &[&str]) -> String {
        let registry = self.registry();
        let mut command = self.inside("python3");
        command.arg(root().join("e2e/images/image.py")).args([
            "push",
            "--registry",
            &registry,
            "--name",
            name,
        ]);
        for layer in layers {
            command.arg("--layer").arg(layer);
        }
        run(command.args(["--config", config]).args(more));
        format!("{registry}/{name}")
    }

    /// Removes every pod, container and image, then checks that nothing of ours is left.
    pub fn check_clean(&mut self) {
        if self.daemon.is_none() {
            self.start();
        }
        self.crictl(&["rmp", "-fa"]);
        self.crictl(&["rmi", "-a"]);
        self.stop();
        self.stop_registry();
        let left = leaks::find(self.dir.path(), &self.netns);
        assert!(
            left.is_empty(),
            "left behind:\n{}\n--- the daemon:\n{}",
            left.join("\n"),
            self.log()
        );
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        // What is left is cleaned also where it fails the test: it must not harm another one.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if failing {
                let _ = self.try_crictl(&["rmp", "-fa"]);
            } else {
                self.check_clean();
            }
        }));
        if let Some(daemon) = &mut self.daemon {
            daemon.kill();
        }
        self.registry = None;
        if failing || checked.is_err() {
            leaks::clean(self.dir.path());
        }
        let _ = output(Command::new("ip").args(["netns", "del", &self.netns]));
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    }
}
