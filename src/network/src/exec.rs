//! Plugins of others: executed as the CNI specification says, from the plugin directories only.

use crate::{Call, PluginError};
use orlop_sys::process::{Child, Command, Exit, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::Value;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

/// A result of more bytes is not read: the plugin is stopped.
const MAX_RESULT: usize = 4 << 20;
/// Of what a plugin writes to stderr, so much of the end is kept for the error.
const MAX_STDERR: usize = 8 << 10;
const SIGKILL: i32 = 9;

/// Executes a plugin; the answer is what an ADD printed, if anything. What other commands print
/// without failing has no meaning.
pub(crate) fn run(
    kind: &str,
    command: &str,
    call: &Call<'_>,
) -> Result<Option<Value>, PluginError> {
    let path = find(kind, call.bin_dirs)?;
    let output = execute(&path, kind, command, call)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Option<Value> = serde_json::from_str(&text).ok();
    match output.exit {
        Exit::Code(0) if text.trim().is_empty() || command != "ADD" => Ok(None),
        Exit::Code(0) => answer.map(Some).ok_or_else(|| PluginError {
            code: PluginError::DECODE,
            msg: format!(
                "{} {command} printed something that is not JSON: {:?}",
                path.display(),
                head(&text)
            ),
            details: output.stderr(),
        }),
        exit => Err(failure(&path, command, exit, answer, &output)),
    }
}

fn failure(
    path: &std::path::Path,
    command: &str,
    exit: Exit,
    answer: Option<Value>,
    output: &Output,
) -> PluginError {
    let answer = answer.unwrap_or_default();
    let field =
        |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut details = field("details");
    let stderr = output.stderr();
    if !stderr.is_empty() {
        details = [details, stderr]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
    }
    let msg = match field("msg") {
        msg if !msg.is_empty() => msg,
        _ => {
            let printed = String::from_utf8_lossy(&output.stdout);
            let printed = head(printed.trim());
            let how = match exit {
                Exit::Code(code) => format!("failed with exit code {code}"),
                Exit::Signal(signal) => format!("was ended by signal {signal}"),
            };
            let said = if printed.is_empty() {
                String::new()
            } else {
                format!(" and printed {printed:?}")
            };
            format!("{} {command} {how}{said}", path.display())
        }
    };
    let code = answer.get("code").and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok());
    PluginError { code: code.unwrap_or(PluginError::OTHER), msg, details }
}

fn head(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The first file of that name in the plugin directories.
pub(crate) fn find(kind: &str, dirs: &[PathBuf]) -> Result<PathBuf, PluginError> {
    dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file()).ok_or_else(|| {
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        PluginError::new(format!(
            "plugin {kind:?} is not in {}: install it there",
            dirs.join(" or ")
        ))
    })
}

struct Output {
    exit: Exit,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

fn io(what: &str) -> impl Fn(rustix::io::Errno) -> PluginError + '_ {
    move |errno| PluginError::io(format!("{what}: {}", std::io::Error::from(errno)))
}

fn execute(
    path: &std::path::Path,
    kind: &str,
    command: &str,
    call: &Call<'_>,
) -> Result<Output, PluginError> {
    let stdin = stdin(call.config)?;
    let nonblocking = PipeFlags::CLOEXEC;
    let (out, out_end) = pipe_with(nonblocking).map_err(io("make a pipe"))?;
    let (err, err_end) = pipe_with(nonblocking).map_err(io("make a pipe"))?;
    let mut process = Command::new(Program::Path(path));
    process
        .arg(kind)
        .fd(0, stdin.as_fd())
        .fd(1, out_end.as_fd())
        .fd(2, err_end.as_fd())
        .new_session();
    for (name, value) in
        std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("CNI_"))
    {
        process.env(name, value);
    }
    if std::env::var_os("PATH").is_none() {
        process.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    let args: Vec<_> = call.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let dirs: Vec<_> = call.bin_dirs.iter().map(|dir| dir.to_string_lossy()).collect();
    process
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", call.container_id)
        .env("CNI_IFNAME", call.ifname);
    process.env("CNI_NETNS", call.netns.map(|path| path.as_os_str()).unwrap_or_default());
    process.env("CNI_ARGS", args.join(";")).env("CNI_PATH", dirs.join(":"));
    let child = process.spawn().map_err(|error| PluginError::io(error.to_string()))?;
    drop((out_end, err_end));
    let collected = collect(&child, &out, &err, call, path, command);
    if collected.is_err() {
        // The plugin leads a session of its own; what it started may live on, as the specification allows.
        let _ = child.pidfd.send_signal(SIGKILL);
        let _ = child.pidfd.wait();
    }
    collected
}

/// The configuration as a file: a plugin that does not read it cannot block the writer.
fn stdin(config: &Value) -> Result<OwnedFd, PluginError> {
    let file =
        memfd_create("cni-stdin", MemfdFlags::CLOEXEC).map_err(io("make a file in memory"))?;
    let mut file = std::fs::File::from(file);
    let written = file.write_all(config.to_string().as_bytes());
    written.map_err(|error| {
        PluginError::io(format!("write the configuration for a plugin: {error}"))
    })?;
    let file = OwnedFd::from(file);
    seek(&file, SeekFrom::Start(0)).map_err(io("rewind the configuration for a plugin"))?;
    Ok(file)
}

/// Reads both outputs until the plugin has ended. A grandchild that keeps them open is not waited for.
fn collect(
    child: &Child,
    out: &OwnedFd,
    err: &OwnedFd,
    call: &Call<'_>,
    path: &std::path::Path,
    command: &str,
) -> Result<Output, PluginError> {
    let end = Instant::now() + call.timeout;
    for pipe in [out, err] {
        rustix::io::ioctl_fionbio(pipe, true).map_err(io("make a pipe nonblocking"))?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let exit = child.pidfd.try_wait().map_err(|error| PluginError::io(error.to_string()))?;
        let out_open = drain(out, &mut stdout).map_err(io("read a plugin's output"))?;
        let err_open = drain(err, &mut stderr).map_err(io("read a plugin's output"))?;
        let excess = stderr.len().saturating_sub(MAX_STDERR);
        stderr.drain(..excess);
        if stdout.len() > MAX_RESULT {
            let msg = format!(
                "{} {command} printed more than {MAX_RESULT} bytes and was stopped",
                path.display()
            );
            return Err(PluginError {
                code: PluginError::DECODE,
                msg,
                details: String::from_utf8_lossy(&stderr).into_owned(),
            });
        }
        if let Some(exit) = exit {
            return Ok(Output { exit, stdout, stderr });
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = call.timeout.as_secs_f32();
            let msg = format!(
                "{} {command} did not end within {seconds} s and was stopped",
                path.display()
            );
            return Err(PluginError {
                code: PluginError::TRY_AGAIN,
                msg,
                details: String::from_utf8_lossy(&stderr).into_owned(),
            });
        }
        let mut fds = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        fds.extend(out_open.then(|| PollFd::new(out, PollFlags::IN)));
        fds.extend(err_open.then(|| PollFd::new(err, PollFlags::IN)));
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io("wait for a plugin")(errno)),
        }
    }
}

/// Reads what is there; false at the end. Never much more than the cap at once.
fn drain(pipe: &OwnedFd, into: &mut Vec<u8>) -> rustix::io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    while into.len() <= MAX_RESULT {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => into.extend_from_slice(&buffer[..length]),
            Err(rustix::io::Errno::AGAIN) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}
