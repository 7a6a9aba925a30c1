//! What the interfaces of a pod have carried.

use crate::NetworkError;
use crate::netns::{error, inside_net, open};
use std::path::Path;

/// Counters of one interface since it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Its name in the pod.
    pub name: String,
    /// What came in.
    pub received: Traffic,
    /// What went out.
    pub sent: Traffic,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// Counters of all interfaces but the loopback in a network namespace. One file is read, by the
/// calling thread, which is in the namespace only meanwhile. Blocking.
pub fn interface_counters(netns: &Path) -> Result<Vec<InterfaceCounters>, NetworkError> {
    const READING: &str = "reading the interfaces' counters";
    let netns = open(netns).map_err(error(READING))?;
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
    let text = inside_net(netns, read).and_then(|text| text).map_err(error(READING))?;
    Ok(parse(&text))
}

/// Two lines of headings, then `eth0: ` and eight numbers for each direction.
fn parse(text: &str) -> Vec<InterfaceCounters> {
    let line = |line: &str| {
        let (name, numbers) = line.rsplit_once(':')?;
        let mut numbers = numbers.split_ascii_whitespace().map(|text| text.parse::<u64>().ok());
        let mut traffic = || {
            let mut next = || numbers.next().flatten();
            let traffic =
                Traffic { bytes: next()?, packets: next()?, errors: next()?, dropped: next()? };
            // FIFO, frame or collisions, compressed, multicast or carrier.
            numbers.nth(3)??;
            Some(traffic)
        };
        let (received, sent) = (traffic()?, traffic()?);
        Some(InterfaceCounters { name: name.trim().to_owned(), received, sent })
    };
    text.lines().filter_map(line).filter(|counters| counters.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:      10       1    0    0    0     0          0         0       10       1    0    0    0     0       0          0\n  \
            eth0: 1000 20 3 4 5 6 7 8 9000 10 11 12 13 14 15 16\n";
        let expected = InterfaceCounters {
            name: "eth0".into(),
            received: Traffic { bytes: 1000, packets: 20, errors: 3, dropped: 4 },
            sent: Traffic { bytes: 9000, packets: 10, errors: 11, dropped: 12 },
        };
        assert_eq!(parse(text), [expected]);
    }

    #[test]
    fn the_thread_comes_back() {
        let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = own();
        let counters = interface_counters(Path::new("/proc/self/ns/net")).unwrap();
        assert!(counters.iter().all(|counters| counters.name != "lo"), "{counters:?}");
        assert_eq!(own(), before);
        assert!(interface_counters(Path::new("/no/such")).is_err());
    }
}
