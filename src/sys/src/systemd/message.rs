//! D-Bus messages: calls out, replies and signals in.

use super::wire::{Reader, Writer};

/// Largest message that we take: the protocol allows 128 MiB, systemd's are small.
const LARGEST: usize = 1 << 20;
/// The fixed part of a header and the length of its fields.
pub(super) const FIXED: usize = 16;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_TO: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;
/// No field: those that are not known are skipped, as the specification demands.
const PADDING: u8 = 200;

/// systemd does not look at a whole call that it reads together with the BEGIN before it, until more
/// comes (seen with 257). A call longer than that read, of 256 bytes, has more to come.
const SHORTEST: usize = 1024;

/// A method of systemd's manager object.
pub(super) struct Call<'a> {
    pub(super) serial: u32,
    pub(super) member: &'a str,
    pub(super) signature: &'a str,
    pub(super) body: Vec<u8>,
}

impl Call<'_> {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut message = Writer::default();
        for byte in [b'l', CALL, 0, 1] {
            message.byte(byte);
        }
        message.u32(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        message.u32(self.serial);
        message.array(8, |fields| {
            for (code, kind, text) in [
                (PATH, "o", "/org/freedesktop/systemd1"),
                (INTERFACE, "s", "org.freedesktop.systemd1.Manager"),
                (MEMBER, "s", self.member),
                (DESTINATION, "s", "org.freedesktop.systemd1"),
            ] {
                fields.structure();
                fields.byte(code);
                fields.signature(kind);
                fields.text(text);
            }
            fields.structure();
            fields.byte(SIGNATURE);
            fields.signature("g");
            fields.signature(self.signature);
            fields.structure();
            fields.byte(PADDING);
            fields.signature("s");
            fields.text(&" ".repeat(SHORTEST));
        });
        message.structure();
        let mut bytes = message.finish();
        bytes.extend(self.body);
        bytes
    }
}

/// What systemd says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The reply to a call; the first value, where that is an object path.
    Return { to: u32, path: String },
    /// The refusal of a call.
    Error { to: u32, name: String, text: String },
    /// A job is over.
    JobRemoved { job: String, result: String },
    /// Anything else, which is nothing to us.
    Other,
}

/// Length of the whole message that begins with `fixed`; `None` when it is none that we take.
pub(super) fn total(fixed: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(fixed, 0);
    if reader.byte()? != b'l' {
        return None;
    }
    let mut reader = Reader::new(fixed, 4);
    let body = usize::try_from(reader.u32()?).ok()?;
    reader.u32()?;
    let fields = usize::try_from(reader.u32()?).ok()?;
    let total = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (total <= LARGEST).then_some(total)
}

/// Reads a whole message; `None` when it is damaged.
pub(super) fn decode(bytes: &[u8]) -> Option<Message> {
    let kind = *bytes.get(1)?;
    let mut reader = Reader::new(bytes, 12);
    let end = FIXED + usize::try_from(reader.u32()?).ok()?;
    let (mut member, mut error, mut to, mut signature) = ("", "", 0, "");
    while reader.at() < end {
        reader.align(8)?;
        let code = reader.byte()?;
        match (code, reader.signature()?) {
            (MEMBER, "s") => member = reader.text()?,
            (ERROR_NAME, "s") => error = reader.text()?,
            (REPLY_TO, "u") => to = reader.u32()?,
            (SIGNATURE, "g") => signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return None,
        }
    }
    let mut body = Reader::new(bytes, end.next_multiple_of(8));
    Some(match (kind, member, signature) {
        (RETURN, _, "o") => Message::Return { to, path: body.text()?.to_owned() },
        (RETURN, _, _) => Message::Return { to, path: String::new() },
        (ERROR, _, _) => {
            let text = if signature.starts_with('s') { body.text()? } else { "" };
            Message::Error { to, name: error.to_owned(), text: text.to_owned() }
        }
        (SIGNAL, "JobRemoved", "uoss") => {
            body.u32()?;
            let job = body.text()?.to_owned();
            body.text()?;
            Message::JobRemoved { job, result: body.text()?.to_owned() }
        }
        _ => Message::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with these fields, each a code, a type and a text (or for `u` a number).
    fn message(kind: u8, fields: &[(u8, &str, &str)], body: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        for byte in [b'l', kind, 0, 1] {
            writer.byte(byte);
        }
        writer.u32(u32::try_from(body.len()).unwrap());
        writer.u32(9);
        writer.array(8, |array| {
            for (code, kind, text) in fields {
                array.structure();
                array.byte(*code);
                array.signature(kind);
                match *kind {
                    "u" => array.u32(text.parse().unwrap()),
                    "g" => array.signature(text),
                    _ => array.text(text),
                }
            }
        });
        writer.structure();
        let mut bytes = writer.finish();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn replies_and_signals() {
        let mut body = Writer::default();
        body.text("/org/freedesktop/systemd1/job/5");
        let reply = message(RETURN, &[(REPLY_TO, "u", "3"), (SIGNATURE, "g", "o")], &body.finish());
        assert_eq!(total(&reply[..FIXED]), Some(reply.len()));
        let path = "/org/freedesktop/systemd1/job/5".to_owned();
        assert_eq!(decode(&reply), Some(Message::Return { to: 3, path: path.clone() }));

        let mut body = Writer::default();
        body.u32(5);
        body.text(&path);
        body.text("a.scope");
        body.text("done");
        let fields = [
            (PATH, "o", "/org/freedesktop/systemd1"),
            (INTERFACE, "s", "org.freedesktop.systemd1.Manager"),
            (MEMBER, "s", "JobRemoved"),
            (SIGNATURE, "g", "uoss"),
        ];
        let signal = message(SIGNAL, &fields, &body.finish());
        assert_eq!(decode(&signal), Some(Message::JobRemoved { job: path, result: "done".into() }));

        let mut body = Writer::default();
        body.text("Unit exists");
        let fields =
            [(ERROR_NAME, "s", "a.b.UnitExists"), (REPLY_TO, "u", "4"), (SIGNATURE, "g", "s")];
        let error = message(ERROR, &fields, &body.finish());
        let (name, text) = ("a.b.UnitExists".to_owned(), "Unit exists".to_owned());
        assert_eq!(decode(&error), Some(Message::Error { to: 4, name, text }));
    }

    #[test]
    fn a_call_is_a_whole_message() {
        let call = Call { serial: 1, member: "Reload", signature: "", body: Vec::new() };
        let bytes = call.encode();
        assert_eq!(total(&bytes[..FIXED]), Some(bytes.len()));
        assert_eq!(decode(&bytes), Some(Message::Other));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]).filter(|m| *m != Message::Other), None);
        }
    }

    #[test]
    fn what_is_too_long_or_big_endian_is_not_taken() {
        let mut fixed = [0; FIXED];
        assert_eq!(total(&fixed), None);
        fixed[0] = b'l';
        assert_eq!(total(&fixed), Some(FIXED));
        fixed[7] = 0xff;
        assert_eq!(total(&fixed), None);
    }

    proptest::proptest! {
        #[test]
        fn nonsense_is_refused_and_nothing_worse(bytes: Vec<u8>) {
            let _ = (total(&bytes), decode(&bytes));
        }
    }
}
