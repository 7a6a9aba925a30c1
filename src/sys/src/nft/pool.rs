//! Sockets that are kept open.
//!
//! Closing a netfilter socket soon after something was deleted waits for the kernel's next grace
//! period (16 ms measured) with the lock of the whole ruleset held, so the next change by anybody
//! waits too. A kept socket costs one descriptor.

use super::{Nft, NftError};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Most sockets kept in the process, over all namespaces: as many pods as can sensibly come and go
/// in the same moment, or their sockets would be closed while they go.
const KEPT: usize = 16;

/// Device and inode of a network namespace.
type Place = (u64, u64);

/// Sockets in nobody's hands. A socket keeps its namespace alive, so a number cannot come to mean
/// another namespace while it stands here.
static KEPT_SOCKETS: Mutex<Vec<(Place, Nft)>> = Mutex::new(Vec::new());

/// A socket that is kept for the next user when this is dropped.
#[derive(Debug)]
pub struct KeptNft {
    /// Absent only while it is dropped.
    nft: Option<Nft>,
    place: Option<Place>,
}

fn place() -> Option<Place> {
    let stat = rustix::fs::stat("/proc/thread-self/ns/net").ok()?;
    Some((stat.st_dev, stat.st_ino))
}

impl Nft {
    /// As [`Nft::open`], with a socket that was used in the same namespace before where there is
    /// one. For a process's own namespace: a kept socket keeps its namespace alive.
    pub fn kept() -> Result<KeptNft, NftError> {
        let place = place();
        let found = place.and_then(|place| {
            let mut sockets = KEPT_SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
            let at = sockets.iter().position(|(other, _)| *other == place)?;
            Some(sockets.swap_remove(at).1)
        });
        let nft = match found {
            Some(nft) => nft,
            None => Nft::open()?,
        };
        Ok(KeptNft { nft: Some(nft), place })
    }
}

impl Drop for KeptNft {
    fn drop(&mut self) {
        let (Some(nft), Some(place)) = (self.nft.take(), self.place) else { return };
        if nft.is_broken() {
            return;
        }
        let mut sockets = KEPT_SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if sockets.len() >= KEPT { Some(sockets.remove(0)) } else { None };
        sockets.push((place, nft));
        drop(sockets);
        // Closed without the lock: that may wait.
        drop(oldest);
    }
}

// The socket is there until drop.
impl Deref for KeptNft {
    type Target = Nft;

    fn deref(&self) -> &Nft {
        match &self.nft {
            Some(nft) => nft,
            None => unreachable!("only drop takes the socket"),
        }
    }
}

impl DerefMut for KeptNft {
    fn deref_mut(&mut self) -> &mut Nft {
        match &mut self.nft {
            Some(nft) => nft,
            None => unreachable!("only drop takes the socket"),
        }
    }
}
