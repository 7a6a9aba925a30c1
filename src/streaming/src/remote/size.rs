//! Terminal sizes as they come: JSON objects, one behind the other.

use crate::backend::Size;
use serde::Deserialize;

/// No size is near as long as this; whoever sends more sends something else.
const LONGEST: usize = 4096;

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// Takes sizes out of a flow of bytes.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Vec<u8>);

/// The flow is not one of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotSizes;

impl Sizes {
    /// The newest size in what has come; `None` when none is whole.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Option<Size>, NotSizes> {
        self.0.extend_from_slice(bytes);
        let mut flow = serde_json::Deserializer::from_slice(&self.0).into_iter::<Wire>();
        let (mut newest, mut used) = (None, 0);
        for next in flow.by_ref() {
            match next {
                Ok(Wire { width, height }) => newest = Some(Size { width, height }),
                Err(error) if error.is_eof() => break,
                Err(_) => return Err(NotSizes),
            }
        }
        if newest.is_some() {
            used = flow.byte_offset();
        }
        self.0.drain(..used.min(self.0.len()));
        if self.0.len() > LONGEST { Err(NotSizes) } else { Ok(newest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_pieces() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.take(b"{\"Width\":80,"), Ok(None));
        assert_eq!(
            sizes.take(b"\"Height\":24}\n{\"Width\":1"),
            Ok(Some(Size { width: 80, height: 24 }))
        );
        let all = b"00,\"Height\":50}\n{\"Width\":3,\"Height\":4}\n";
        assert_eq!(sizes.take(all), Ok(Some(Size { width: 3, height: 4 })));
        assert_eq!(sizes.take(b"\n"), Ok(None));
    }

    #[test]
    fn other_things_are_no_sizes() {
        for bytes in
            [&b"hello"[..], b"{\"Width\":-1,\"Height\":2}", b"{\"Width\":70000,\"Height\":2}"]
        {
            assert_eq!(Sizes::default().take(bytes), Err(NotSizes));
        }
        let mut sizes = Sizes::default();
        assert_eq!(sizes.take(&[b' '; LONGEST + 1]), Err(NotSizes));
    }
}
