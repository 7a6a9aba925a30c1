//! CPU use over time, from a counter that only grows.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Readings closer together than this say more about the scheduler than about the container.
const LEAST: Duration = Duration::from_secs(1);

/// Remembers the last reading that counted.
#[derive(Debug, Default)]
pub(crate) struct CpuRate(Mutex<Option<Reading>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    when: Instant,
    cpu_ns: u64,
    rate: Option<u64>,
}

impl CpuRate {
    /// Takes a reading; billionths of a core since the last one that is far enough back. Any number
    /// of clients may ask in any rhythm.
    pub(crate) fn note(&self, cpu_ns: Option<u64>, when: Instant) -> Option<u64> {
        let cpu_ns = cpu_ns?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = *last else {
            *last = Some(Reading { when, cpu_ns, rate: None });
            return None;
        };
        let time = when.saturating_duration_since(before.when);
        if time < LEAST {
            return before.rate;
        }
        // A counter that went back is another cgroup's: nothing is known of the time between.
        let used = cpu_ns.checked_sub(before.cpu_ns);
        let rate = used.and_then(|used| {
            u64::try_from(u128::from(used) * 1_000_000_000 / time.as_nanos()).ok()
        });
        *last = Some(Reading { when, cpu_ns, rate });
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let (rate, begun) = (CpuRate::default(), Instant::now());
        let at = |millis| begun + Duration::from_millis(millis);
        assert_eq!(rate.note(None, at(0)), None);
        assert_eq!(rate.note(Some(1_000), at(0)), None, "nothing to compare with");
        assert_eq!(rate.note(Some(9_000), at(10)), None, "too close");
        assert_eq!(rate.note(Some(1_000_001_000), at(2_000)), Some(500_000_000), "half a core");
        assert_eq!(rate.note(Some(1_900_000_000), at(2_100)), Some(500_000_000), "the last one");
        assert_eq!(rate.note(Some(5), at(4_000)), None, "a counter that went back");
        assert_eq!(rate.note(Some(5), at(6_000)), Some(0));
    }
}
