//! Starting a shim, and finding a running one again.

use crate::{Bundle, Client, ForeignRuntime, TaskError, socket};
use orlop_sys::process::{Child, Command, Pidfd, Program, sealed_copy};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::Instrument;

/// Starts shims, all from one sealed copy of the shim's binary in memory: no image, container or
/// package upgrade can change what runs, and all shims share its pages.
#[derive(Debug, Clone)]
pub struct Launcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: OwnedFd,
    sockets: PathBuf,
    /// Makes names of sockets differ between containers whose ids begin alike.
    count: AtomicU64,
}

/// A shim that runs, and the connection to it.
#[derive(Debug, Clone)]
pub struct Shim {
    /// The connection; clones share it.
    pub client: Client,
    /// The shim's own process id.
    pub pid: u32,
    /// Its socket.
    pub address: PathBuf,
}

impl Launcher {
    /// Copies the shim's binary into a sealed memory file, and makes `<run_dir>/s` (0700) for the sockets.
    pub fn new(shim_path: &Path, run_dir: &Path) -> Result<Self, TaskError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TaskError::Bundle { path, source }
        };
        let program = sealed_copy(shim_path).map_err(io::Error::from).map_err(failed(shim_path))?;
        let sockets = run_dir.join("s");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&sockets)
            .map_err(failed(&sockets))?;
        Ok(Self(Arc::new(Inner { program, sockets, count: AtomicU64::new(0) })))
    }

    /// Starts the shim of container `id`; `bundle` exists and holds `config.json`. Returns as soon
    /// as the process is there: the socket listens already, so the first request simply waits in it.
    ///
    /// With `foreign` the container will run in that shim, and what is started here is its keeper,
    /// which answers in its place.
    pub async fn launch(
        &self,
        id: &str,
        bundle: &Path,
        foreign: Option<&ForeignRuntime>,
    ) -> Result<Shim, TaskError> {
        let span = tracing::error_span!(
            target: "orlop::operation",
            "shim.start",
            outcome = tracing::field::Empty
        );
        let started = self.start(id, bundle, foreign).instrument(span.clone()).await;
        span.record("outcome", if started.is_ok() { "ok" } else { "failed" });
        started
    }

    async fn start(
        &self,
        id: &str,
        bundle: &Path,
        foreign: Option<&ForeignRuntime>,
    ) -> Result<Shim, TaskError> {
        let (inner, owned_id, owned_bundle) =
            (Arc::clone(&self.0), id.to_owned(), bundle.to_owned());
        let foreign = foreign.cloned();
        let spawned = tokio::task::spawn_blocking(move || {
            if let Some(foreign) = &foreign {
                Bundle::new(&owned_bundle).set_foreign(foreign)?;
            }
            inner.spawn(&owned_id, &owned_bundle, foreign.is_some())
        })
        .await;
        let (child, address) = spawned.map_err(|error| launch_error(id, error))??;
        let pid = child.pid.unsigned_abs();
        reap_later(child.pidfd);
        let client = Client::connect(id, &address).await?;
        Ok(Shim { client, pid, address })
    }
}

impl Launcher {
    /// Starts what answers for the names of a network's containers: the shim's binary as
    /// `orlop-shim names` with these arguments. Returns when it serves, or with why it does not.
    /// Blocks; needs a tokio runtime, for reaping it.
    pub fn names(&self, arguments: &[&str]) -> io::Result<()> {
        let (read, write) = io::pipe()?;
        let mut command = Command::new(Program::Fd(self.0.program.as_fd()));
        command.args(["orlop-shim", "names"]).args(arguments);
        command.fd(3, write.as_fd()).new_session().current_dir(Path::new("/"));
        let child = command.spawn().map_err(|error| io::Error::other(error.to_string()))?;
        drop(write);
        reap_later(child.pidfd);
        // It binds its addresses and says so, or ends; neither takes long.
        match io::read_to_string(read)?.as_str() {
            "ok" => Ok(()),
            "" => Err(io::Error::other("it ended without a word")),
            why => Err(io::Error::other(why.to_owned())),
        }
    }

