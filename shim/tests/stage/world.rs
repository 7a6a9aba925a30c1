//! A container for a test: a busybox root below an overlay, a cgroup of its own, and tidying up.

use crate::stage::{
    ExecRequest, InitRequest, RootfsMount, StageError, Staged, Stdio, spawn_exec, spawn_init,
};
use oci_spec::runtime::{Process, Spec};
use orlop_sys::cgroup::{Cgroup, Hierarchies};
use orlop_sys::process::{Exit, sealed_copy};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

pub static SELF: LazyLock<OwnedFd> =
    LazyLock::new(|| sealed_copy(Path::new(env!("CARGO_BIN_EXE_orlop-shim"))).unwrap());

/// A root, a spec to change, a group.
pub struct World {
    pub dir: TempDir,
    pub spec: Value,
    pub cgroup: Cgroup,
    /// Further options of the overlay.
    pub layers: Vec<String>,
}

/// What a process left behind.
#[derive(Debug)]
pub struct Outcome {
    pub output: String,
    pub exit: Exit,
    pub warnings: Vec<String>,
}

impl World {
    pub fn new(script: &str) -> Self {
        Self::with(script, |_| {})
    }

    /// A world whose spec (and so its limits) is changed before anything is made.
    pub fn with(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        busybox_root(&dir.path().join("lower"));
        for name in ["upper", "work", "rootfs"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let path = format!(
            "/orlop-test-stage-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let mut spec = default_spec(script);
        change(&mut spec);
        let resources =
            serde_json::from_value(spec["linux"]["resources"].clone()).unwrap_or_default();
        let cgroup =
            Cgroup::create(&Hierarchies::detect().unwrap(), &path, Some(&resources)).unwrap();
        Self { dir, spec, cgroup, layers: Vec::new() }
    }

    pub fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    pub fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub fn oci(&self) -> Spec {
        serde_json::from_value(self.spec.clone()).unwrap()
    }

    pub fn overlay(&self) -> RootfsMount {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let mut options = vec![
            format!("lowerdir={}", at("lower")),
            format!("upperdir={}", at("upper")),
            format!("workdir={}", at("work")),
            "volatile".to_owned(),
        ];
        options.extend(self.layers.iter().cloned());
        RootfsMount { kind: "overlay".into(), source: "overlay".into(), options }
    }

    pub fn start(&self, stdio: Stdio<'_>) -> Result<Staged, StageError> {
        let (spec, rootfs) = (self.oci(), [self.overlay()]);
        let mut staged = spawn_init(&InitRequest {
            spec: &spec,
            bundle: self.dir.path(),
            rootfs: &rootfs,
            stdio,
            cgroup: Some(&self.cgroup),
            init_only: false,
            reaper: false,
            hooks: None,
            self_exe: SELF.as_fd(),
        })?;
        staged.wait_ready()?;
        staged.release()?;
        staged.wait_running()?;
        Ok(staged)
    }

    /// Runs to the end.
    pub fn run(&self) -> Result<Outcome, StageError> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let fd = Some(write.as_fd());
        let staged = self.start(Stdio::Fds([None, fd, fd]))?;
        drop(write);
        Ok(finish(read, &staged))
    }

    /// The output of a container that must start.
    pub fn output(&self) -> String {
        let outcome = self.run().unwrap();
        assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.output);
        outcome.output
    }

    /// Starts with its input held open: it lives until the returned pipe is dropped.
    pub fn hold(&self) -> (Staged, OwnedFd) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (self.start(Stdio::Fds([Some(read.as_fd()), None, None])).unwrap(), write)
    }

    pub fn exec(&self, init: &Staged, process: &Value) -> Result<Outcome, StageError> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let process: Process = serde_json::from_value(process.clone()).unwrap();
        let fd = Some(write.as_fd());
        let mut staged = spawn_exec(&ExecRequest {
            process: &process,
            spec: &self.oci(),
            init_pidfd: init.child.pidfd.as_fd(),
            init_pid: init.child.pid,
            stdio: Stdio::Fds([None, fd, fd]),
            cgroup: Some(&self.cgroup),
            self_exe: SELF.as_fd(),
        })?;
        staged.wait_ready()?;
        staged.release()?;
        staged.wait_running()?;
        drop(write);
        Ok(finish(read, &staged))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all();
        self.cgroup.delete().unwrap();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !table.contains(&self.dir.path().display().to_string()),
            "a mount is left: {table}"
        );
    }
}

fn finish(read: OwnedFd, staged: &Staged) -> Outcome {
    let mut output = String::new();
    File::from(read).read_to_string(&mut output).unwrap();
    Outcome { output, exit: staged.child.pidfd.wait().unwrap(), warnings: staged.warnings.clone() }
}

fn busybox_root(root: &Path) {
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "usr/bin", "home/user"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for tool in [
        "sh", "cat", "ls", "grep", "id", "pwd", "stat", "readlink", "hostname", "mount", "mknod",
        "touch", "sleep", "sort", "wc", "dd", "tty", "stty", "env", "ps", "kill", "true", "head",
        "od", "chroot", "unshare", "umount",
    ] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
}

pub fn default_spec(script: &str) -> Value {
    let caps = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_NET_BIND_SERVICE",
    ];
    let names: Vec<&str> = caps.to_vec();
    let profile = serde_json::to_value(orlop_sys::seccomp::default_profile(&names)).unwrap();
    json!({
        "ociVersion": "1.2.0",
        "hostname": "box",
        "root": { "path": "rootfs" },
        "process": {
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
            "noNewPrivileges": true,
            "capabilities": { "bounding": caps, "permitted": caps, "effective": caps },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" }],
            "maskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": profile,
        },
    })
}

/// A process for an exec: the container's own with another script.
pub fn process(world: &World, script: &str) -> Value {
    let mut process = world.spec["process"].clone();
    process["args"] = json!(["sh", "-c", script]);
    process
}
