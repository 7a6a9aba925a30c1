//! The command line with something on its standard input, or on a terminal.

use crate::World;
use crate::process::until;
use rustix::pty::OpenptFlags;
use rustix::termios::{Termios, Winsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The image that people's tests run.
pub const IMAGE: &str = "127.0.0.1:5000/people/busybox:1";

/// A world with an image in it, and a daemon or none.
pub fn world(daemon: bool) -> World {
    let mut world = World::for_people();
    let tree = world.path("tmp/tree");
    crate::images::busybox_root(&tree);
    let layer = crate::images::pack(&tree, &world.path("tmp/layer.tar"));
    world.push(
        "people/busybox:1",
        &[layer.as_path()],
        r#"{"Cmd":["sh"],"Env":["PATH=/bin"]}"#,
        &[],
    );
    if daemon {
        world.start();
    }
    world.says(&["pull", IMAGE]);
    world
}

/// Runs a test through both doors.
pub fn both(test: impl Fn(World)) {
    for daemon in [false, true] {
        eprintln!("--- {}", if daemon { "with a daemon" } else { "without a daemon" });
        test(world(daemon));
    }
}

impl World {
    /// What it does, whatever comes of it.
    pub fn try_orlop(&self, arguments: &[&str]) -> Output {
        crate::process::output(&mut self.orlop(arguments))
    }

    /// Its status, standard output and standard error, with something on standard input.
    pub fn orlop_with(&self, arguments: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
        let mut child = self
            .orlop(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("orlop");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // It may have ended without reading all.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("orlop");
        writer.join().expect("writer");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), output.stdout, error)
    }

    /// The same on a terminal of this size.
    pub fn terminal(&self, arguments: &[&str], (rows, columns): (u16, u16)) -> Terminal {
        let mut command = Command::new("setsid");
        command.arg("--ctty");
        let orlop = self.orlop(arguments);
        command.arg(orlop.get_program()).args(orlop.get_args());
        Terminal::start(command, rows, columns)
    }
}

/// A command on a pseudo-terminal.
pub struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
    before: Termios,
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("pseudo-terminal");
        rustix::pty::unlockpt(&master).expect("unlocked");
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its other side");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).expect("size");
        let before = rustix::termios::tcgetattr(&slave).expect("attributes");
        let end = || Stdio::from(slave.try_clone().expect("clone"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("command");
        let mut reader = File::from(master.try_clone().expect("clone"));
        let (send, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 || send.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master, slave, before, child, output, seen: Vec::new() }
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        let mut file = File::from(self.master.try_clone().expect("clone"));
        file.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits until this is shown, and returns what was shown up to its end.
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            let found = self.seen.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let shown: Vec<u8> = self.seen.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&shown).into_owned();
            }
            match self.output.recv_timeout(Duration::from_secs(60)) {
                Ok(more) => self.seen.extend(more),
                Err(error) => {
                    let seen = String::from_utf8_lossy(&self.seen);
                    panic!("waited for {text:?} ({error}); shown was {seen:?}");
                }
            }
        }
    }

    /// Types a command to a shell and waits for its end; what it wrote.
    pub fn shell(&mut self, line: &str) -> String {
        // The echo of what is typed has the quotes.
        self.send(&format!("{line}; echo do''ne\r"));
        let shown = self.expect("\r\ndone\r\n");
        self.expect("# ");
        shown
    }

    /// Gives it another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).expect("size");
    }

    /// Waits for its end: its status. The terminal is as it was before.
    pub fn end(mut self) -> i32 {
        let mut status = None;
        until("the command on the terminal to end", || {
            status = self.child.try_wait().expect("child");
            status.is_some()
        });
        let after = rustix::termios::tcgetattr(&self.slave).expect("attributes");
        assert_eq!(format!("{after:?}"), format!("{:?}", self.before), "the terminal is as before");
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
