//! Single-use tokens: what a URL stands for, until somebody comes for it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a token is good.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How many may wait to be used.
pub const MAX_WAITING: usize = 1000;

/// Tokens and what they stand for.
#[derive(Debug)]
pub(crate) struct Tokens<T>(Mutex<HashMap<[u8; 16], (T, Instant)>>);

/// Too many tokens wait to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} streaming requests wait for their clients already: try again in a moment")]
pub struct TooManyWaiting;

impl<T> Tokens<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// A new token for `what`: 128 bits of the system's randomness, in letters that a URL takes.
    pub(crate) fn issue(&self, what: T) -> Result<String, TooManyWaiting> {
        self.issue_at(what, Instant::now())
    }

    fn issue_at(&self, what: T, now: Instant) -> Result<String, TooManyWaiting> {
        let mut token = [0; 16];
        rand::rng().fill_bytes(&mut token);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            waiting.retain(|_, (_, until)| *until > now);
            if waiting.len() >= MAX_WAITING {
                return Err(TooManyWaiting);
            }
        }
        waiting.insert(token, (what, now + LIFETIME));
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// What a token stands for. It is used up with this.
    pub(crate) fn redeem(&self, token: &str) -> Option<T> {
        self.redeem_at(token, Instant::now())
    }

    fn redeem_at(&self, token: &str, now: Instant) -> Option<T> {
        let token: [u8; 16] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, until) = waiting.remove(&token)?;
        (until > now).then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_and_for_a_minute() {
        let (tokens, now) = (Tokens::new(), Instant::now());
        let token = tokens.issue(7).unwrap();
        assert_eq!(token.len(), 22);
        assert_eq!(tokens.redeem(&token), Some(7));
        assert_eq!(tokens.redeem(&token), None);
        let late = tokens.issue_at(8, now).unwrap();
        assert_eq!(tokens.redeem_at(&late, now + LIFETIME), None);
        for guess in ["", "AAAAAAAAAAAAAAAAAAAAAA", "../../etc", &"A".repeat(10_000)] {
            assert_eq!(tokens.redeem(guess), None);
        }
    }

    #[test]
    fn as_many_as_allowed() {
        let (tokens, now) = (Tokens::new(), Instant::now());
        let all: Vec<_> = (0..MAX_WAITING).map(|n| tokens.issue_at(n, now).unwrap()).collect();
        assert_eq!(tokens.issue_at(0, now), Err(TooManyWaiting));
        assert_eq!(tokens.redeem_at(&all[3], now), Some(3));
        tokens.issue_at(0, now).unwrap();
        assert_eq!(tokens.issue_at(0, now), Err(TooManyWaiting));
        tokens.issue_at(0, now + LIFETIME).unwrap();
    }
}
