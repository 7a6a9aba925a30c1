//! Shims of other makers, for pods of a RuntimeClass: how one is started, found and cleared away.
//!
//! Such a shim writes no CRI log and does not know our own service. Between it and the daemon stands a
//! keeper: an `orlop-shim` that answers like any other one, and passes on what only the foreign shim
//! can do. So the daemon sees one kind of shim, and what must outlive it outlives it in the keeper.

use crate::bundle::{Bundle, ShimRecord};
use crate::protocol::task::DeleteResponse;
use crate::{RuntimeOptions, TaskError};
use orlop_sys::process::{Command, Pidfd, Program, start_time};
use prost::Message;
use prost_types::Any;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, MemfdFlags, Mode, memfd_create, mknodat};
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a foreign shim's `start` may take: one that starts a virtual machine takes seconds.
const START: Duration = Duration::from_secs(60);
/// How long its `delete` may take.
const DELETE: Duration = Duration::from_secs(20);
/// What a shim prints beyond this is not read.
const LONGEST_ANSWER: u64 = 1 << 20;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A shim of another maker, as the bundle of its container names it (`foreign.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignRuntime {
    /// Form of this record; 1.
    pub version: u32,
    /// The operator's name for it.
    pub handler: String,
    /// Its program.
    pub binary: PathBuf,
    /// What it is told with every container.
    pub options: Option<RuntimeOptions>,
    /// Names this daemon among others: shims group containers by it.
    pub instance: PathBuf,
    /// The shim belongs to the pod's sandbox container and outlives this one.
    pub shared: bool,
}

/// Where a started shim listens, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Version of the Task service: 2 or 3.
    pub version: u32,
    /// Its socket.
    pub address: PathBuf,
}

#[derive(Deserialize)]
struct Parameters {
    version: u32,
    address: String,
    #[serde(default)]
    protocol: String,
}

impl Bundle {
    /// The shim of another maker that the container runs in; `None`: it runs in our own.
    pub fn foreign(&self) -> Result<Option<ForeignRuntime>, TaskError> {
        self.read_json("foreign.json")
    }

    /// Names the shim of another maker, before the keeper is started.
    pub fn set_foreign(&self, runtime: &ForeignRuntime) -> Result<(), TaskError> {
        let path = self.path().join("foreign.json");
        let failed = |source| TaskError::Bundle { path: path.clone(), source };
        let bytes = serde_json::to_vec(runtime).map_err(|error| failed(error.into()))?;
        std::fs::write(&path, bytes).map_err(failed)
    }

    /// The foreign shim's own bundle: both kinds of shim keep an `address`, so they cannot share one.
    /// Its name is the container's id, which shims expect.
    pub fn foreign_dir(&self) -> PathBuf {
        self.path().join("foreign").join(self.id())
    }
}

impl ForeignRuntime {
    /// Makes the foreign bundle: the spec, an empty `rootfs`, and the FIFO `log` that the shim writes its
    /// own complaints to, and which must have a reader before the shim is started. Its path.
    pub fn prepare(&self, bundle: &Bundle) -> Result<PathBuf, TaskError> {
        let dir = bundle.foreign_dir();
        let (config, log) = (dir.join("config.json"), dir.join("log"));
        std::fs::create_dir_all(dir.join("rootfs"))
            .and_then(|()| std::fs::copy(bundle.config(), &config))
            .map_err(|source| TaskError::Bundle { path: config, source })?;
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &log, FileType::Fifo, mode, 0)
            .map_err(|errno| TaskError::Bundle { path: log.clone(), source: errno.into() })?;
        Ok(log)
    }

    /// Starts the shim in the bundle that [`Self::prepare`] made, or finds that of the pod. `events` is
    /// where it sends its events, `publisher` a program that does so for it. Blocks.
    pub fn start(
        &self,
        bundle: &Bundle,
        events: &Path,
        publisher: &Path,
    ) -> Result<Bootstrap, TaskError> {
        let dir = bundle.foreign_dir();
        let input = self.options.as_ref().map_or_else(Vec::new, |options| {
            Any { type_url: options.type_url.clone(), value: options.value.clone() }.encode_to_vec()
        });
        let mut command = self.command(&bundle.id(), &dir, publisher);
        command.arg("start").env("TTRPC_ADDRESS", events).env("MAX_SHIM_VERSION", "3");
        let output = self.run(command, &input, START, &bundle.id())?;
        parse(&output).map_err(|reason| self.launch_error(&bundle.id(), reason))
    }

    /// What containerd calls for a shim that has died: ends the container and takes away what is left of
    /// it. How it ended. Blocks.
    pub fn delete(&self, bundle: &Bundle) -> Result<DeleteResponse, TaskError> {
        let (id, dir) = (bundle.id(), bundle.foreign_dir());
        let mut command = self.command(&id, &dir, Path::new("/bin/true"));
        command.arg("-bundle").arg(&dir).arg("delete");
        let output = self.run(command, &[], DELETE, &id)?;
        DeleteResponse::decode(output.as_slice())
            .map_err(|error| TaskError::Malformed { id, reason: error.to_string() })
    }

    fn command<'a>(&'a self, id: &str, dir: &Path, publisher: &Path) -> Command<'a> {
        let mut command = Command::new(Program::Path(&self.binary));
        command.arg(self.binary.file_name().unwrap_or(self.binary.as_os_str()));
        command.args(["-namespace", "orlop", "-address"]).arg(&self.instance);
        command.arg("-publish-binary").arg(publisher).args(["-id", id]);
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        command.env("PATH", path).env("NAMESPACE", "orlop").env("GRPC_ADDRESS", &self.instance);
        command.new_session().current_dir(dir);
        command
    }

    /// Runs it to its end: what it printed.
    fn run(
        &self,
        command: Command<'_>,
        input: &[u8],
        patience: Duration,
        id: &str,
    ) -> Result<Vec<u8>, TaskError> {
        run(command, input, patience).map_err(|reason| self.launch_error(id, reason))
    }

    fn launch_error(&self, id: &str, reason: impl std::fmt::Display) -> TaskError {
        let (handler, binary) = (&self.handler, self.binary.display());
        let reason = format!("runtime handler {handler:?}, {binary}: {reason}");
        TaskError::Launch { id: id.to_owned(), reason }
    }
}

/// Clears away what a foreign shim left of a container, whatever state it is in; nothing where there is
/// none. What cannot be cleared is told. Blocks.
pub fn clear_foreign(bundle: &Bundle) -> Result<(), TaskError> {
    let Some(runtime) = bundle.foreign()? else { return Ok(()) };
    let dir = bundle.foreign_dir();
    if !dir.join("config.json").exists() {
        // The shim was never started.
        return Ok(());
    }
    let deleted = runtime.delete(bundle);
    if !runtime.shared
        && let Ok(bytes) = std::fs::read(dir.join("shim.json"))
        && let Ok(shim) = serde_json::from_slice::<ShimRecord>(&bytes)
        && let Ok(pidfd) = Pidfd::open(shim.pid)
        // Only if the number still means the same process.
        && start_time(shim.pid).is_ok_and(|start| start == shim.start_time)
    {
        let _ = pidfd.send_signal(9);
    }
    if !runtime.shared
        && let Ok(address) = std::fs::read_to_string(dir.join("address"))
    {
        // One that ended in order has removed it.
        let address = address.trim();
        let _ = std::fs::remove_file(address.strip_prefix("unix://").unwrap_or(address));
    }
    let rootfs = dir.join("rootfs");
    // As often as something is mounted there: the directory is about to be removed with all it holds.
    while unmount(&rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    deleted.map(|_| ())
}

/// What an OCI runtime can do, as CRI asks of a handler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OciFeatures {
    /// Read-only mounts that are so all the way down.
    pub recursive_read_only: bool,
    /// User namespaces with mounts mapped to them.
    pub user_namespaces: bool,
}

impl OciFeatures {
    /// Asks the runtime itself (`runtime features`); one that does not answer can nothing. Blocks.
    pub fn of(runtime: &Path) -> Self {
        let mut command = Command::new(Program::Path(runtime));
        command.arg(runtime).arg("features").env("PATH", DEFAULT_PATH);
        let printed = run(command, &[], DELETE).unwrap_or_default();
        Self::parse(&serde_json::from_slice(&printed).unwrap_or_default())
    }

    /// Reads the runtime spec's features document.
    fn parse(document: &serde_json::Value) -> Self {
        let list = |value: &serde_json::Value, word: &str| {
            value.as_array().is_some_and(|all| all.iter().any(|one| one == word))
        };
        let linux = &document["linux"];
        let mapped = &linux["mountExtensions"]["idmap"]["enabled"];
        Self {
            recursive_read_only: list(&document["mountOptions"], "rro"),
            user_namespaces: list(&linux["namespaces"], "user") && mapped == true,
        }
    }
}

fn parse(output: &[u8]) -> Result<Bootstrap, String> {
    let text = String::from_utf8_lossy(output);
    let text = text.trim();
    let parameters = if text.starts_with('{') {
        serde_json::from_str(text).map_err(|error| format!("its answer {text:?}: {error}"))?
    } else {
        Parameters { version: 2, address: text.to_owned(), protocol: String::new() }
    };
    if !matches!(parameters.protocol.as_str(), "" | "ttrpc") {
        return Err(format!(
            "it speaks {:?}: only shims that speak ttrpc can be used",
            parameters.protocol
        ));
    }
    if !(2..=3).contains(&parameters.version) {
        return Err(format!("it speaks version {}: 2 and 3 are known", parameters.version));
    }
    let address = parameters.address.strip_prefix("unix://").unwrap_or(&parameters.address);
    if !address.starts_with('/') {
        return Err(format!("it listens at {address:?}: a Unix socket by absolute path is needed"));
    }
    Ok(Bootstrap { version: parameters.version, address: address.into() })
}

/// Runs a program to its end: what it printed, or why that is of no use. Its output goes to files in
/// memory, because a process that it leaves behind may hold on to them.
fn run(command: Command<'_>, input: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| error.to_string();
    let (mut stdin, stdout, stderr) = (
        memory_file().map_err(failed)?,
        memory_file().map_err(failed)?,
        memory_file().map_err(failed)?,
    );
    stdin.write_all(input).and_then(|()| stdin.rewind()).map_err(failed)?;
    let mut command: Command<'_> = command;
    command.fd(0, stdin.as_fd()).fd(1, stdout.as_fd()).fd(2, stderr.as_fd());
    let child = command.spawn().map_err(|error| error.to_string())?;
    if !ended(&child.pidfd, patience) {
        // It may end just now: as good.
        let _ = child.pidfd.send_signal(9);
        let _ = child.pidfd.wait();
        return Err(format!("no answer within {patience:?}"));
    }
    let end = child.pidfd.wait().map_err(|error| error.to_string())?;
    let printed = contents(stdout).map_err(failed)?;
    if end.status() == 0 {
        return Ok(printed);
    }
    let said = contents(stderr).map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    Err(format!("it ended with status {}: {}", end.status(), said.trim()))
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("orlop-foreign", MemfdFlags::CLOEXEC)?.into())
}

fn contents(mut file: File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(LONGEST_ANSWER).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ended(pidfd: &Pidfd, patience: Duration) -> bool {
    let end = std::time::Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        let wait = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&wait)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_start() {
        let at = |version, address: &str| Ok(Bootstrap { version, address: address.into() });
        for (text, expected) in [
            ("unix:///run/s/1\n", at(2, "/run/s/1")),
            (r#"{"version":3,"address":"unix:///s","protocol":"ttrpc"}"#, at(3, "/s")),
            (r#"{"version":2,"address":"/s"}"#, at(2, "/s")),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        for (text, word) in [
            ("", "Unix socket"),
            ("{", "its answer"),
            (
                r#"{"version":3,"address":"unix:///s","protocol":"grpc"}"#,
                "only shims that speak ttrpc",
            ),
            (r#"{"version":4,"address":"unix:///s"}"#, "2 and 3"),
            (r#"{"version":3,"address":"vsock://1:2"}"#, "Unix socket"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn features() {
        let of = |text: &str| OciFeatures::parse(&serde_json::from_str(text).unwrap());
        let both = OciFeatures { recursive_read_only: true, user_namespaces: true };
        let text = r#"{"mountOptions":["ro","rro"],"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}"#;
        assert_eq!(of(text), both);
        let older = r#"{"mountOptions":["ro","rro"],"linux":{"namespaces":["user"]}}"#;
        assert_eq!(of(older), OciFeatures { user_namespaces: false, ..both });
        assert_eq!(of("{}"), OciFeatures::default());
        assert_eq!(OciFeatures::of(Path::new("/no/such/runtime")), OciFeatures::default());
    }

    fn bundle(script: &str) -> (tempfile::TempDir, Bundle, ForeignRuntime) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("shim");
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        let bundle = Bundle::new(dir.path().join("c1"));
        std::fs::create_dir(bundle.path()).unwrap();
        std::fs::write(bundle.config(), "{}").unwrap();
        let runtime = ForeignRuntime {
            version: 1,
            handler: "h".into(),
            binary,
            options: None,
            instance: "/i".into(),
            shared: false,
        };
        (dir, bundle, runtime)
    }

    #[test]
    fn a_shim_is_called_as_containerd_calls_it() {
        let script = "echo \"$*|$TTRPC_ADDRESS|$MAX_SHIM_VERSION|$(pwd)\" >seen; echo unix:///s";
        let (_dir, bundle, runtime) = bundle(script);
        runtime.prepare(&bundle).unwrap();
        let bootstrap = runtime.start(&bundle, Path::new("/e"), Path::new("/p")).unwrap();
        assert_eq!(bootstrap, Bootstrap { version: 2, address: "/s".into() });
        let dir = bundle.foreign_dir();
        let seen = std::fs::read_to_string(dir.join("seen")).unwrap();
        let expected = format!(
            "-namespace orlop -address /i -publish-binary /p -id c1 start|/e|3|{}\n",
            dir.display()
        );
        assert_eq!(seen, expected);
        assert!(dir.join("config.json").exists() && dir.join("rootfs").exists());
    }

    #[test]
    fn a_shim_that_fails_is_quoted() {
        let (_dir, bundle, mut runtime) = bundle("echo no good >&2; exit 3");
        runtime.prepare(&bundle).unwrap();
        let error = runtime.start(&bundle, Path::new("/e"), Path::new("/p")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("status 3: no good") && text.contains("\"h\""), "{text}");
        runtime.binary = "/no/such/shim".into();
        let error = runtime.start(&bundle, Path::new("/e"), Path::new("/p")).unwrap_err();
        assert!(error.to_string().contains("/no/such/shim"), "{error}");
    }

    #[test]
    fn what_a_dead_shim_left_is_cleared_away() {
        let (dir, bundle, runtime) = bundle("true");
        bundle.set_foreign(&runtime).unwrap();
        // Nothing was started: nothing is called.
        clear_foreign(&bundle).unwrap();
        runtime.prepare(&bundle).unwrap();
        let socket = dir.path().join("socket");
        std::fs::write(&socket, "").unwrap();
        let address = format!("unix://{}", socket.display());
        std::fs::write(bundle.foreign_dir().join("address"), address).unwrap();
        clear_foreign(&bundle).unwrap();
        assert!(!socket.exists());
    }

    #[test]
    fn the_runtime_is_kept_in_the_bundle() {
        let (_dir, bundle, runtime) = bundle("");
        assert_eq!(bundle.foreign().unwrap(), None);
        bundle.set_foreign(&runtime).unwrap();
        assert_eq!(bundle.foreign().unwrap(), Some(runtime));
    }
}
