//! Containers for tests: a busybox root, a bundle, the real shim binary, and tidying up.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use orlop_sys::process::{Command, Program};
use orlop_task::protocol::shim::CreateOptions;
use orlop_task::{CreateRequest, Launcher, Shim};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The shim under test; `ORLOP_TEST_SHIM` names another build of it.
pub static SHIM: LazyLock<PathBuf> = LazyLock::new(|| {
    std::env::var_os("ORLOP_TEST_SHIM")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_orlop-shim")), PathBuf::from)
});

static LAUNCH_DIR: LazyLock<(TempDir, Launcher)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let launcher = Launcher::new(&SHIM, dir.path()).unwrap();
    (dir, launcher)
});

/// A container and all that must be gone in the end.
pub struct Container {
    pub id: String,
    pub dir: TempDir,
    pub bundle: PathBuf,
    pub shim: Shim,
}

pub fn log_path(dir: &Path) -> PathBuf {
    dir.join("0.log")
}

/// A root file system of busybox.
pub fn rootfs(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for tool in [
        "sh", "sleep", "cat", "echo", "true", "false", "kill", "dd", "yes", "head", "id", "ls",
        "stty", "tail", "mkdir", "usleep", "test",
    ] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    root
}

/// A spec that runs `args`.
pub fn spec(id: &str, root: &Path, args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": process(args),
        "root": {"path": root, "readonly": true},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
        ],
        "linux": {
            "cgroupsPath": format!("/orlop-test-{id}"),
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
        },
    })
}

pub fn process(args: &[&str]) -> Value {
    json!({
        "args": args,
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        "noNewPrivileges": true,
    })
}

pub fn process_json(args: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&process(args)).unwrap()
}

pub fn unique() -> String {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    format!("t{:016x}", u64::from_ne_bytes(bytes))
}

impl Container {
    /// The shim runs, nothing is created yet.
    pub async fn launch(change: impl FnOnce(&mut Value), args: &[&str]) -> Self {
        let id = unique();
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join(&id);
        std::fs::create_dir(&bundle).unwrap();
        let mut spec = spec(&id, &rootfs(dir.path()), args);
        change(&mut spec);
        std::fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        let shim = LAUNCH_DIR.1.launch(&id, &bundle, None).await.unwrap();
        Self { id, dir, bundle, shim }
    }

    pub fn request(&self) -> CreateRequest {
        let log = format!("cri://{}", log_path(self.dir.path()).display());
        CreateRequest {
            stdout: log.clone(),
            stderr: log,
            options: CreateOptions { exit_on_delete: true, ..CreateOptions::default() },
            ..CreateRequest::default()
        }
    }

    /// Created, not started.
    pub async fn create(args: &[&str]) -> Self {
        let container = Self::launch(|_| {}, args).await;
        container.shim.client.create(&container.bundle, container.request()).await.unwrap();
        container
    }

    /// Running.
    pub async fn run(args: &[&str]) -> Self {
        let container = Self::create(args).await;
        container.shim.client.start("").await.unwrap();
        container
    }

    /// The log without its times.
    pub fn log(&self) -> Vec<String> {
        texts(&log_path(self.dir.path()))
    }

    /// Kills and deletes it; the shim ends with it.
    pub async fn finish(self) {
        let client = &self.shim.client;
        client.kill("", 9, true).await.unwrap();
        client.wait("").await.unwrap();
        client.delete("").await.unwrap();
        self.reaped().await;
        assert!(!Path::new(&format!("/sys/fs/cgroup/memory/orlop-test-{}", self.id)).exists());
        assert!(!Path::new(&format!("/sys/fs/cgroup/orlop-test-{}", self.id)).exists());
    }

    /// The shim has ended and been reaped.
    pub async fn reaped(&self) {
        self.shim.client.closed().await;
        while Path::new(&format!("/proc/{}", self.shim.pid)).exists() {
            tokio::task::yield_now().await;
        }
    }

    /// A line of /proc/<shim>/<file> with this name.
    pub fn shim_proc(&self, file: &str, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.shim.pid)).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
    }

    pub fn shim_fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.shim.pid)).unwrap().count()
    }
}

pub fn texts(path: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(path).unwrap();
    log.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

impl Drop for Container {
    /// Whatever a failed test left: as containerd tidies up after a dead shim.
    fn drop(&mut self) {
        let mut command = Command::new(Program::Path(&SHIM));
        command.args(["orlop-shim", "-id", &self.id, "-bundle"]).arg(&self.bundle).arg("delete");
        if let Ok(child) = command.spawn() {
            let _ = child.pidfd.wait();
        }
    }
}
