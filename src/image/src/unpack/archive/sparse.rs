//! Sparse files: the old GNU format and PAX formats 0.0, 0.1 and 1.0. A map says where in the
//! file the stored bytes belong; the rest are holes.

use std::io::Read;

use super::super::error::UnpackError;
use super::super::slab::{BLOCK, Stream};
use super::header::{Header, number};
use super::pax::{Records, decimal};

/// A run of stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where in the file it starts.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) length: u64,
}

/// What a sparse header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Map {
    /// In file order, without overlap, all inside `size`.
    pub(crate) segments: Vec<Segment>,
    /// Size of the file with its holes.
    pub(crate) size: u64,
    /// Bytes of the member's contents that the map itself took (format 1.0).
    pub(crate) consumed: u64,
}

type Reason = &'static str;

impl Map {
    /// `stored` is the number of bytes in the archive for this file: all must have a place.
    fn new(pairs: &[(i64, i64)], size: i64, stored: u64, consumed: u64) -> Result<Self, Reason> {
        let size = u64::try_from(size).map_err(|_| "sparse file has a negative size")?;
        let mut segments = Vec::with_capacity(pairs.len());
        let (mut end, mut sum) = (0_u64, 0_u64);
        for &(offset, length) in pairs {
            let (Ok(offset), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
                return Err("sparse map has a negative number");
            };
            if offset < end {
                return Err("sparse map is out of order or overlaps");
            }
            end = offset.saturating_add(length);
            sum += length;
            if end > size {
                return Err("sparse map reaches beyond the end of the file");
            }
            if length > 0 {
                segments.push(Segment { offset, length });
            }
        }
        if sum != stored {
            return Err("sparse map and stored size disagree");
        }
        Ok(Self { segments, size, consumed })
    }
}

/// The old GNU format (type `S`): the map is in the header and in blocks that follow it.
pub(crate) fn old_gnu<R: Read>(
    header: &Header,
    stored: u64,
    stream: &mut Stream<R>,
    most: usize,
) -> Result<Map, UnpackError> {
    let offset = stream.offset();
    let bad = |reason: Reason| UnpackError::Format { offset, reason: reason.to_owned() };
    if !header.is_gnu() {
        return Err(bad("sparse member without a GNU header"));
    }
    let (entries, mut extended, size) = header.sparse();
    let mut pairs = Vec::new();
    entry_pairs(entries, &mut pairs).map_err(bad)?;
    while extended {
        let Some(block) = stream.block()? else {
            return Err(bad("sparse map is cut off"));
        };
        entry_pairs(&block[..504], &mut pairs).map_err(bad)?;
        if pairs.len() > most {
            return Err(UnpackError::Limit { what: "sparse map entries", limit: most as u64 });
        }
        extended = block[504] > 0;
    }
    let size = size.ok_or_else(|| bad("sparse member without a size"))?;
    Map::new(&pairs, size, stored, 0).map_err(bad)
}

/// Entries of 12 bytes offset and 12 bytes length; the first unused one starts with NUL.
fn entry_pairs(entries: &[u8], pairs: &mut Vec<(i64, i64)>) -> Result<(), Reason> {
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        let (offset, length) = entry.split_at(12);
        let pair = number(offset).zip(number(length));
        pairs.push(pair.ok_or("sparse map entry is not a number")?);
    }
    Ok(())
}

