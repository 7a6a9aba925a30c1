//! A node in a box for tests: its own network namespace, directories, cgroup and image, and a
//! runtime that can be killed and started again.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "shared by tests that each use a part of it"
)]

pub mod registry;

use orlop_image::ImageStore;
use orlop_lifecycle::{ContainerState, ContainerView, EventKind, Options, Recovered, Runtime};
use orlop_model::Reference;
use orlop_network::{Network, NetworkConfig};
use orlop_spec::request::*;
use orlop_task::Launcher;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Nothing here takes that long unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The host's side of a test: what stays while runtimes come and go.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub cgroup: String,
    registry: registry::Registry,
}

/// A runtime with the threads that it lives on.
pub struct Daemon {
    tokio: Option<tokio::runtime::Runtime>,
    runtime: Option<Runtime>,
    pub images: Option<ImageStore>,
    pub recovered: Recovered,
}

/// Runs a test on a thread with a network namespace of its own; everything that the test starts
/// inherits it. Afterwards nothing may be left.
pub fn on_a_node(test: impl FnOnce(&Node) + Send + 'static) {
    let done = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests need root");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let node = Node {
            dir: tempfile::Builder::new().prefix("orlop-t").tempdir().unwrap(),
            cgroup: format!("/orlop-test-{}-{number}", std::process::id()),
            registry: registry::Registry::start(),
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&node)));
        let left = node.left_over();
        node.clean();
        match result {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => assert!(left.is_empty(), "left over: {left:#?}"),
        }
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

fn shim_binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("orlop-shim");
    assert!(path.exists(), "build the shim first: cargo build -p orlop-shim ({})", path.display());
    path
}

impl Node {
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Starts a runtime on what is there, and recovers.
    pub fn start(&self) -> Daemon {
        self.start_with(|_| ())
    }

    /// The same with other options.
    pub fn start_with(&self, change: impl FnOnce(&mut Options)) -> Daemon {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (runtime, images, recovered) = tokio.block_on(async {
            let (root, run) = (self.root(), self.run());
            let image_options =
                orlop_image::Options { root: root.clone(), ..orlop_image::Options::default() };
            let images = tokio::task::spawn_blocking(|| ImageStore::open(image_options))
                .await
                .unwrap()
                .unwrap();
            let network = Network::open(NetworkConfig {
                conf_dir: self.dir.path().join("net.d"),
                bin_dirs: vec![],
                cache_dir: self.dir.path().join("cni"),
                ipam_dir: self.dir.path().join("cni/networks"),
                run_dir: run.clone(),
                pool_size: 2,
                ..NetworkConfig::default()
            })
            .unwrap();
            let launcher = Launcher::new(&shim_binary(), &run).unwrap();
            let mut options = Options {
                root,
                run,
                default_cgroup_parent: self.cgroup.clone(),
                ..Options::default()
            };
            change(&mut options);
            let runtime = Runtime::open(options, images.clone(), network, launcher).unwrap();
            let recovered = runtime.recover().await.unwrap();
            (runtime, images, recovered)
        });
        Daemon { tokio: Some(tokio), runtime: Some(runtime), images: Some(images), recovered }
    }

    /// Name of the test image at the node's registry.
    pub fn image(&self) -> String {
        format!("127.0.0.1:{}/box:1", self.registry.port)
    }

    /// Mounts, cgroups, namespaces and processes that this test made and that are still there.
    pub fn left_over(&self) -> Vec<String> {
        let mut left = Vec::new();
        let ours = self.dir.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        // Namespaces in the pool are prepared for later and belong to the daemon, not to a pod.
        let pool = format!("{ours}/run/ns");
        left.extend(
            mounts
                .lines()
                .filter(|l| l.contains(ours) && !l.contains(&pool))
                .map(|l| format!("mount {l}")),
        );
        for dir in ["run/bundles", "run/sandboxes", "run/s", "root/sandboxes", "root/containers"] {
            for entry in
                std::fs::read_dir(self.dir.path().join(dir)).into_iter().flatten().flatten()
            {
                if entry.file_name() != "bad" {
                    left.push(format!("file {}", entry.path().display()));
                }
            }
        }
        left.extend(self.processes().iter().map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            format!("process {pid} {} {stat}", name.replace('\0', " "))
        }));
        for path in self.cgroups() {
            left.push(format!("cgroup {}", path.display()));
        }
        left
    }

    /// Our processes, known by a cgroup or a directory of this test in their files.
    fn processes(&self) -> Vec<i32> {
        let ours = self.dir.path().to_str().unwrap();
        let is_ours = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Orphans of a killed shim are the host's init's to reap, in its own time.
            if stat.contains(") Z 1 ") {
                return false;
            }
            let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = |file| String::from_utf8_lossy(&read(file)).into_owned();
            text("cmdline").contains(ours)
                || text("cgroup").contains(&self.cgroup)
                || std::fs::read_link(format!("/proc/{pid}/cwd"))
                    .is_ok_and(|cwd| cwd.starts_with(ours))
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id() as i32 && is_ours(*pid))
            .collect()
    }

    /// Cgroups of pods beneath this test's own, in every hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for base in self.cgroup_bases() {
            let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
            found.extend(entries.filter(|e| e.path().is_dir()).map(|e| e.path()));
        }
        found
    }

    fn cgroup_bases(&self) -> Vec<PathBuf> {
        let name = self.cgroup.trim_start_matches('/');
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let mut bases: Vec<_> = hierarchies.map(|entry| entry.path().join(name)).collect();
        bases.push(Path::new("/sys/fs/cgroup").join(name));
        bases.retain(|base| base.is_dir());
        bases
    }

    /// Removes even what a failed test left, so that it does not fail others.
    fn clean(&self) {
        for pid in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let ours = self.dir.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for line in mounts.lines().filter(|line| line.contains(ours)) {
            if let Some(at) = line.split(' ').nth(4) {
                let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
            }
        }
        for base in self.cgroup_bases() {
            remove_cgroups(&base);
        }
    }
}

