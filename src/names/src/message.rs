//! DNS messages: what is asked, and answers. Pure.

use simple_dns::rdata::{A, AAAA, PTR, RData};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest datagram that is read; resolvers answer no longer ones without being asked to.
pub const MAX_DATAGRAM: usize = 4096;
/// Seconds that an answer of ours holds. Containers come and go.
const TTL: u32 = 5;
/// Addresses in one answer: it must fit into 512 bytes.
const MAX_ADDRESSES: usize = 8;
/// Length of a message's header.
const HEADER: usize = 12;

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The name, in small letters, without the last dot.
    pub name: String,
    /// What about it.
    pub kind: Kind,
}

/// The kinds of questions that are answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Either.
    Any,
    /// Whose address this is.
    Pointer(IpAddr),
    /// Anything else.
    Other,
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is known; of these addresses those of the kind that was asked for.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Name(String),
}

/// Why a message is not answered as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Nothing that an answer could go to.
    Noise,
    /// To be told so.
    Refused(RCODE),
}

/// Reads a question.
pub fn ask(message: &[u8]) -> Result<Asked, Bad> {
    // A response is no question, and answering it could go on for ever.
    if message.len() < HEADER || message.get(2).is_none_or(|flags| flags & 0x80 != 0) {
        return Err(Bad::Noise);
    }
    let packet = Packet::parse(message).map_err(|_| Bad::Refused(RCODE::FormatError))?;
    if packet.opcode() != OPCODE::StandardQuery {
        return Err(Bad::Refused(RCODE::NotImplemented));
    }
    let [question] = packet.questions.as_slice() else {
        return Err(Bad::Refused(RCODE::FormatError));
    };
    let name = question.qname.to_string().to_ascii_lowercase();
    let name = name.trim_end_matches('.').to_owned();
    let internet = matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    let kind = match question.qtype {
        _ if !internet => Kind::Other,
        QTYPE::TYPE(TYPE::A) => Kind::A,
        QTYPE::TYPE(TYPE::AAAA) => Kind::Aaaa,
        QTYPE::TYPE(TYPE::PTR) => address(&name).map_or(Kind::Other, Kind::Pointer),
        QTYPE::ANY => Kind::Any,
        _ => Kind::Other,
    };
    Ok(Asked { name, kind })
}

/// The address that a name of the reverse zones means.
fn address(name: &str) -> Option<IpAddr> {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<u8> =
            reversed.split('.').rev().map(|part| part.parse().ok()).collect::<Option<_>>()?;
        return <[u8; 4]>::try_from(parts).ok().map(|octets| Ipv4Addr::from(octets).into());
    }
    let reversed = name.strip_suffix(".ip6.arpa")?;
    let nibbles: Vec<u8> = reversed
        .split('.')
        .rev()
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 1))
        .collect::<Option<_>>()?;
    let octets: Vec<u8> = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let octets = <[u8; 16]>::try_from(octets).ok().filter(|_| nibbles.len() == 32)?;
    Some(Ipv6Addr::from(octets).into())
}

/// The answer to a question that [`ask`] could read; `None`: it cannot be put together.
pub fn reply(message: &[u8], answer: &Answer) -> Option<Vec<u8>> {
    let asked = ask(message).ok()?;
    let mut packet = Packet::parse(message).ok()?.into_reply();
    packet.set_flags(PacketFlag::RECURSION_AVAILABLE | PacketFlag::AUTHORITATIVE_ANSWER);
    packet.remove_flags(PacketFlag::TRUNCATION | PacketFlag::AUTHENTIC_DATA);
    *packet.rcode_mut() = RCODE::NoError;
    *packet.opt_mut() = None;
    packet.answers.clear();
    packet.name_servers.clear();
    packet.additional_records.clear();
    let name = packet.questions.first()?.qname.clone();
    let record = |data| ResourceRecord::new(name.clone(), CLASS::IN, TTL, data);
    match answer {
        Answer::Addresses(addresses) => {
            let fits = |ip: &&IpAddr| match asked.kind {
                Kind::A => ip.is_ipv4(),
                Kind::Aaaa => ip.is_ipv6(),
                Kind::Any => true,
                Kind::Pointer(_) | Kind::Other => false,
            };
            for ip in addresses.iter().filter(fits).take(MAX_ADDRESSES) {
                packet.answers.push(record(match *ip {
                    IpAddr::V4(ip) => RData::A(A { address: ip.into() }),
                    IpAddr::V6(ip) => RData::AAAA(AAAA { address: ip.into() }),
                }));
            }
        }
        Answer::Name(found) => {
            let found = Name::new(found).ok()?.into_owned();
            packet.answers.push(record(RData::PTR(PTR(found))));
        }
    }
    packet.build_bytes_vec_compressed().ok()
}