/// The PAX formats; `None` when the records describe no sparse file. `stored` is the member's
/// size in the archive, before which format 1.0 puts its map.
pub(crate) fn from_pax<R: Read>(
    records: &Records,
    stored: u64,
    stream: &mut Stream<R>,
    most: usize,
) -> Result<Option<Map>, UnpackError> {
    let offset = stream.offset();
    let bad = |reason: Reason| UnpackError::Format { offset, reason: reason.to_owned() };
    let version = (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor"));
    let in_contents = match version {
        (Some(b"1"), Some(b"0")) => true,
        (Some(b"0"), Some(b"0" | b"1")) => false,
        (None, None) if has_map(records) => false,
        (None, None) => return Ok(None),
        _ => return Err(bad("unknown version of the PAX sparse format")),
    };
    let size = match records.number("GNU.sparse.size").map_err(bad)? {
        Some(size) => Some(size),
        None => records.number("GNU.sparse.realsize").map_err(bad)?,
    };
    // Without a size of its own the file is as long as what is stored, as Go reads it.
    let size = size.unwrap_or_else(|| i64::try_from(stored).unwrap_or(i64::MAX));
    let (pairs, consumed) = if in_contents {
        pairs_in_contents(stream, stored, most)?
    } else {
        (pairs_in_records(records, most).map_err(bad)?, 0)
    };
    Map::new(&pairs, size, stored - consumed, consumed).map(Some).map_err(bad)
}

fn has_map(records: &Records) -> bool {
    records.get("GNU.sparse.map").is_some() || !records.sparse_pairs.is_empty()
}

/// Formats 0.0 (repeated records) and 0.1 (one record with commas).
fn pairs_in_records(records: &Records, most: usize) -> Result<Vec<(i64, i64)>, Reason> {
    let count = records.number("GNU.sparse.numblocks")?.ok_or("sparse map without its length")?;
    let count = usize::try_from(count).map_err(|_| "sparse map has a negative length")?;
    if count > most {
        return Err("sparse map has too many entries");
    }
    let numbers: Option<Vec<i64>> = if records.sparse_pairs.is_empty() {
        match records.get("GNU.sparse.map") {
            Some(map) => map.split(|&byte| byte == b',').map(decimal).collect(),
            None => Some(Vec::new()),
        }
    } else {
        records.sparse_pairs.iter().map(|value| decimal(value)).collect()
    };
    let numbers = numbers.ok_or("sparse map entry is not a number")?;
    if numbers.len() != 2 * count {
        return Err("sparse map does not have the length it says");
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Format 1.0: decimal numbers, one a line, the count first, padded to a block.
fn pairs_in_contents<R: Read>(
    stream: &mut Stream<R>,
    stored: u64,
    most: usize,
) -> Result<(Vec<(i64, i64)>, u64), UnpackError> {
    let offset = stream.offset();
    let bad = |reason: Reason| UnpackError::Format { offset, reason: reason.to_owned() };
    let mut lines = Lines { stream, left: stored, consumed: 0, block: Vec::new() };
    let count = lines.next()?;
    let count = usize::try_from(count).map_err(|_| bad("sparse map has a negative length"))?;
    if count > most {
        return Err(UnpackError::Limit { what: "sparse map entries", limit: most as u64 });
    }
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((lines.next()?, lines.next()?));
    }
    Ok((pairs, lines.consumed))
}

/// Reads numbers, a block at a time.
struct Lines<'stream, R> {
    stream: &'stream mut Stream<R>,
    left: u64,
    consumed: u64,
    /// What is left of the current block.
    block: Vec<u8>,
}

impl<R: Read> Lines<'_, R> {
    fn next(&mut self) -> Result<i64, UnpackError> {
        /// More digits than any number that fits has.
        const LONGEST: usize = 24;
        let mut digits = Vec::new();
        loop {
            if self.block.is_empty() {
                self.refill()?;
            }
            match self.block.iter().position(|&byte| byte == b'\n') {
                Some(end) => {
                    digits.extend(self.block.drain(..=end).take(end));
                    return decimal(&digits).ok_or_else(|| self.bad());
                }
                None => digits.append(&mut self.block),
            }
            if digits.len() > BLOCK + LONGEST {
                return Err(self.bad());
            }
        }
    }

    fn refill(&mut self) -> Result<(), UnpackError> {
        if self.left < BLOCK as u64 {
            return Err(self.bad());
        }
        let block = self.stream.block()?.ok_or_else(|| self.bad())?;
        self.left -= BLOCK as u64;
        self.consumed += BLOCK as u64;
        self.block = block.to_vec();
        Ok(())
    }

    fn bad(&self) -> UnpackError {
        let reason = "sparse map in a member's contents is malformed".to_owned();
        UnpackError::Format { offset: self.stream.offset(), reason }
    }
}
