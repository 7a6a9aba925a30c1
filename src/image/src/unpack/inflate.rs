//! From the bytes that a registry serves to the tar stream, within bounds.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// Input buffer: what is read from the blob at once.
const INPUT: usize = 128 * 1024;

/// Largest zstd window, 128 MiB, as an exponent of 2: what the format's own documentation asks
/// every decoder to support at most by default.
const ZSTD_WINDOW: u32 = 27;

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain tar.
    None,
    /// Gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

impl Compression {
    /// Tells by the first bytes, as every runtime does: media types in the field are often wrong.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            // A frame, or one that decoders skip.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Bounds of what a blob may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InflateLimits {
    /// Most bytes that come out.
    pub bytes: u64,
    /// Most bytes out for a byte in, once `ratio_from` bytes came out. Gzip reaches 1032 on
    /// zeros, a real image 2 to 5.
    pub ratio: u64,
    /// Bytes of output up to which any ratio is fine.
    pub ratio_from: u64,
}

impl Default for InflateLimits {
    fn default() -> Self {
        Self { bytes: 1 << 40, ratio: 500, ratio_from: 4 << 30 }
    }
}

/// The uncompressed stream of a blob.
pub struct Inflate<R: Read> {
    decoder: Decoder<BufReader<Counted<R>>>,
    taken: Arc<AtomicU64>,
    given: u64,
    limits: InflateLimits,
}

enum Decoder<B: BufRead> {
    Plain(B),
    Gzip(Box<MultiGzDecoder<B>>),
    Zstd(zstd::stream::read::Decoder<'static, B>),
}

/// Inflates `blob`; without `compression` its first bytes tell. Damage and exceeded limits are
/// errors of the reader that is returned, with [`io::ErrorKind::InvalidData`].
pub fn decompress<R: Read>(
    compression: Option<Compression>,
    blob: R,
    limits: &InflateLimits,
) -> io::Result<Inflate<R>> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: blob, count: Arc::clone(&taken) };
    let mut input = BufReader::with_capacity(INPUT, counted);
    let compression = match compression {
        Some(compression) => compression,
        None => Compression::of(input.fill_buf()?),
    };
    let decoder = match compression {
        Compression::None => Decoder::Plain(input),
        Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Decoder::Zstd(decoder)
        }
    };
    Ok(Inflate { decoder, taken, given: 0, limits: limits.clone() })
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.decoder {
            Decoder::Plain(decoder) => decoder.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.given += count as u64;
        let taken = self.taken.load(Ordering::Relaxed);
        let InflateLimits { bytes, ratio, ratio_from } = self.limits;
        if self.given > bytes {
            return Err(too_much(format!("more than {bytes} bytes")));
        }
        if self.given > ratio_from && self.given / ratio > taken {
            return Err(too_much(format!("more than {ratio} times its compressed size")));
        }
        Ok(count)
    }
}

fn too_much(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("layer inflates to {what}"))
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(blob: &[u8], limits: &InflateLimits) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(None, blob, limits)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn knows_the_formats() {
        let limits = InflateLimits::default();
        let zstd = zstd::encode_all(&b"hello"[..], 1).unwrap();
        let members = [gzip(b"hel"), gzip(b""), gzip(b"lo")].concat();
        let frames = [zstd.clone(), zstd::encode_all(&b"!"[..], 1).unwrap()].concat();
        for (blob, expected) in [
            (b"hello".to_vec(), &b"hello"[..]),
            (gzip(b"hello"), b"hello"),
            (members, b"hello"),
            (zstd, b"hello"),
            (frames, b"hello!"),
            (Vec::new(), b""),
        ] {
            assert_eq!(inflate(&blob, &limits).unwrap(), expected);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let limits = InflateLimits::default();
        let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for blob in [gzip(&data), zstd::encode_all(data.as_slice(), 1).unwrap()] {
            for cut in [5, blob.len() / 2, blob.len() - 1] {
                assert!(inflate(&blob[..cut], &limits).is_err(), "cut at {cut}");
            }
            assert!(inflate(&[blob.as_slice(), b"garbage"].concat(), &limits).is_err());
        }
    }

    #[test]
    fn a_window_beyond_128_mib_is_refused() {
        // Magic, a descriptor without content size, and the window exponent 31 - 10 in five bits.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert!(inflate(&frame, &InflateLimits::default()).is_err());
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
        assert_eq!(inflate(&frame, &InflateLimits::default()).unwrap(), b"");
    }

    #[test]
    fn bombs_stop() {
        let zeros = vec![0_u8; 1 << 20];
        let limits = InflateLimits { bytes: 1 << 19, ..InflateLimits::default() };
        let error = inflate(&gzip(&zeros), &limits).unwrap_err();
        assert!(error.to_string().contains("524288 bytes"), "{error}");
        let limits = InflateLimits { ratio: 10, ratio_from: 1000, ..InflateLimits::default() };
        let error = inflate(&gzip(&zeros), &limits).unwrap_err();
        assert!(error.to_string().contains("10 times"), "{error}");
        assert_eq!(inflate(&zeros, &limits).unwrap().len(), zeros.len());
    }
}
