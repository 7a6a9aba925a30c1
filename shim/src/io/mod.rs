//! A process's input and output: pipes or a terminal on its side, FIFOs or the CRI log on the other.

mod attach;
mod format;
mod input;
mod log;
mod output;

use crate::error::Refusal;
use crate::poll::{Poller, Token};
use crate::rpc::ReplyTo;
use attach::Attachments;
use format::Stream;
use input::Input;
use log::CriLog;
use orlop_task::names::CRI_LOG_SCHEME;
use orlop_task::ttrpc::Code;
use output::{Output, Pace, Sink};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes per read; the buffer is shared by all streams of the shim.
pub(crate) const BUFFER: usize = 32 * 1024;
/// Bytes of one stream before others get their turn.
const TURN: usize = 128 * 1024;
/// What a pipe can hold at most (`/proc/sys/fs/pipe-max-size`): all of it may have been written
/// before the process ended, so all of it is read before its end is told.
const DRAIN: usize = 1 << 20;

/// The names that a request gives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// The process's ends of its pipes; `None` is /dev/null.
#[derive(Debug, Default)]
pub(crate) struct ChildEnds {
    fds: [Option<OwnedFd>; 3],
}

impl ChildEnds {
    pub(crate) fn borrow(&self) -> [Option<BorrowedFd<'_>>; 3] {
        self.fds.each_ref().map(|fd| fd.as_ref().map(AsFd::as_fd))
    }
}

/// Our side of a process's input and output.
#[derive(Debug)]
pub(crate) struct Io {
    /// In the tokens of this process.
    key: u32,
    outputs: [Option<Output>; 2],
    /// Where the terminal's output will go, until the terminal is there.
    console_sink: Option<Sink>,
    input: Option<Input>,
    log: Option<CriLog>,
    console: Option<OwnedFd>,
    attachments: Attachments,
    /// What a collected output was, once it has ended.
    kept: Vec<u8>,
    /// FIFOs of our making between us and a foreign shim.
    fifos: Vec<PathBuf>,
}

/// What is done about output and input beyond what their paths say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Habits {
    /// As in `CreateOptions.max_log_line`.
    pub(crate) max_line: i64,
    /// Read outputs that go nowhere: somebody may attach.
    pub(crate) attachable: bool,
    /// Keep the FIFO of the standard input good when its writers go.
    pub(crate) keep_stdin: bool,
}

impl Io {
    /// One pipe for both outputs, of which we keep `limit` bytes; no input.
    pub(crate) fn collect(
        key: u32,
        limit: usize,
        owner: (u32, u32),
    ) -> Result<(Self, ChildEnds), Refusal> {
        let mut io = Self::empty(key);
        let (ours, theirs) = pipe(owner)?;
        nonblocking(&ours)?;
        io.outputs[0] = Some(Output::new(ours, Sink::Keep { bytes: Vec::new(), limit }));
        let second = theirs.try_clone().map_err(Refusal::internal)?;
        Ok((io, ChildEnds { fds: [None, Some(theirs), Some(second)] }))
    }

    /// What was kept.
    pub(crate) fn collected(&mut self) -> Vec<u8> {
        match &mut self.outputs[0] {
            Some(Output { sink: Sink::Keep { bytes, .. }, .. }) => std::mem::take(bytes),
            _ => std::mem::take(&mut self.kept),
        }
    }

    /// Opens everything that `paths` names and makes the pipes, owned by `owner` (as the host
    /// numbers users) so that the process may reopen them as /dev/stdout.
    pub(crate) fn prepare(
        key: u32,
        paths: &Paths,
        habits: Habits,
        owner: (u32, u32),
    ) -> Result<(Self, ChildEnds), Refusal> {
        let max_line = habits.max_line;
        let mut io = Self::empty(key);
        let mut ends = ChildEnds::default();
        let out = io.sink(&paths.stdout, Stream::Stdout, max_line)?;
        if paths.terminal {
            io.console_sink = Some(out);
        } else {
            let err = io.sink(&paths.stderr, Stream::Stderr, max_line)?;
            for (index, sink) in [out, err].into_iter().enumerate() {
                if habits.attachable || !matches!(sink, Sink::Discard) {
                    let (ours, theirs) = pipe(owner)?;
                    nonblocking(&ours)?;
                    if let (Some(output), Some(end)) =
                        (io.outputs.get_mut(index), ends.fds.get_mut(index + 1))
                    {
                        *output = Some(Output::new(ours, sink));
                        *end = Some(theirs);
                    }
                }
            }
        }
        if !paths.stdin.is_empty() {
            let access = if habits.keep_stdin { OFlags::RDWR } else { OFlags::RDONLY };
            let fifo = open_fifo(&paths.stdin, access)?;
            let target = if paths.terminal {
                None
            } else {
                let (theirs, ours) = pipe(owner)?;
                nonblocking(&ours)?;
                ends.fds[0] = Some(theirs);
                Some(ours)
            };
            io.input = Some(Input::new(fifo, target));
        }
        Ok((io, ends))
    }

