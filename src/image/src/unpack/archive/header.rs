//! One 512-byte header block of any of the dialects in use: V7, ustar, PAX, GNU, star.

use super::super::slab::BLOCK;

/// Which optional fields the block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header block whose checksum is right.
pub(crate) struct Header {
    block: [u8; BLOCK],
    dialect: Dialect,
}

impl Header {
    /// Checks the checksum, which some writers summed over signed bytes.
    pub(crate) fn new(block: [u8; BLOCK]) -> Result<Self, &'static str> {
        let stored = octal(&block[148..156]).ok_or("header checksum is not a number")?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        if stored != unsigned && stored != signed {
            return Err("header checksum does not match");
        }
        let dialect = match (&block[257..263], &block[263..265]) {
            (b"ustar\0", _) if &block[508..512] == b"tar\0" => Dialect::Star,
            (b"ustar\0", _) => Dialect::Ustar,
            (b"ustar ", b" \0") => Dialect::Gnu,
            _ => Dialect::V7,
        };
        Ok(Self { block, dialect })
    }

    /// Every number must be one, also where it is not used: others refuse the header for it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let star_times = self.dialect != Dialect::Star
            || (number(&self.block[476..488]).is_some() && number(&self.block[488..500]).is_some());
        let all = [self.mode(), self.uid(), self.gid(), self.size(), self.mtime()];
        if all.contains(&None) || self.device().is_none() || !star_times {
            return Err("header field is not a number");
        }
        Ok(())
    }

    pub(crate) fn typeflag(&self) -> u8 {
        self.block[156]
    }

    pub(crate) fn is_gnu(&self) -> bool {
        self.dialect == Dialect::Gnu
    }

    /// The member's name, with the prefix field where the dialect has one.
    pub(crate) fn path(&self) -> Vec<u8> {
        let prefix = match self.dialect {
            Dialect::Ustar => text(&self.block[345..500]),
            Dialect::Star => text(&self.block[345..476]),
            Dialect::Gnu => self.misplaced_prefix(),
            Dialect::V7 => b"",
        };
        let name = text(&self.block[..100]);
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// Go before 1.8 wrote a ustar prefix under the GNU magic, over the access and change times;
    /// old images have such layers, and the readers of all other runtimes take it as the prefix.
    fn misplaced_prefix(&self) -> &[u8] {
        let time = |field: &[u8]| field[0] == 0 || number(field).is_some();
        if time(&self.block[345..357]) && time(&self.block[357..369]) {
            return b"";
        }
        let prefix = text(&self.block[345..500]);
        if prefix.is_ascii() { prefix } else { b"" }
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    pub(crate) fn mode(&self) -> Option<i64> {
        number(&self.block[100..108])
    }

    pub(crate) fn uid(&self) -> Option<i64> {
        number(&self.block[108..116])
    }

    pub(crate) fn gid(&self) -> Option<i64> {
        number(&self.block[116..124])
    }

    pub(crate) fn size(&self) -> Option<i64> {
        number(&self.block[124..136])
    }

    pub(crate) fn mtime(&self) -> Option<i64> {
        number(&self.block[136..148])
    }

    /// Major and minor number; 0 in a V7 header.
    pub(crate) fn device(&self) -> Option<(i64, i64)> {
        if self.dialect == Dialect::V7 {
            return Some((0, 0));
        }
        Some((number(&self.block[329..337])?, number(&self.block[337..345])?))
    }

    /// The part of an old GNU sparse map that is in the header: its four entries, whether more
    /// blocks follow, and the size of the file with its holes.
    pub(crate) fn sparse(&self) -> (&[u8], bool, Option<i64>) {
        (&self.block[386..482], self.block[482] > 0, number(&self.block[483..495]))
    }
}

/// A text field ends at the first NUL or at its end.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number: octal digits, or, with the top bit set, a big-endian two's complement number.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

fn binary(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let flip = if negative { 0xff } else { 0 };
    let mut value = 0_u64;
    for (at, &byte) in field.iter().enumerate() {
        let byte = if at == 0 { (byte ^ flip) & 0x7f } else { byte ^ flip };
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if negative { !value } else { value })
}

/// Octal digits between spaces and NULs; nothing at all is 0.
fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !blank(byte)) else { return Some(0) };
    let end = field.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    let mut value = 0_i64;
    for byte in text(&field[start..end]) {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}