    /// Writes the shim's binary to a new file.
    pub fn copy_program(&self, to: &Path) -> io::Result<()> {
        // Through a name: a second description starts at the beginning.
        let from = format!("/proc/self/fd/{}", self.0.program.as_raw_fd());
        std::fs::copy(from, to).map(|_| ())
    }
}

impl Inner {
    /// Binds the socket, records it, and executes the shim with it.
    fn spawn(&self, id: &str, bundle: &Path, keeper: bool) -> Result<(Child, PathBuf), TaskError> {
        let address = self.free_address(id);
        let bundle_error = |path: &Path| {
            let path = path.to_owned();
            move |source| TaskError::Bundle { path, source }
        };
        let listener = socket::listen(&address).map_err(bundle_error(&address))?;
        let file = Bundle::new(bundle).address_file();
        let text = format!("unix://{}", address.display());
        let mut command = Command::new(Program::Fd(self.program.as_fd()));
        command
            .args(["orlop-shim", "-namespace", "orlop", "-id", id, "-bundle"])
            .arg(bundle)
            .arg(if keeper { "keep" } else { "serve" });
        if let (true, Some(path)) = (keeper, std::env::var_os("PATH")) {
            // Where foreign shims look for their runtimes.
            command.env("PATH", path);
        }
        command.fd(3, listener.as_fd()).new_session().current_dir(bundle);
        let spawned = std::fs::write(&file, text)
            .map_err(bundle_error(&file))
            .and_then(|()| command.spawn().map_err(|error| launch_error(id, error)));
        match spawned {
            Ok(child) => Ok((child, address)),
            Err(error) => {
                // Nobody will ever answer there.
                let _ = std::fs::remove_file(&address);
                Err(error)
            }
        }
    }

    /// A short path that nothing has.
    fn free_address(&self, id: &str) -> PathBuf {
        let short: String = id.chars().take(16).collect();
        loop {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let name = if count == 0 { short.clone() } else { format!("{short}.{count:x}") };
            let path = self.sockets.join(name);
            if path.symlink_metadata().is_err() {
                return path;
            }
        }
    }
}

fn launch_error(id: &str, reason: impl std::fmt::Display) -> TaskError {
    TaskError::Launch { id: id.to_owned(), reason: reason.to_string() }
}

/// Reaps our child when it ends. A shim that outlives us is reaped by init.
#[expect(
    deprecated,
    reason = "its successor is unsafe; an OwnedFd stays open as long as AsyncFd holds it"
)]
fn reap_later(pidfd: Pidfd) {
    tokio::spawn(async move {
        let Ok(watched) = pidfd.as_fd().try_clone_to_owned() else { return };
        let Ok(watched) = AsyncFd::with_interest(watched, Interest::READABLE) else {
            return;
        };
        if watched.readable().await.is_ok() {
            // The status says nothing: the container's is in its bundle.
            let _ = pidfd.try_wait();
        }
    });
}

impl Shim {
    /// Connects to the shim that an earlier daemon left running, by what the bundle says.
    /// [`TaskError::is_gone`] tells that there is none: then [`Bundle::exit_record`] may still know the end.
    pub async fn connect(bundle: &Path) -> Result<Self, TaskError> {
        let bundle = Bundle::new(bundle);
        let address = bundle.address().map_err(|error| match error {
            TaskError::Bundle { path, source } if source.kind() == io::ErrorKind::NotFound => {
                TaskError::Unreachable { id: bundle.id(), address: path, source }
            }
            other => other,
        })?;
        let client = Client::connect(&bundle.id(), &address).await?;
        let (pid, _) = client.pids_of_shim().await?;
        Ok(Self { client, pid, address })
    }
}
