//! CheckpointContainer, by CRIU.
//!
//! CRIU is a program of the host's administrator that knows this kernel's insides; whether it can do
//! its work here only its attempt tells. The container goes on running. What it wrote is packed as the
//! field does it: `checkpoint/` with CRIU's images, `dump.log`, `spec.dump` (the OCI spec),
//! `config.dump` (what the container was), `rootfs-diff.tar` (its writable layer).

use super::Container;
use crate::context::{Context, random_id};
use crate::error::io;
use crate::kept::blocking;
use crate::{ContainerState, ContainerView, Error, ErrorKind, Result};
use orlop_spec::request::NamespaceMode;
use orlop_sys::process::{Child, Command, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it may take where the request does not say.
const PATIENCE: Duration = Duration::from_secs(600);

/// Writes a checkpoint of a running container to the tar archive `location`.
pub(crate) async fn checkpoint(
    context: Arc<Context>,
    container: Arc<Container>,
    location: PathBuf,
    limit: Option<Duration>,
) -> Result<()> {
    let Some(criu) = context.options.criu.clone() else {
        return Err(cannot(
            &container,
            "checkpoints are off on this node: install CRIU and set runtime.criu to its path",
        ));
    };
    check(&location)?;
    let _turn = container.turn.lock().await;
    if container.state() != ContainerState::Running {
        return Err(container.wrong_state("only a running container can be checkpointed"));
    }
    if !criu.is_file() {
        let why = format!("{} is not there: install CRIU, or mend runtime.criu", criu.display());
        return Err(cannot(&container, why));
    }
    let upper = context.images.rootfs(container.id.as_str()).map(|rootfs| rootfs.upper);
    let task = Task {
        criu,
        view: container.view(),
        own_pids: container.view().config.security.namespaces.pid == NamespaceMode::Container,
        netns: context.index.sandbox(container.sandbox.as_str())?.view().netns.clone(),
        upper,
        limit: limit.unwrap_or(PATIENCE),
    };
    blocking(move || task.run(&location)).await
}

fn cannot(container: &Container, why: impl Into<String>) -> Error {
    let kind = ErrorKind::FailedPrecondition;
    Error::Checkpoint { id: container.id.clone(), why: why.into(), kind }
}

/// An absolute path of a file that may be written, in a directory that is there.
fn check(location: &Path) -> Result<()> {
    let wrong = |why: &str| Error::Invalid {
        field: "location",
        value: location.display().to_string(),
        why: why.to_owned(),
    };
    if !location.is_absolute() || location.file_name().is_none() {
        return Err(wrong("give the absolute path of a tar archive to be written"));
    }
    if location.is_dir() {
        return Err(wrong("it is a directory: give the path of a file"));
    }
    match location.parent() {
        Some(parent) if parent.is_dir() => Ok(()),
        _ => Err(wrong("its directory does not exist")),
    }
}

struct Task {
    criu: PathBuf,
    view: Arc<ContainerView>,
    own_pids: bool,
    netns: Option<PathBuf>,
    upper: Option<PathBuf>,
    limit: Duration,
}

impl Task {
    /// Blocking. Works beside the archive, so that its name appears when it is whole.
    fn run(&self, location: &Path) -> Result<()> {
        let parent = location.parent().unwrap_or(Path::new("/"));
        let suffix: String = random_id().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let work = parent.join(format!(".orlop-checkpoint-{suffix}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&work);
        made.map_err(io("making directory", &work))?;
        let done = self.dump(&work).and_then(|()| {
            let whole = work.join("whole.tar");
            self.pack(&work, &whole).map_err(io("packing the checkpoint in", &work))?;
            std::fs::rename(&whole, location).map_err(io("writing", location))
        });
        let removed = crate::host::remove_tree(&work);
        done.and(removed)
    }

    fn dump(&self, work: &Path) -> Result<()> {
        let images = work.join("checkpoint");
        std::fs::create_dir(&images).map_err(io("making directory", &images))?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())
            .map_err(|error| io("opening", "/dev/null")(error.into()))?;
        let mut command = Command::new(Program::Path(&self.criu));
        command.arg("criu");
        for argument in self.arguments(work, &images) {
            command.arg(argument);
        }
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.fd(0, null.as_fd()).fd(1, null.as_fd()).fd(2, null.as_fd());
        let child = command.spawn().map_err(|error| self.failed(error.to_string()))?;
        match wait(&child, self.limit) {
            Some(true) => Ok(()),
            Some(false) => Err(self.failed(format!("CRIU: {}", complaint(&work.join("dump.log"))))),
            None => Err(Error::Checkpoint {
                id: self.view.id.clone(),
                why: format!("it was not done within {:?}, and CRIU was ended", self.limit),
                kind: ErrorKind::DeadlineExceeded,
            }),
        }
    }

    fn failed(&self, why: String) -> Error {
        Error::Checkpoint { id: self.view.id.clone(), why, kind: ErrorKind::FailedPrecondition }
    }

    fn arguments(&self, work: &Path, images: &Path) -> Vec<String> {
        let pid = self.view.pid.unwrap_or(0);
        let mut arguments: Vec<String> = [
            "dump",
            "--leave-running",
            "--manage-cgroups=ignore",
            "--tcp-established",
            "--ext-unix-sk",
            "--file-locks",
            // Volumes and files of the pod are the host's, and are there again at a restore.
            "--external=mnt[]:ms",
            "--log-file=dump.log",
            "-v3",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--tree={pid}"));
        arguments.push(format!("--images-dir={}", images.display()));
        arguments.push(format!("--work-dir={}", work.display()));
        if self.view.config.tty {
            arguments.push("--shell-job".into());
        }
        // What belongs to the pod is not the container's to dump.
        let external = |kind: &str, path: &Path| {
            let inode = rustix::fs::stat(path).ok()?.st_ino;
            Some(format!("--external={kind}[{inode}]:pod-{kind}"))
        };
        arguments.extend(self.netns.as_deref().and_then(|path| external("net", path)));
        if !self.own_pids {
            arguments.extend(external("pid", Path::new(&format!("/proc/{pid}/ns/pid"))));
        }
        arguments
    }

    fn pack(&self, work: &Path, whole: &Path) -> std::io::Result<()> {
        if let Some(upper) = &self.upper {
            super::diff::pack(upper, &work.join("rootfs-diff.tar"))?;
        }
        let view = &self.view;
        let config = json!({
            "id": view.id,
            "name": view.config.metadata.name,
            "rootfsImage": view.image_id,
            "rootfsImageName": view.image_name,
            "rootfsImageRef": view.image_ref,
            "runtime": "orlop",
            "createdTime": view.created_at,
            "sandbox": view.sandbox,
        });
        std::fs::write(work.join("config.dump"), config.to_string())?;
        std::fs::copy(view.bundle.join("config.json"), work.join("spec.dump"))?;
        let mut archive = tar::Builder::new(File::create(whole)?);
        archive.follow_symlinks(false);
        for name in ["config.dump", "spec.dump", "dump.log", "rootfs-diff.tar"] {
            let path = work.join(name);
            if path.exists() {
                archive.append_path_with_name(&path, name)?;
            }
        }
        archive.append_dir_all("checkpoint", work.join("checkpoint"))?;
        archive.into_inner()?.sync_all()
    }
}

/// Whether it succeeded; `None`: it took too long and was killed.
fn wait(child: &Child, limit: Duration) -> Option<bool> {
    let end = Instant::now() + limit;
    loop {
        match child.pidfd.try_wait() {
            Ok(Some(exit)) => return Some(exit.status() == 0),
            Ok(None) => {}
            Err(_) => return Some(false),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = child.pidfd.send_signal(9);
            let _ = child.pidfd.wait();
            return None;
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let _ = poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&timeout));
    }
}

/// What CRIU's log gives as the cause: its first error.
fn complaint(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.split_once("Error ").map(|(_, rest)| rest));
    line.map_or_else(|| "it said nothing; try `criu check`".to_owned(), str::to_owned)
}
