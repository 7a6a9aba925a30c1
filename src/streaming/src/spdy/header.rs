//! Header blocks (section 2.6.10): names and values, compressed as one flow over the whole session.

use super::dictionary::dictionary;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a block may grow to when it is inflated: a remote command's has some dozens of bytes.
pub const MAX_BLOCK: usize = 16 * 1024;
const MAX_PAIRS: usize = 64;
/// 2 KiB of window: the dictionary fits, and a session costs little memory.
const WINDOW_BITS: u8 = 11;

/// Names (lower case) and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header; `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let lower = |(name, value): (N, V)| (name.into().to_ascii_lowercase(), value.into());
        Self(pairs.into_iter().map(lower).collect())
    }
}

/// Why a block cannot be read. The session cannot go on: the next block builds on this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not what zlib makes, or with another dictionary.
    #[error("header block does not inflate")]
    Corrupt,
    /// Larger than anybody needs.
    #[error("header block inflates to more than {MAX_BLOCK} bytes or {MAX_PAIRS} headers")]
    TooLarge,
    /// Lengths that do not fit, or text that is not UTF-8.
    #[error("header block is not a list of names and values")]
    Malformed,
}

/// Inflates the blocks of one direction.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Inflater {
    /// The headers of the next block.
    pub fn inflate(&mut self, block: &[u8]) -> Result<Headers, BlockError> {
        let mut text = Vec::with_capacity(512);
        let mut rest = block;
        let mut buffer = [0; 1024];
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(rest, &mut buffer, FlushDecompress::Sync);
            let (used, made) =
                (moved(before_in, self.0.total_in()), moved(before_out, self.0.total_out()));
            rest = rest.get(used..).unwrap_or_default();
            text.extend_from_slice(buffer.get(..made).unwrap_or_default());
            if text.len() > MAX_BLOCK {
                return Err(BlockError::TooLarge);
            }
            match status {
                Ok(Status::StreamEnd) => return Err(BlockError::Corrupt),
                // Every input is used and the buffer had room left: that was all.
                Ok(_) if rest.is_empty() && made < buffer.len() => return parse(&text),
                Ok(_) if used == 0 && made == 0 => return Err(BlockError::Corrupt),
                Ok(_) => {}
                Err(error) => {
                    error.needs_dictionary().ok_or(BlockError::Corrupt)?;
                    self.0.set_dictionary(&dictionary()).map_err(|_| BlockError::Corrupt)?;
                }
            }
        }
    }
}

fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after - before).unwrap_or(0)
}

fn parse(text: &[u8]) -> Result<Headers, BlockError> {
    let mut rest = text;
    let count = length(&mut rest)?;
    if count > MAX_PAIRS {
        return Err(BlockError::TooLarge);
    }
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((string(&mut rest)?, string(&mut rest)?));
    }
    if rest.is_empty() { Ok(pairs.into_iter().collect()) } else { Err(BlockError::Malformed) }
}

fn length(rest: &mut &[u8]) -> Result<usize, BlockError> {
    let (four, tail) = rest.split_first_chunk::<4>().ok_or(BlockError::Malformed)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*four) as usize)
}

fn string(rest: &mut &[u8]) -> Result<String, BlockError> {
    let length = length(rest)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(BlockError::Malformed)?;
    *rest = tail;
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| BlockError::Malformed)
}

/// Deflates the blocks of one direction.
#[derive(Debug)]
pub struct Deflater(Option<Compress>);

impl Default for Deflater {
    /// Made on first use: a session that opens and answers nothing needs none.
    fn default() -> Self {
        Self(None)
    }
}

impl Deflater {
    /// The next block.
    pub fn deflate(&mut self, headers: &Headers) -> Result<Vec<u8>, BlockError> {
        let mut text = Vec::new();
        let mut string = |string: &str| {
            text.extend_from_slice(&(string.len() as u32).to_be_bytes());
            text.extend_from_slice(string.as_bytes());
        };
        let mut body = |pairs: &[(String, String)]| {
            for (name, value) in pairs {
                string(name);
                string(value);
            }
        };
        body(&headers.0);
        text.splice(..0, (headers.0.len() as u32).to_be_bytes());
        self.compress(&text)
    }

    fn compress(&mut self, text: &[u8]) -> Result<Vec<u8>, BlockError> {
        let zlib = match &mut self.0 {
            Some(zlib) => zlib,
            none => {
                let mut zlib =
                    Compress::new_with_window_bits(Compression::fast(), true, WINDOW_BITS);
                zlib.set_dictionary(&dictionary()).map_err(|_| BlockError::Corrupt)?;
                none.insert(zlib)
            }
        };
        let (mut block, mut rest) = (Vec::new(), text);
        loop {
            let mut buffer = [0; 512];
            let (before_in, before_out) = (zlib.total_in(), zlib.total_out());
            zlib.compress(rest, &mut buffer, FlushCompress::Sync)
                .map_err(|_| BlockError::Corrupt)?;
            let made = moved(before_out, zlib.total_out());
            rest = rest.get(moved(before_in, zlib.total_in())..).unwrap_or_default();
            block.extend_from_slice(buffer.get(..made).unwrap_or_default());
            if rest.is_empty() && made < buffer.len() {
                return Ok(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the field's clients send first: the dictionary's name is in bytes 2 to 5.
    #[test]
    fn a_stream_begins_with_the_dictionary() {
        let block = Deflater::default().deflate(&Headers::default()).unwrap();
        assert_eq!(block.get(2..6), Some(&[0xe3, 0xc6, 0xa7, 0xc2][..]));
    }

    #[test]
    fn a_bomb_is_not_inflated() {
        let text = vec![0; 1 << 20];
        let block = Deflater::default().compress(&text).unwrap();
        assert!(block.len() < super::super::frame::MAX_CONTROL);
        assert_eq!(Inflater::default().inflate(&block), Err(BlockError::TooLarge));
    }

    #[test]
    fn lengths_are_checked() {
        for (text, error) in [
            (&[][..], BlockError::Malformed),
            (&[0, 0, 0, 1, 255, 255, 255, 255, 1], BlockError::Malformed),
            (&[0, 0, 0, 0, 1], BlockError::Malformed),
            (&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0], BlockError::Malformed),
            (&[255, 255, 255, 255], BlockError::TooLarge),
        ] {
            let block = Deflater::default().compress(text).unwrap();
            assert_eq!(Inflater::default().inflate(&block), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn blocks_survive(
            blocks in proptest::collection::vec(
                proptest::collection::vec(("[a-z-]{0,20}", ".{0,60}"), 0..8), 1..6),
        ) {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
            for block in blocks {
                let headers: Headers = block.into_iter().collect();
                let bytes = deflater.deflate(&headers).unwrap();
                prop_assert_eq!(inflater.inflate(&bytes).unwrap(), headers);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = Inflater::default().inflate(&bytes);
        }
    }
}