    fn empty(key: u32) -> Self {
        Self {
            key,
            outputs: [None, None],
            console_sink: None,
            input: None,
            log: None,
            console: None,
            attachments: Attachments::default(),
            kept: Vec::new(),
            fifos: Vec::new(),
        }
    }

    /// The same for a process that a foreign shim will make: FIFOs in `dir` take the place of the pipes.
    /// The paths that the foreign shim is given.
    pub(crate) fn prepare_fifos(
        key: u32,
        paths: &Paths,
        habits: Habits,
        dir: &Path,
    ) -> Result<(Self, Paths), Refusal> {
        let max_line = habits.max_line;
        let mut io = Self::empty(key);
        let mut theirs = Paths { terminal: paths.terminal, ..Paths::default() };
        let out = io.sink(&paths.stdout, Stream::Stdout, max_line)?;
        let err = if paths.terminal {
            Sink::Discard
        } else {
            io.sink(&paths.stderr, Stream::Stderr, max_line)?
        };
        for (index, sink, path) in [(0, out, &mut theirs.stdout), (1, err, &mut theirs.stderr)] {
            // A terminal needs a reader even where nobody wants what it says, and has one output.
            let wanted = !matches!(sink, Sink::Discard) || habits.attachable;
            if (paths.terminal && index == 1) || !(wanted || paths.terminal) {
                continue;
            }
            let name = if index == 0 { "stdout" } else { "stderr" };
            *path = io.make_fifo(dir, name)?;
            let source = open_fifo(path, OFlags::RDONLY)?;
            if let Some(output) = io.outputs.get_mut(index) {
                *output = Some(Output::new(source, sink));
            }
        }
        if !paths.stdin.is_empty() {
            let access = if habits.keep_stdin { OFlags::RDWR } else { OFlags::RDONLY };
            let source = open_fifo(&paths.stdin, access)?;
            theirs.stdin = io.make_fifo(dir, "stdin")?;
            // Both ends: what is written before the foreign shim reads is not lost.
            let target = open_fifo(&theirs.stdin, OFlags::RDWR)?;
            io.input = Some(Input::new(source, Some(target)));
        }
        Ok((io, theirs))
    }

