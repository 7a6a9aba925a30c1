//! One conversation with a process of a container, from the first byte to its end.

use super::keys::DetachKeys;
use super::pump::{self, Typed};
use super::signals::Signals;
use super::terminal;
use anyhow::{Context, bail};
use orlop_task::{Client, Session, SessionEnd};
use std::io;
use std::pin::pin;
use tokio::sync::watch;

/// How it is talked.
pub(super) struct Manner {
    /// Of the process.
    pub(super) tty: bool,
    /// Keys to leave with, where it has a terminal and takes what is typed.
    pub(super) keys: Option<DetachKeys>,
    /// Signals go to the process.
    pub(super) proxy: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The process has ended, with this status.
    Exited(u32),
    /// The keys were typed; the process runs on.
    Detached,
    /// This signal was for the command; the process runs on.
    Signalled(i32),
    /// Nobody takes the output any more; the process runs on.
    Unheard,
}

impl Left {
    /// What the command returns.
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Self::Detached => 0,
            Self::Signalled(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
            Self::Unheard => {
                u8::try_from(128 + rustix::process::Signal::PIPE.as_raw()).unwrap_or(u8::MAX)
            }
        }
    }
}

/// Talks to the process `exec_id` (empty: the container's own) until one side leaves.
pub(super) async fn talk(
    client: &Client,
    exec_id: &str,
    session: Session,
    signals: &mut Signals,
    manner: Manner,
) -> anyhow::Result<Left> {
    let Session { stdin, stdout, stderr, size, end, scope } = session;
    let (tell, over) = watch::channel(false);
    let copy = |pipe: Option<_>, to| {
        let over = over.clone();
        async move {
            match pipe {
                Some(pipe) => pump::output(pipe, to, over).await,
                None => Ok(()),
            }
        }
    };
    let mut outputs = pin!(async {
        tokio::try_join!(
            copy(stdout, rustix::stdio::stdout()),
            copy(stderr, rustix::stdio::stderr())
        )
        .map(drop)
    });
    let mut input = pin!(async {
        match stdin {
            Some(pipe) => pump::input(pipe, manner.keys).await,
            None => std::future::pending().await,
        }
    });
    let (mut end, mut typing, mut said_all) = (end, true, false);
    let left = loop {
        tokio::select! {
            ended = &mut end => match ended? {
                SessionEnd::Exited(exit) => break Left::Exited(exit.code),
                SessionEnd::FellBehind => bail!("the shim has cut this attachment off"),
            },
            done = &mut outputs, if !said_all => {
                said_all = true;
                if let Some(left) = unheard(done)? {
                    break left;
                }
            }
            typed = &mut input, if typing => {
                typing = false;
                if typed.context("standard input cannot be read")? == Typed::Detached {
                    break Left::Detached;
                }
            }
            signal = signals.next() => match signal {
                None => if let Some(now) = terminal::size() {
                    size.send_replace(now);
                },
                Some((number, false)) if manner.proxy && !manner.tty => {
                    // It may have ended in this moment.
                    let _ = client.kill(exec_id, number.unsigned_abs(), false).await;
                }
                Some((number, _)) => break Left::Signalled(number),
            },
        }
    };
    let Left::Exited(_) = left else {
        // A command that runs is left to itself, as the container's own process is.
        scope.leave();
        return Ok(left);
    };
    tell.send_replace(true);
    let heard = if said_all { Ok(None) } else { unheard(outputs.await) };
    scope.finish().await;
    Ok(heard?.unwrap_or(left))
}

/// Whether our own reader has gone.
fn unheard(done: io::Result<()>) -> anyhow::Result<Option<Left>> {
    match done {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Some(Left::Unheard)),
        Err(error) => Err(error).context("the output cannot be written"),
    }
}
