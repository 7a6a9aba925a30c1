//! The shim under the real containerd, as `io.containerd.orlop.v2`: a private containerd with its
//! own directories, driven by `ctr`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test: all of it"
)]

mod common;

use common::{SHIM, rootfs, unique};
use orlop_sys::process::{Child, Command, Program};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CONTAINERD: &str = "/usr/bin/containerd";
const CTR: &str = "/usr/bin/ctr";

struct Containerd {
    dir: TempDir,
    root: PathBuf,
    child: Child,
}

impl Containerd {
    /// Starts it and waits until it answers.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        symlink(&*SHIM, bin.join("containerd-shim-orlop-v2")).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("c.sock"),
            path("c.ttrpc"),
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(Program::Path(Path::new(CONTAINERD)));
        command.args(["containerd", "-c", &path("config.toml")]);
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        command.fd(1, log.as_fd()).fd(2, log.as_fd()).death_signal(9);
        let child = command.spawn().unwrap();
        let root = rootfs(dir.path());
        let this = Self { dir, root, child };
        while this.ctr(&["version"]).0 != 0 {
            assert_eq!(this.child.pidfd.try_wait().unwrap(), None, "containerd ended");
        }
        this
    }

    /// Runs ctr: its exit code and what it printed.
    fn ctr(&self, args: &[&str]) -> (i32, String) {
        let path = self.dir.path().join(format!("ctr-{}", unique()));
        let output = std::fs::File::create(&path).unwrap();
        let mut command = Command::new(Program::Path(Path::new(CTR)));
        command
            .args([
                "ctr",
                "-a",
                &self.dir.path().join("c.sock").display().to_string(),
                "-n",
                "orlop-test",
            ])
            .args(args);
        command.env("PATH", "/usr/bin:/bin").fd(1, output.as_fd()).fd(2, output.as_fd());
        let end = command.spawn().unwrap().pidfd.wait().unwrap();
        (end.status(), std::fs::read_to_string(&path).unwrap())
    }

    fn run(&self, flag: &str, id: &str, command: &[&str]) -> (i32, String) {
        let (cgroup, root) = (format!("/orlop-test-{id}"), self.root.display().to_string());
        let mut args = vec![
            "run",
            flag,
            "--cgroup",
            &cgroup,
            "--runtime",
            "io.containerd.orlop.v2",
            "--rootfs",
            &root,
            id,
        ];
        args.extend(command);
        self.ctr(&args)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.pidfd.send_signal(15);
        let _ = self.child.pidfd.wait();
    }
}

#[test]
fn containerd_runs_containers_with_our_shim() {
    if !Path::new(CONTAINERD).exists() || !Path::new(CTR).exists() {
        eprintln!("skipped: Debian's package containerd is not installed");
        return;
    }
    let containerd = Containerd::start();
    let short = unique();
    let (code, output) = containerd.run("--rm", &short, &["/bin/sh", "-c", "echo hello; exit 3"]);
    assert_eq!((code, output.as_str()), (3, "hello\n"));

    let long = unique();
    let (code, output) = containerd.run("-d", &long, &["/bin/sleep", "1000"]);
    assert_eq!(code, 0, "{output}");
    let (code, output) = containerd.ctr(&[
        "task",
        "exec",
        "--exec-id",
        "e1",
        &long,
        "/bin/sh",
        "-c",
        "echo in exec; exit 4",
    ]);
    assert_eq!((code, output.as_str()), (4, "in exec\n"));
    assert_eq!(containerd.ctr(&["task", "pause", &long]).0, 0);
    assert!(containerd.ctr(&["task", "ls"]).1.contains("PAUSED"));
    assert_eq!(containerd.ctr(&["task", "resume", &long]).0, 0);
    let (code, output) = containerd.ctr(&["task", "metrics", &long]);
    assert!(code == 0 && output.contains("memory.usage_in_bytes"), "{output}");
    let (code, output) = containerd.ctr(&["task", "rm", "--force", &long]);
    assert_eq!(code, 0, "{output}");
    assert_eq!(containerd.ctr(&["container", "rm", &long]).0, 0);
    for id in [short, long] {
        assert!(!Path::new(&format!("/sys/fs/cgroup/memory/orlop-test-{id}")).exists());
    }
}