/// A refusal of whatever that was: the header back with a code, and the question where it can be read.
pub fn refuse(message: &[u8], code: RCODE) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([*message.first()?, *message.get(1)?]);
    let mut packet = match Packet::parse(message) {
        Ok(mut asked) => {
            let mut packet = Packet::new_reply(id);
            packet.questions.append(&mut asked.questions);
            if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
                packet.set_flags(PacketFlag::RECURSION_DESIRED);
            }
            packet
        }
        Err(_) => Packet::new_reply(id),
    };
    packet.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    *packet.rcode_mut() = code;
    packet.build_bytes_vec_compressed().ok()
}

/// Whether `message` answers `question`, which was sent with the id `id`.
pub(crate) fn answers(question: &[u8], message: &[u8], id: u16) -> bool {
    let (Some(header), Some(end)) = (message.get(..HEADER), question_end(question)) else {
        return false;
    };
    let same_id = header.get(..2) == Some(&id.to_be_bytes()[..]);
    let response = header.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let one = header.get(4..6) == Some(&[0, 1][..]);
    let asked = question.get(HEADER..end);
    let told = message.get(HEADER..end);
    // Some resolvers change the case of letters.
    let same = asked.zip(told).is_some_and(|(asked, told)| asked.eq_ignore_ascii_case(told));
    same_id && response && one && same
}

/// Where the first question of a message ends.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    // The last label, type and class.
    Some(at + 5).filter(|end| *end <= message.len())
}

/// The same message under another id.
pub(crate) fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut copy = message.to_vec();
    if let Some(place) = copy.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::Question;

    fn question(name: &str, kind: QTYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(77);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let class = QCLASS::CLASS(CLASS::IN);
        packet.questions.push(Question::new(Name::new(name).unwrap(), kind, class, false));
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn questions_are_read() {
        let kinds = [
            ("Web", QTYPE::TYPE(TYPE::A), "web", Kind::A),
            ("web.", QTYPE::TYPE(TYPE::AAAA), "web", Kind::Aaaa),
            ("web", QTYPE::TYPE(TYPE::MX), "web", Kind::Other),
            (
                "4.3.2.10.in-addr.arpa",
                QTYPE::TYPE(TYPE::PTR),
                "4.3.2.10.in-addr.arpa",
                Kind::Pointer("10.2.3.4".parse().unwrap()),
            ),
            ("3.2.10.in-addr.arpa", QTYPE::TYPE(TYPE::PTR), "3.2.10.in-addr.arpa", Kind::Other),
        ];
        for (text, qtype, name, kind) in kinds {
            let asked = ask(&question(text, qtype)).unwrap();
            assert_eq!((asked.name.as_str(), asked.kind), (name, kind));
        }
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(address(six), Some("fd00::1".parse().unwrap()));
        let mut response = question("web", QTYPE::TYPE(TYPE::A));
        response[2] |= 0x80;
        assert_eq!(ask(&response), Err(Bad::Noise));
        assert_eq!(ask(b"x"), Err(Bad::Noise));
        let mut update = question("web", QTYPE::TYPE(TYPE::A));
        update[2] |= 5 << 3;
        assert_eq!(ask(&update), Err(Bad::Refused(RCODE::NotImplemented)));
    }

    #[test]
    fn answers_hold_what_was_asked_for() {
        let both: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let asked = question("web", QTYPE::TYPE(TYPE::A));
        let bytes = reply(&asked, &Answer::Addresses(both.clone())).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.id(), packet.answers.len(), packet.rcode()), (77, 1, RCODE::NoError));
        assert!(answers(&asked, &bytes, 77) && !answers(&asked, &bytes, 78));
        let asked = question("web", QTYPE::TYPE(TYPE::MX));
        let bytes = reply(&asked, &Answer::Addresses(both)).unwrap();
        assert!(
            Packet::parse(&bytes).unwrap().answers.is_empty(),
            "the name is known, this is not"
        );
        let many: Vec<IpAddr> = (0..200).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        let asked = question(&"a".repeat(63), QTYPE::TYPE(TYPE::A));
        assert!(reply(&asked, &Answer::Addresses(many)).unwrap().len() <= 512);
        let asked = question("1.0.0.10.in-addr.arpa", QTYPE::TYPE(TYPE::PTR));
        let bytes = reply(&asked, &Answer::Name("web".into())).unwrap();
        assert_eq!(Packet::parse(&bytes).unwrap().answers.len(), 1);
    }

    #[test]
    fn refusals_keep_the_id() {
        let asked = question("web", QTYPE::TYPE(TYPE::A));
        let bytes = refuse(&asked, RCODE::NameError).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(
            (packet.id(), packet.rcode(), packet.questions.len()),
            (77, RCODE::NameError, 1)
        );
        assert!(refuse(b"\0\x01garbage!!!", RCODE::FormatError).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            crate::fuzz(&data);
        }

        #[test]
        fn nor_is_a_damaged_question(at in 0_usize..40, to in any::<u8>()) {
            let mut asked = question("a.web.example", QTYPE::TYPE(TYPE::A));
            let place = at % asked.len();
            asked[place] = to;
            crate::fuzz(&asked);
        }
    }
}
