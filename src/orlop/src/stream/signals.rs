//! Signals that come to the command while it stands in front of a container.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Those that are passed on, or end the command.
const PASSED: [i32; 6] = [
    rustix::process::Signal::HUP.as_raw(),
    rustix::process::Signal::INT.as_raw(),
    rustix::process::Signal::QUIT.as_raw(),
    rustix::process::Signal::TERM.as_raw(),
    rustix::process::Signal::USR1.as_raw(),
    rustix::process::Signal::USR2.as_raw(),
];
/// So many of SIGINT and SIGTERM together end the command, whatever the container makes of them.
const ENOUGH: u32 = 3;

/// From its making on none of the signals ends the process by itself.
pub(super) struct Signals {
    numbers: mpsc::Receiver<i32>,
    resized: tokio::signal::unix::Signal,
    insisted: u32,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let (send, numbers) = mpsc::channel(16);
        for number in PASSED {
            let mut one =
                signal(SignalKind::from_raw(number)).context("signals cannot be waited for")?;
            let send = send.clone();
            tokio::spawn(async move {
                while one.recv().await.is_some() {
                    if send.send(number).await.is_err() {
                        return;
                    }
                }
            });
        }
        let resized =
            signal(SignalKind::window_change()).context("signals cannot be waited for")?;
        Ok(Self { numbers, resized, insisted: 0 })
    }

    /// The next signal, and whether it was sent so often that the command is meant; `None`: the terminal
    /// has another size.
    pub(super) async fn next(&mut self) -> Option<(i32, bool)> {
        tokio::select! {
            Some(number) = self.numbers.recv() => {
                let asks_for_the_end = number == rustix::process::Signal::INT.as_raw()
                    || number == rustix::process::Signal::TERM.as_raw();
                self.insisted += u32::from(asks_for_the_end);
                Some((number, asks_for_the_end && self.insisted >= ENOUGH))
            }
            Some(()) = self.resized.recv() => None,
            else => std::future::pending().await,
        }
    }
}
