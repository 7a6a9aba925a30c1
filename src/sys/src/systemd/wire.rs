//! The D-Bus wire format, as far as a client of systemd needs it: little endian, whole messages.
//! Facts from the D-Bus specification, "Message Protocol".

/// A value inside a property's variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

/// A message being written. Alignment counts from its first byte.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A string or an object path.
    pub(super) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(0));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements begin at multiples of `align`; its length does not count the padding
    /// before the first.
    pub(super) fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let place = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        elements(self);
        let written = length(self.0.len() - start).to_le_bytes();
        if let Some(place) = self.0.get_mut(place..place + 4) {
            place.copy_from_slice(&written);
        }
    }

    /// The elements of a structure begin at a multiple of eight.
    pub(super) fn structure(&mut self) {
        self.align(8);
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.u32(u32::from(*flag));
            }
            Value::Number(number) => {
                self.signature("t");
                self.u64(*number);
            }
            Value::Numbers(numbers) => {
                self.signature("au");
                self.array(4, |array| numbers.iter().for_each(|number| array.u32(*number)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |array| array.0.extend_from_slice(bytes));
            }
        }
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, |array| {
            for (name, value) in properties {
                array.structure();
                array.text(name);
                array.variant(value);
            }
        });
    }
}

fn length(bytes: usize) -> u32 {
    // The protocol's own bound is 128 MiB; a longer message could not be built from what we are given.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A message being read. Everything is checked: what does not fit ends in `None`.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at `at`, from which `bytes` is aligned as its beginning is.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    pub(super) fn align(&mut self, to: usize) -> Option<()> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = self.take(length)?;
        (self.byte()? == 0).then(|| std::str::from_utf8(text).ok()).flatten()
    }

    pub(super) fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        let text = self.take(length)?;
        (self.byte()? == 0).then(|| std::str::from_utf8(text).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_count_their_elements_and_not_the_padding_before() {
        let mut writer = Writer::default();
        writer.properties(&[("A", Value::Flag(true)), ("Bc", Value::Number(7))]);
        let expected: Vec<u8> = [
            &[40, 0, 0, 0, 0, 0, 0, 0][..], // the length, padding to 8
            &[1, 0, 0, 0, b'A', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0], // "A", signature b, padding, true
            &[2, 0, 0, 0, b'B', b'c', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0], // "Bc", signature t, padding
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(writer.finish(), expected);
    }

    #[test]
    fn what_was_written_is_read() {
        let mut writer = Writer::default();
        writer.byte(1);
        writer.text("unit.scope");
        writer.signature("a(sv)");
        writer.u32(77);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes, 0);
        assert_eq!(reader.byte(), Some(1));
        assert_eq!(reader.text(), Some("unit.scope"));
        assert_eq!(reader.signature(), Some("a(sv)"));
        assert_eq!(reader.u32(), Some(77));
        assert_eq!((reader.u32(), reader.at()), (None, bytes.len()));
    }

    proptest::proptest! {
        #[test]
        fn nonsense_is_refused_and_nothing_worse(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes, 0);
            while reader.text().or_else(|| reader.signature()).is_some() {}
            let mut reader = Reader::new(&bytes, 0);
            let _ = (reader.signature(), reader.u32(), reader.align(8), reader.text());
        }
    }
}
