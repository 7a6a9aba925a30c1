//! The event loop: connections and signals around the [`Shim`].

use crate::error::Refusal;
use crate::poll::{Ready, Token};
use crate::rpc::{Conn, Incoming, ReplyTo};
use crate::shim::Shim;
use nix::sys::signalfd::SignalFd;
use orlop_task::ttrpc::Code;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

/// Clients at once; one daemon needs one.
const MAX_CONNS: usize = 64;
/// A shim without container and clients serves nobody; it ends after this many milliseconds.
const LONELY: u64 = 30_000;
/// After an accept that failed, the next try comes this many milliseconds later, or with the next
/// connection that ends.
const RETRY: u64 = 500;

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Server {
    shim: Shim,
    listener: OwnedFd,
    signals: SignalFd,
    conns: BTreeMap<u32, Conn>,
    next_conn: u32,
    accepting: bool,
    /// When to try again to accept, on the shim's clock.
    retry: Option<u64>,
}

impl Server {
    pub(crate) fn new(shim: Shim, listener: OwnedFd, signals: SignalFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        shim.poller.readable(&listener, Token::Listener)?;
        shim.poller.readable(&signals, Token::Signals)?;
        Ok(Self {
            shim,
            listener,
            signals,
            conns: BTreeMap::new(),
            next_conn: 0,
            accepting: true,
            retry: None,
        })
    }

    /// Serves until it is time to end.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        while !self.shim.quit {
            let lonely = self.conns.is_empty() && self.shim.container.is_none();
            let retry = self.retry.map(|at| at.saturating_sub(self.shim.clock()));
            let timeouts =
                [self.shim.patience(), self.shim.next_duty(), lonely.then_some(LONELY), retry];
            self.shim.poller.wait(timeouts.into_iter().flatten().min(), &mut ready)?;
            if self.retry.is_some_and(|at| at <= self.shim.clock()) {
                self.accept_again();
            } else if lonely && retry.is_none() && ready.is_empty() && self.shim.container.is_none()
            {
                self.shim.leave();
            }
            for event in &ready {
                self.dispatch(*event);
                self.deliver();
            }
            self.shim.finish_exits();
            self.shim.do_duties();
            self.shim.finish_deletions();
            self.shim.leave_if_late();
            self.deliver();
        }
        Ok(())
    }

    fn dispatch(&mut self, event: Ready) {
        match event.token {
            Token::Listener => self.accept(),
            Token::Signals => self.signal(),
            Token::Oom => self.shim.oom_ready(),
            Token::Publisher => self.shim.publisher_ready(),
            Token::Foreign => self.shim.foreign_ready(),
            Token::ForeignLog => self.shim.foreign_log_ready(),
            Token::Conn(key) => self.talk(key, event),
            Token::Exit(key) => self.shim.exit_ready(key),
            Token::Stage(key) => self.shim.stage_ready(key),
            Token::Output(key, stream) | Token::OutputSink(key, stream) => {
                self.shim.output_ready(key, stream)
            }
            Token::Input(key) | Token::InputSink(key) => self.shim.input_ready(key),
            Token::Attachment(key) => self.shim.detach(key),
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            // The client has gone again.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            // No descriptor is left, most likely. The client stays in the queue; asking for it without
            // a pause would only burn the container's CPU time.
            Err(error) => {
                crate::diagnostics::note(&format!("a client has to wait: accept: {error}"));
                self.accept_no_more();
                self.retry = Some(self.shim.clock().saturating_add(RETRY));
                return;
            }
        };
        // The socket's mode keeps others out; this also holds where a directory was opened up by mistake.
        let peer = rustix::net::sockopt::socket_peercred(&socket);
        if !peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid()) {
            return;
        }
        self.next_conn += 1;
        if let Ok(conn) = Conn::new(&self.shim.poller, socket, Token::Conn(self.next_conn)) {
            self.conns.insert(self.next_conn, conn);
        }
        if self.conns.len() >= MAX_CONNS {
            self.accept_no_more();
        }
    }

    fn accept_no_more(&mut self) {
        self.accepting = false;
        self.shim.poller.forget(&self.listener);
    }

    fn accept_again(&mut self) {
        self.retry = None;
        if !self.accepting && self.shim.poller.readable(&self.listener, Token::Listener).is_ok() {
            self.accepting = true;
        }
    }

    fn hang_up(&mut self, key: u32) {
        self.conns.remove(&key);
        self.accept_again();
    }

    /// Only the end of children concerns us; every other signal is taken and ignored: a shim ends
    /// when its container is deleted, not when somebody ends a session.
    fn signal(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.shim.reap_orphans();
    }

    fn talk(&mut self, key: u32, event: Ready) {
        let Some(conn) = self.conns.get_mut(&key) else { return };
        let mut frames = Vec::new();
        let mut end = Ok(());
        if event.read {
            end = conn.receive(&mut self.shim.buffer, &mut frames);
        }
        if event.write && end.is_ok() {
            end = conn.send(&self.shim.poller);
        }
        for frame in frames {
            match frame {
                Incoming::Request(stream, request) => {
                    self.shim.serve(ReplyTo { conn: key, stream }, &request)
                }
                Incoming::Response(stream, _) => {
                    let refusal = Refusal::new(Code::InvalidArgument, "this side does not call");
                    self.shim.refuse(ReplyTo { conn: key, stream }, refusal);
                }
                Incoming::Bad(stream, refusal) => {
                    self.shim.refuse(ReplyTo { conn: key, stream }, refusal)
                }
            }
        }
        if end.is_err() {
            self.hang_up(key);
        }
    }

    /// Hands answers to their connections; one for a client that has gone is dropped.
    fn deliver(&mut self) {
        while !self.shim.replies.is_empty() {
            for (to, reply) in std::mem::take(&mut self.shim.replies) {
                let Some(conn) = self.conns.get_mut(&to.conn) else { continue };
                if conn.answer(&self.shim.poller, to.stream, reply).is_err() {
                    self.hang_up(to.conn);
                }
            }
        }
    }
}