fn remove_cgroups(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}

impl Daemon {
    pub fn rt(&self) -> Runtime {
        self.runtime.clone().unwrap()
    }

    /// Runs to the end of `work`, or fails the test.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(LIMIT, work).await.expect("too slow") };
        self.tokio.as_ref().unwrap().block_on(limited)
    }

    /// Pulls the test image.
    pub fn pull(&self, node: &Node) {
        let reference = Reference::parse(&node.image()).unwrap();
        let images = self.images.clone().unwrap();
        self.wait(async { images.pull(&reference, None, None).await }).unwrap();
    }

    /// Like kill -9: nothing is finished, nothing is told.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.runtime = None;
        self.images = None;
        if let Some(tokio) = self.tokio.take() {
            tokio.shutdown_timeout(Duration::from_secs(20));
        }
    }

    /// Waits for the end of a container.
    pub fn ended(&self, id: &str) -> Arc<ContainerView> {
        let rt = self.rt();
        self.wait(async {
            let mut events = rt.events().unwrap();
            loop {
                let view = rt.container(id).unwrap();
                if view.state == ContainerState::Exited {
                    return view;
                }
                while events.recv().await.unwrap().kind != EventKind::Stopped {}
            }
        })
    }

    pub fn sandbox(&self, config: SandboxConfig) -> String {
        self.wait(self.rt().run_sandbox(config)).unwrap().to_string()
    }

    /// Creates and starts.
    pub fn container(&self, sandbox: &str, config: ContainerConfig) -> String {
        let rt = self.rt();
        self.wait(async {
            let id = rt.create_container(sandbox, config).await.unwrap();
            rt.start_container(id.as_str()).await.unwrap();
            id.to_string()
        })
    }

    /// Output of a shell command in a container.
    pub fn sh(&self, id: &str, command: &str) -> String {
        let command = ["sh", "-c", command].map(str::to_owned).to_vec();
        let output = self.wait(self.rt().exec_sync(id, command, Some(LIMIT / 2))).unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn namespaces(network: NamespaceMode) -> NamespaceOptions {
    NamespaceOptions { network, pid: NamespaceMode::Container, ipc: NamespaceMode::Pod, user: None }
}

/// A pod; with the host's network unless changed.
pub fn pod(node: &Node, name: &str) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        },
        hostname: String::new(),
        log_directory: Some(node.dir.path().join("logs").join(name)),
        dns: None,
        port_mappings: vec![],
        labels: Map::from([("app".into(), name.into())]),
        annotations: Map::new(),
        cgroup_parent: String::new(),
        sysctls: BTreeMap::new(),
        security: SandboxSecurity {
            namespaces: namespaces(NamespaceMode::Node),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: vec![],
            groups_policy: GroupsPolicy::Merge,
            privileged: false,
            seccomp: Some(SecurityProfile::RuntimeDefault),
            apparmor: None,
        },
        overhead: None,
        resources: None,
        runtime_handler: String::new(),
        extras: SandboxExtras::default(),
    }
}

/// A container that runs a shell script.
pub fn shell(node: &Node, name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata { name: name.into(), attempt: 0 },
        image: ImageSpec { image: node.image(), ..ImageSpec::default() },
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        args: vec![],
        working_dir: String::new(),
        envs: vec![],
        mounts: vec![],
        devices: vec![],
        cdi_devices: vec![],
        labels: Map::from([("role".into(), name.into())]),
        annotations: Map::new(),
        log_path: Some(format!("{name}.log").into()),
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: Resources::default(),
        security: ContainerSecurity {
            namespaces: namespaces(NamespaceMode::Node),
            privileged: false,
            capabilities: CapabilityRequest::default(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: vec![],
            groups_policy: GroupsPolicy::Merge,
            no_new_privs: false,
            masked_paths: vec![],
            readonly_paths: vec![],
            seccomp: Some(SecurityProfile::RuntimeDefault),
            apparmor: None,
        },
        stop_signal: None,
        extras: ContainerExtras::default(),
    }
}

/// A volume of the host.
pub fn volume(host: &Path, container: &str) -> Mount {
    Mount {
        container_path: container.into(),
        source: MountSource::Host(host.to_owned()),
        readonly: false,
        recursive_read_only: false,
        selinux_relabel: false,
        propagation: Propagation::Private,
        uid_mappings: vec![],
        gid_mappings: vec![],
    }
}
