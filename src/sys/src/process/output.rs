//! A short-lived program run to its end: input, both outputs, a bound on time and size.

use super::{Child, Command, Exit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;

/// What a program left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of what it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// Runs a program with `input` as its standard input and waits for its end, at most `timeout`. It
/// gets a session of its own. More than `limit` bytes of output, or no end in time, kill it and
/// are errors (`InvalidData`, `TimedOut`). A process that it left behind with its outputs open is
/// not waited for. Blocking.
pub fn output(
    command: &Command<'_>,
    input: &[u8],
    limit: usize,
    timeout: Duration,
) -> io::Result<Output> {
    // A file: a program that does not read it cannot block us.
    let mut stdin = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    stdin.write_all(input)?;
    seek(&stdin, SeekFrom::Start(0))?;
    let (out, out_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (err, err_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = command.clone();
    command.fd(0, stdin.as_fd()).fd(1, out_end.as_fd()).fd(2, err_end.as_fd()).new_session();
    let child = command.spawn().map_err(io::Error::other)?;
    drop(command);
    drop((out_end, err_end));
    let collected = collect(&child, &out, &err, limit, timeout);
    if collected.is_err() {
        let _ = child.pidfd.send_signal(SIGKILL);
        let _ = child.pidfd.wait();
    }
    collected
}

fn collect(
    child: &Child,
    out: &OwnedFd,
    err: &OwnedFd,
    limit: usize,
    timeout: Duration,
) -> io::Result<Output> {
    let end = Instant::now() + timeout;
    for pipe in [out, err] {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let exit = child.pidfd.try_wait().map_err(io::Error::from)?;
        let out_open = drain(out, &mut stdout, limit)?;
        let err_open = drain(err, &mut stderr, usize::MAX)?;
        stderr.truncate(limit);
        if stdout.len() > limit {
            let what = format!("it printed more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if let Some(exit) = exit {
            return Ok(Output { exit, stdout, stderr });
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let what = format!("it did not end within {} s", timeout.as_secs_f32());
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        let mut fds = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        fds.extend(out_open.then(|| PollFd::new(out, PollFlags::IN)));
        fds.extend(err_open.then(|| PollFd::new(err, PollFlags::IN)));
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads what is there, little more than `limit` in all; false at the end.
fn drain(pipe: &OwnedFd, into: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    // One round for the sake of a writer that never stops.
    for _ in 0..64 {
        if into.len() > limit {
            break;
        }
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => into.extend_from_slice(&buffer[..length]),
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::*;
    use std::path::Path;

    fn sh(script: &str, limit: usize, timeout: Duration) -> io::Result<Output> {
        let mut command = Command::new(Program::Path(Path::new("/bin/sh")));
        command.args(["sh", "-c", script]).env("PATH", "/usr/bin:/bin");
        output(&command, b"word\n", limit, timeout)
    }

    #[test]
    fn input_outputs_and_bounds() {
        let long = Duration::from_secs(60);
        let done = sh("read x; echo got $x; echo bad >&2; exit 3", 1000, long).unwrap();
        assert_eq!((done.stdout, done.stderr), (b"got word\n".to_vec(), b"bad\n".to_vec()));
        assert_eq!(done.exit, Exit::Code(3));
        // Does not read, and leaves somebody behind who holds the outputs.
        assert_eq!(sh("sleep 1 & exit 0", 10, long).unwrap().exit, Exit::Code(0));
        let error = sh("while :; do echo y; done", 1000, long).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = sh("while :; do :; done", 10, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
