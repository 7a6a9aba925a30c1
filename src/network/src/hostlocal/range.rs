//! Ranges of addresses and the order in which they are given out.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A contiguous range of a subnet, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub subnet: IpNet,
    pub start: IpAddr,
    pub end: IpAddr,
    pub gateway: IpAddr,
}

/// Ranges of one family out of which one address is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RangeSet(pub Vec<Range>);

/// The address after this one.
pub(crate) fn next(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
    }
}

impl Range {
    /// Checks a range and fills in what was not given.
    pub(super) fn new(
        subnet: IpNet,
        start: Option<IpAddr>,
        end: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Self, String> {
        if subnet.prefix_len() + 2 > subnet.max_prefix_len() {
            return Err(format!("subnet {subnet} is too small to give addresses from"));
        }
        if subnet.trunc() != subnet {
            return Err(format!("subnet {subnet} has host bits set: write {}", subnet.trunc()));
        }
        let inside = |name: &str, ip: Option<IpAddr>| match ip {
            Some(ip) if !subnet.contains(&ip) => {
                Err(format!("{name} {ip} is not in subnet {subnet}"))
            }
            ip => Ok(ip),
        };
        let first = next(subnet.network());
        // IPv4 keeps its last address for broadcast.
        let last = match subnet {
            IpNet::V4(net) => Ipv4Addr::from_bits(net.broadcast().to_bits() - 1).into(),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        let start = inside("rangeStart", start)?.unwrap_or(first);
        let end = inside("rangeEnd", end)?.unwrap_or(last);
        if start > end {
            return Err(format!("rangeStart {start} lies behind rangeEnd {end}"));
        }
        Ok(Self { subnet, start, end, gateway: gateway.unwrap_or(first) })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.start.is_ipv4() && (self.start..=self.end).contains(&ip)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4()
            && self.start <= other.end
            && other.start <= self.end
    }
}

impl RangeSet {
    /// Checks a set.
    pub(super) fn new(ranges: Vec<Range>) -> Result<Self, String> {
        let Some(first) = ranges.first() else { return Err("the range set is empty".into()) };
        if ranges.iter().any(|range| range.start.is_ipv4() != first.start.is_ipv4()) {
            return Err("the range set mixes IPv4 and IPv6".into());
        }
        for (index, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[index + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(format!("subnets {} and {} overlap", one.subnet, other.subnet));
            }
        }
        Ok(Self(ranges))
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|other| one.overlaps(other)))
    }

    /// The range that has the address.
    pub(super) fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(ip))
    }

    /// All addresses once, beginning after `last` where that is one of them, without gateways.
    pub(super) fn after(&self, last: Option<IpAddr>) -> Candidates<'_> {
        let at = last.and_then(|last| {
            self.0.iter().position(|range| range.contains(last)).map(|index| (index, last))
        });
        Candidates { set: self, at, first: None, done: false }
    }
}

impl std::fmt::Display for RangeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{}-{}", if index > 0 { "," } else { "" }, range.start, range.end)?;
        }
        Ok(())
    }
}

/// Addresses in the order in which they are tried.
pub(super) struct Candidates<'a> {
    set: &'a RangeSet,
    at: Option<(usize, IpAddr)>,
    first: Option<IpAddr>,
    done: bool,
}

impl<'a> Iterator for Candidates<'a> {
    type Item = (IpAddr, &'a Range);

    fn next(&mut self) -> Option<Self::Item> {
        let ranges = &self.set.0;
        while !self.done {
            let (index, ip) = match self.at {
                None => (0, ranges[0].start),
                Some((index, ip)) if ip == ranges[index].end => {
                    let index = (index + 1) % ranges.len();
                    (index, ranges[index].start)
                }
                Some((index, ip)) => (index, next(ip)),
            };
            if self.first == Some(ip) {
                self.done = true;
                return None;
            }
            self.first.get_or_insert(ip);
            self.at = Some((index, ip));
            if ip != ranges[index].gateway {
                return Some((ip, &ranges[index]));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(&str, Option<&str>, Option<&str>)]) -> RangeSet {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let ranges = ranges.iter().map(|(subnet, start, end)| {
            Range::new(subnet.parse().unwrap(), start.map(parse), end.map(parse), None).unwrap()
        });
        RangeSet::new(ranges.collect()).unwrap()
    }

    fn order(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        set.after(last.map(|l| l.parse().unwrap())).map(|(ip, _)| ip.to_string()).collect()
    }

    #[test]
    fn every_address_once_without_the_gateway() {
        let one = set(&[("10.0.0.0/29", None, None)]);
        assert_eq!(order(&one, None), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(
            order(&one, Some("10.0.0.4")),
            ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
        );
        let two = set(&[
            ("10.0.0.0/30", None, None),
            ("10.0.1.0/29", Some("10.0.1.3"), Some("10.0.1.4")),
        ]);
        assert_eq!(order(&two, Some("10.0.0.2")), ["10.0.1.3", "10.0.1.4", "10.0.0.2"]);
        assert_eq!(order(&two, Some("192.168.0.1")).len(), 3);
    }

    #[test]
    fn defaults_leave_broadcast_out_of_ipv4_only() {
        let v6 = set(&[("fd00::/126", None, None)]);
        assert_eq!(order(&v6, None), ["fd00::2", "fd00::3"]);
    }

    #[test]
    fn bad_ranges() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (range, word) in [
            (Range::new(net("10.0.0.0/31"), None, None, None), "small"),
            (Range::new(net("10.0.0.1/24"), None, None, None), "host bits"),
            (Range::new(net("10.0.0.0/24"), ip("10.0.1.1"), None, None), "rangeStart"),
            (Range::new(net("10.0.0.0/24"), None, ip("fd00::1"), None), "rangeEnd"),
            (Range::new(net("10.0.0.0/24"), ip("10.0.0.9"), ip("10.0.0.8"), None), "behind"),
        ] {
            assert!(range.unwrap_err().contains(word), "{word}");
        }
        let one = Range::new(net("10.0.0.0/24"), None, None, None).unwrap();
        let six = Range::new(net("fd00::/64"), None, None, None).unwrap();
        assert!(RangeSet::new(vec![one.clone(), one.clone()]).unwrap_err().contains("overlap"));
        assert!(RangeSet::new(vec![one, six]).unwrap_err().contains("mixes"));
        assert!(RangeSet::new(vec![]).is_err());
    }
}
