//! Making data durable once for all who wait for it.

use super::Layout;
use rustix::io::Errno;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Joins calls for `syncfs`: those that come while one runs share the next one.
pub(crate) struct Syncer {
    layout: Arc<Layout>,
    rounds: Mutex<Rounds>,
    changed: Condvar,
}

#[derive(Default)]
struct Rounds {
    started: u64,
    ended: u64,
    /// The error of the last round that had one.
    failed: Option<(u64, Errno)>,
}

impl Syncer {
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        Self { layout, rounds: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns when everything that was written before the call is on the disk. Blocking.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        // A round that runs may have passed our data already.
        let mine = rounds.started + 1;
        loop {
            if rounds.ended >= mine {
                return match rounds.failed {
                    Some((round, errno)) if round >= mine => Err(errno.into()),
                    _ => Ok(()),
                };
            }
            if rounds.started > rounds.ended {
                rounds = self.changed.wait(rounds).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            rounds.started += 1;
            let round = rounds.started;
            drop(rounds);
            let result = self.layout.sync_data();
            rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
            rounds.ended = round;
            if let Err(error) = result {
                rounds.failed =
                    Some((round, error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)));
            }
            self.changed.notify_all();
        }
    }
}
