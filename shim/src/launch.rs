//! The actions of the command line.

use crate::args::{Action, Args};
use crate::container::{cgroup_path, load_spec, record};
use crate::events::{Publisher, timestamp};
use crate::foreign::Foreign;
use crate::hooks::{Hooked, run_each};
use crate::poll::Poller;
use crate::publish::publish;
use crate::server::Server;
use crate::shim::Shim;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use orlop_model::Timestamp;
use orlop_sys::cgroup::{Cgroup, Hierarchies};
use orlop_sys::process::{Command, Pidfd, Program, sealed_copy, start_time};
use orlop_task::protocol::task::DeleteResponse;
use orlop_task::{Bundle, ExitRecord};
use prost::Message;
use rustix::fs::{Mode, OFlags, SealFlags};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where `start` puts sockets; ours alone.
const SOCKETS: &str = "/run/orlop/s";
const SELF: &str = "/proc/self/exe";

/// Why a shim does not do what its command line says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("{0}: {1}")]
    Io(String, io::Error),
    #[error(transparent)]
    Sys(#[from] orlop_sys::error::Error),
    #[error(transparent)]
    Spawn(#[from] orlop_sys::process::SpawnError),
    #[error(transparent)]
    Task(#[from] orlop_task::TaskError),
}

pub(crate) fn at<E: Into<io::Error>>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Error {
    move |error| Error::Io(what.to_string(), error.into())
}

pub(crate) fn run(args: Args) -> Result<(), Error> {
    match args.action {
        Action::Serve => serve(args, false),
        Action::Keep => serve(args, true),
        Action::Init => {
            orlop_sys::process::reap_until_terminated();
            Ok(())
        }
        Action::Publish => publish(&args),
        Action::Start => start(&args),
        Action::Delete => delete(&args),
        Action::Version => {
            let text = format!("orlop-shim {}\n", env!("CARGO_PKG_VERSION"));
            io::stdout().write_all(text.as_bytes()).map_err(at("stdout"))
        }
    }
}

/// Becomes the shim: descriptor 3 listens already.
fn serve(args: Args, keeper: bool) -> Result<(), Error> {
    let listener = orlop_sys::descriptors::take_passed()?;
    // Before anything else: a child that ends must find us listening.
    let mask = SigSet::all();
    mask.thread_block().map_err(at("block signals"))?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(at("signalfd"))?;
    let bundle = bundle_dir(&args)?;
    std::env::set_current_dir(&bundle).map_err(at(bundle.display()))?;
    // A session leader already when our launcher made us; then this fails and nothing is missing.
    let _ = rustix::process::setsid();
    // What containers leave behind comes to us to be reaped.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(at("become a subreaper"))?;
    // Run from a memory file, our name would be a number.
    let _ = rustix::thread::set_name(c"orlop-shim");
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let self_exe = sealed_self()?;
    // Known now: the bundle may be gone before we are.
    let socket = Bundle::new(&bundle).address();
    record::write_shim(&bundle, &args.id).map_err(at("shim.json"))?;
    let publisher = std::env::var_os("TTRPC_ADDRESS")
        .filter(|address| !address.is_empty())
        .map(|address| Publisher::new(PathBuf::from(address), args.namespace.clone()));
    let poller = Poller::new().map_err(at("epoll"))?;
    let foreign = match keeper {
        true => Bundle::new(&bundle).foreign()?.map(Foreign::new),
        false => None,
    };
    let shim = Shim::new(poller, args.id, bundle, self_exe, publisher, foreign);
    let result = Server::new(shim, listener, signals).and_then(|mut server| server.run());
    if let Ok(socket) = socket {
        // Whoever made it may have removed it.
        let _ = std::fs::remove_file(socket);
    }
    result.map_err(at("event loop"))
}

/// Our own binary, sealed: the very one that we run from when our launcher has done its part.
fn sealed_self() -> Result<OwnedFd, Error> {
    let own = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(at(SELF))?;
    match rustix::fs::fcntl_get_seals(&own) {
        Ok(seals) if seals.contains(SealFlags::WRITE | SealFlags::SEAL) => Ok(own),
        _ => Ok(sealed_copy(Path::new(SELF))?),
    }
}

/// What containerd calls: leaves a shim behind and says where it listens.
fn start(args: &Args) -> Result<(), Error> {
    let bundle = bundle_dir(args)?;
    let (listener, address) = listen()?;
    let program = sealed_copy(Path::new(SELF))?;
    let mut command = Command::new(Program::Fd(program.as_fd()));
    command.args([
        "orlop-shim",
        "-namespace",
        &args.namespace,
        "-id",
        &args.id,
        "-address",
        &args.address,
        "-bundle",
    ]);
    command.arg(&bundle).arg("serve").fd(3, listener.as_fd()).new_session().current_dir(&bundle);
    if let Some(events) = std::env::var_os("TTRPC_ADDRESS") {
        command.env("TTRPC_ADDRESS", events);
    }
    let uri = format!("unix://{}", address.display());
    std::fs::write(bundle.join("address"), &uri).map_err(at("address"))?;
    let result = command.spawn();
    if result.is_err() {
        remove_socket(&bundle);
    }
    result?;
    io::stdout().write_all(greeting(&uri).as_bytes()).map_err(at("stdout"))
}

/// The answer to `start`: containerd 2 names the highest version that it speaks and takes
/// parameters in JSON, earlier ones take the bare address.
fn greeting(uri: &str) -> String {
    let newest =
        std::env::var("MAX_SHIM_VERSION").ok().and_then(|version| version.parse::<u32>().ok());
    match newest {
        Some(newest) if newest >= 3 => {
            format!(r#"{{"version":3,"address":"{uri}","protocol":"ttrpc"}}"#)
        }
        _ => uri.to_owned(),
    }
}

/// A socket of our own: 0600 in a directory of 0700.
fn listen() -> Result<(UnixListener, PathBuf), Error> {
    let dir = Path::new(SOCKETS);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(SOCKETS))?;
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(at("getrandom"))?;
    let path = dir.join(format!("{:016x}", u64::from_ne_bytes(random)));
    let listener = UnixListener::bind(&path).map_err(at(path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(at(path.display()))?;
    Ok((listener, path))
}

/// Tidies up after a shim that has died; its container dies with it. The answer is a DeleteResponse.
fn delete(args: &Args) -> Result<(), Error> {
    let dir = bundle_dir(args)?;
    let bundle = Bundle::new(&dir);
    if let Ok(Some(shim)) = bundle.shim()
        && let Ok(pidfd) = Pidfd::open(shim.pid)
        // Only if the number still means the same process.
        && start_time(shim.pid).is_ok_and(|start| start == shim.start_time)
    {
        let _ = pidfd.send_signal(9);
    }
    if let Err(error) = orlop_task::clear_foreign(&bundle) {
        crate::diagnostics::note(&error.to_string());
    }
    // Without a spec nothing was ever created.
    if let Ok(spec) = load_spec(&dir) {
        if let Ok(cgroup) = Cgroup::open(&Hierarchies::detect()?, &cgroup_path(&spec, &args.id)) {
            cgroup.kill_all()?;
            cgroup.delete()?;
        }
        // A shim that ended in order has removed its socket, and has run them.
        if bundle.address().is_ok_and(|socket| socket.exists())
            && let Ok(Some(hooked)) = Hooked::of(&spec, &args.id, &dir)
        {
            for failure in run_each(&hooked.hooks.poststop, &hooked.state("stopped", 0)) {
                crate::diagnostics::note(&failure);
            }
        }
    }
    remove_socket(&dir);
    let killed = ExitRecord {
        version: 1,
        pid: 0,
        code: crate::container::KILLED,
        exited_at: Timestamp::now().0,
        oom_killed: false,
    };
    let exit = bundle.exit_record().ok().flatten().unwrap_or(killed);
    let answer = DeleteResponse {
        pid: exit.pid.unsigned_abs(),
        exit_status: exit.code,
        exited_at: Some(timestamp(Timestamp(exit.exited_at))),
    };
    io::stdout().write_all(&answer.encode_to_vec()).map_err(at("stdout"))
}

/// The bundle, absolute: what is recorded must mean the same from everywhere.
fn bundle_dir(args: &Args) -> Result<PathBuf, Error> {
    let dir = if args.bundle.as_os_str().is_empty() { Path::new(".") } else { &args.bundle };
    std::fs::canonicalize(dir).map_err(at(dir.display()))
}

/// Nobody listens any more.
fn remove_socket(bundle: &Path) {
    if let Ok(address) = Bundle::new(bundle).address() {
        // It may have been removed before.
        let _ = std::fs::remove_file(address);
    }
}