    fn make_fifo(&mut self, dir: &Path, name: &str) -> Result<String, Refusal> {
        let path = dir.join(format!("{}.{name}", self.key));
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0)
            .map_err(|errno| Refusal::internal(format!("FIFO {}: {errno}", path.display())))?;
        self.fifos.push(path.clone());
        Ok(path.to_string_lossy().into_owned())
    }

    /// Whether a stream of the process is still open.
    pub(crate) fn has_output(&self) -> bool {
        self.outputs.iter().any(Option::is_some)
    }

    /// Whether the process still has input.
    pub(crate) fn has_input(&self) -> bool {
        self.input.is_some()
    }

    fn sink(&mut self, name: &str, stream: Stream, max_line: i64) -> Result<Sink, Refusal> {
        if name.is_empty() {
            return Ok(Sink::Discard);
        }
        if let Some(path) = name.strip_prefix(CRI_LOG_SCHEME) {
            let path = PathBuf::from(path);
            match &self.log {
                None => self.log = Some(CriLog::open(&path, max_line)?),
                Some(log) if log.path() == path => {}
                Some(_) => {
                    return Err(Refusal::invalid("stdout and stderr name different logs: use one"));
                }
            }
            return Ok(Sink::Log(stream));
        }
        // Both ends: the process can write while nobody reads, and nobody's leaving is an error.
        Ok(Sink::Fifo { fd: open_fifo(name, OFlags::RDWR)?, pending: Vec::new() })
    }

    /// Starts to serve the pipes.
    pub(crate) fn register(&self, poller: &Poller) -> Result<(), Refusal> {
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some(output) = output {
                poller
                    .readable(&output.source, Token::Output(self.key, index as u8))
                    .map_err(Refusal::internal)?;
            }
        }
        if let Some(input) = self.input.as_ref().filter(|input| input.target.is_some()) {
            poller.readable(&input.source, Token::Input(self.key)).map_err(Refusal::internal)?;
        }
        Ok(())
    }

    /// The terminal is there: serves it.
    pub(crate) fn attach_console(
        &mut self,
        poller: &Poller,
        master: OwnedFd,
    ) -> Result<(), Refusal> {
        nonblocking(&master)?;
        let source = master.try_clone().map_err(Refusal::internal)?;
        if let Some(input) = &mut self.input {
            input.target = Some(master.try_clone().map_err(Refusal::internal)?);
            poller.readable(&input.source, Token::Input(self.key)).map_err(Refusal::internal)?;
        }
        let output = Output::new(source, self.console_sink.take().unwrap_or(Sink::Discard));
        poller.readable(&output.source, Token::Output(self.key, 0)).map_err(Refusal::internal)?;
        self.outputs[0] = Some(output);
        self.console = Some(master);
        Ok(())
    }

    /// Moves bytes of output `index`, in either direction of readiness.
    pub(crate) fn pump_output(
        &mut self,
        poller: &Poller,
        index: u8,
        buffer: &mut [u8],
        pace: Pace,
    ) {
        let at = usize::from(index);
        let Some(slot) = self.outputs.get_mut(at) else { return };
        let Some(output) = slot else {
            // It has ended, and some do not have all of it yet.
            self.attachments.flush(poller, at);
            return;
        };
        let watched = (at, &mut self.attachments, poller);
        match output.pump(self.log.as_mut(), watched, buffer, pace) {
            output::Flow::Idle | output::Flow::More => {
                if output.blocked {
                    output.blocked = false;
                    if let Sink::Fifo { fd, .. } = &output.sink {
                        poller.forget(fd);
                    }
                    // It was registered before, so there is room for it.
                    let _ = poller.readable(&output.source, Token::Output(self.key, index));
                }
            }
            output::Flow::Blocked => {
                self.attachments.wait(poller, self.key, at);
                if !output.blocked {
                    output.blocked = true;
                    poller.forget(&output.source);
                }
                if let Sink::Fifo { fd, pending } = &output.sink {
                    if pending.is_empty() {
                        // It is a watcher that must read.
                        poller.forget(fd);
                    } else {
                        // Waited for already is as good.
                        let _ = poller.writable(fd, Token::OutputSink(self.key, index));
                    }
                }
            }
            output::Flow::Ended => {
                poller.forget(&output.source);
                if let Some(Output { sink: Sink::Keep { bytes, .. }, .. }) = slot.take() {
                    self.kept = bytes;
                }
                self.attachments.end(poller, self.key, at);
            }
        }
    }

    /// A turn for output `index`.
    pub(crate) fn output_ready(&mut self, poller: &Poller, index: u8, buffer: &mut [u8]) {
        self.pump_output(poller, index, buffer, Pace { budget: TURN, hurried: false });
    }

    /// A turn for stdin.
    pub(crate) fn input_ready(&mut self, poller: &Poller, buffer: &mut [u8]) {
        let Some(input) = &mut self.input else { return };
        let flow = input.pump(buffer);
        match (flow, &input.target) {
            (input::Flow::Idle, Some(target)) if input.blocked => {
                input.blocked = false;
                poller.forget(target);
                let _ = poller.readable(&input.source, Token::Input(self.key));
            }
            (input::Flow::Blocked, Some(target)) if !input.blocked => {
                input.blocked = true;
                poller.forget(&input.source);
                let _ = poller.writable(target, Token::InputSink(self.key));
            }
            (input::Flow::Ended, _) => {
                poller.forget(&input.source);
                self.input = None;
            }
            _ => {}
        }
    }

    /// Closes stdin behind what is in the FIFO.
    pub(crate) fn close_stdin(&mut self, poller: &Poller, buffer: &mut [u8]) {
        if let Some(input) = &mut self.input {
            input.closing = true;
        }
        self.input_ready(poller, buffer);
    }

    /// The process has ended: delivers all it wrote before. Streams that others hold open are
    /// served on.
    pub(crate) fn drain(&mut self, poller: &Poller, buffer: &mut [u8]) {
        for index in 0..2 {
            self.pump_output(poller, index, buffer, Pace { budget: DRAIN, hurried: true });
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
        if let Some(input) = self.input.take() {
            poller.forget(&input.source);
        }
    }

    /// The process has ended and all it wrote is delivered: nobody watches any longer.
    pub(crate) fn end_attachments(&mut self, poller: &Poller) {
        self.attachments.end(poller, self.key, 0);
        self.attachments.end(poller, self.key, 1);
    }

    /// Shows output from now on to whoever reads these FIFOs.
    pub(crate) fn attach(
        &mut self,
        poller: &Poller,
        who: (u32, ReplyTo),
        [stdout, stderr]: [&str; 2],
        patient: bool,
    ) -> Result<(), Refusal> {
        if self.attachments.is_full() {
            let text = format!("{} clients are attached already", attach::MAX_ATTACHMENTS);
            return Err(Refusal::new(Code::ResourceExhausted, text));
        }
        let open = |name: &str, output: &Option<Output>| match (name, output) {
            ("", _) | (_, None) => Ok(None),
            // Only to write: it is the reader's going that must be seen.
            (name, Some(_)) => open_fifo(name, OFlags::WRONLY).map(Some),
        };
        let [out, err] = &self.outputs;
        let sinks = [open(stdout, out)?, open(stderr, err)?];
        self.attachments.add(poller, who, sinks, patient).map_err(Refusal::internal)
    }

    /// A reader has gone.
    pub(crate) fn drop_reader(&mut self, poller: &Poller, key: u32, buffer: &mut [u8]) {
        self.attachments.drop_reader(poller, key);
        // The process may have waited for it.
        for index in 0..2 {
            self.output_ready(poller, index, buffer);
        }
    }

    /// Attachments that are over: who waits for that, and whether it fell behind.
    pub(crate) fn attachments_over(&mut self) -> Vec<(ReplyTo, bool)> {
        self.attachments.take_over()
    }

    /// Whether output waits for the reader of a FIFO.
    pub(crate) fn waits_for_reader(&self) -> bool {
        self.outputs.iter().flatten().any(Output::waits_for_reader)
            || self.attachments.wait_for_reader()
    }

    /// Lets go of everything.
    pub(crate) fn close(&mut self, poller: &Poller) {
        for output in self.outputs.iter_mut().filter_map(Option::take) {
            poller.forget(&output.source);
        }
        if let Some(input) = self.input.take() {
            poller.forget(&input.source);
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
        self.log = None;
        self.console = None;
        self.attachments.close(poller);
        for path in self.fifos.drain(..) {
            // With the bundle gone it is gone too.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Opens the log anew at its path.
    pub(crate) fn reopen_log(&mut self) -> Result<(), Refusal> {
        match &mut self.log {
            Some(log) => log.reopen(),
            None => Err(Refusal::precondition("the container has no log")),
        }
    }

    /// Bytes that the log could not take.
    pub(crate) fn dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.dropped)
    }

    /// Sets the terminal's size.
    pub(crate) fn resize(&self, width: u32, height: u32) -> Result<(), Refusal> {
        let Some(console) = &self.console else {
            return Err(Refusal::precondition("the process has no terminal"));
        };
        let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let size =
            Winsize { ws_row: side(height), ws_col: side(width), ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(console, size).map_err(Refusal::internal)
    }
}

fn pipe(owner: (u32, u32)) -> Result<(OwnedFd, OwnedFd), Refusal> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Refusal::internal)?;
    let (user, group) = owner;
    if owner != (0, 0) && user != u32::MAX && group != u32::MAX {
        rustix::fs::fchown(&read, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
            .map_err(Refusal::internal)?;
    }
    Ok((read, write))
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Refusal> {
    rustix::io::ioctl_fionbio(fd, true).map_err(Refusal::internal)
}

fn open_fifo(name: &str, access: OFlags) -> Result<OwnedFd, Refusal> {
    let path = name.strip_prefix("fifo://").unwrap_or(name);
    if path.contains("://") {
        return Err(Refusal::invalid(format!("stdio {name}: use a FIFO or {CRI_LOG_SCHEME}/path")));
    }
    let path = Path::new(path);
    let failed = |errno: rustix::io::Errno| {
        Refusal::precondition(format!(
            "FIFO {}: {}",
            path.display(),
            orlop_sys::error::reason(errno.raw_os_error())
        ))
    };
    let fd = rustix::fs::open(
        path,
        access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )
    .map_err(failed)?;
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Refusal::invalid(format!("stdio {}: it is not a FIFO", path.display())));
    }
    Ok(fd)
}
