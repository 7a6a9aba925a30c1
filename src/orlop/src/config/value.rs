//! Types of values: what may be written for a key, and how it is shown.

use super::schema::{Faults, Setting};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// Bytes, written as a number or with a unit: `"16 MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A time span, written with units: `"90s"`, `"1m 30s"`, `"250ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

const BYTES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Notes that something else is needed here.
fn wanted<T>(value: &Spanned<DeValue<'_>>, what: &str, faults: &mut Faults) -> Option<T> {
    let found = match value.get_ref() {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(is) => is.to_string(),
        other => format!("a value of type {}", other.type_str()),
    };
    faults.push((value.span(), format!("use {what}, not {found}")));
    None
}

/// What text says, or what to write instead.
fn from_text<T>(
    value: &Spanned<DeValue<'_>>,
    what: &str,
    faults: &mut Faults,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    match value.get_ref().as_str().and_then(read) {
        Some(read) => Some(read),
        None => wanted(value, what, faults),
    }
}

impl Setting for bool {
    fn kind() -> String {
        "true or false".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        value.get_ref().as_bool().or_else(|| wanted(value, "true or false", faults))
    }
    fn show(&self) -> Option<toml::Value> {
        Some((*self).into())
    }
}

macro_rules! numbers {
    ($($Type:ty),+) => { $(
        impl Setting for $Type {
            fn kind() -> String {
                "number".into()
            }
            fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
                let number = value.get_ref().as_integer();
                let read = number.and_then(|n| <$Type>::from_str_radix(n.as_str(), n.radix()).ok());
                let (least, most) = (<$Type>::MIN, <$Type>::MAX);
                read.or_else(|| wanted(value, &format!("a whole number from {least} to {most}"), faults))
            }
            fn show(&self) -> Option<toml::Value> {
                Some(i64::try_from(*self).unwrap_or(i64::MAX).into())
            }
        }
    )+ };
}
numbers!(usize, u32, u64);

impl Setting for String {
    fn kind() -> String {
        "text".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        from_text(value, "text in quotes", faults, |text| Some(text.to_owned()))
    }
    fn show(&self) -> Option<toml::Value> {
        Some(self.as_str().into())
    }
}

impl Setting for PathBuf {
    fn kind() -> String {
        "absolute path".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        from_text(value, "an absolute path", faults, |text| {
            let path = PathBuf::from(text);
            (path.is_absolute() && !text.contains('\0')).then_some(path)
        })
    }
    fn show(&self) -> Option<toml::Value> {
        Some(self.to_string_lossy().as_ref().into())
    }
}

impl Setting for Size {
    fn kind() -> String {
        "size".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        const WHAT: &str = "a size, such as \"16 MiB\"";
        if value.get_ref().is_integer() {
            let mut ignored = Faults::new();
            return <u32 as Setting>::read(value, &mut ignored)
                .map(|bytes| Self(u64::from(bytes)))
                .or_else(|| wanted(value, WHAT, faults));
        }
        from_text(value, WHAT, faults, |text| {
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = (text[..digits].parse::<u64>().ok()?, text[digits..].trim());
            let factor = BYTES.iter().find(|(name, _)| *name == unit)?.1;
            number.checked_mul(factor).map(Self)
        })
    }
    fn show(&self) -> Option<toml::Value> {
        let fits = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        // Powers of two first: 1 MiB is shown as that.
        let (unit, factor) = BYTES.iter().find(fits).unwrap_or(&("B", 1));
        Some(format!("{} {unit}", self.0 / factor).into())
    }
}

impl Setting for Span {
    fn kind() -> String {
        "duration".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        from_text(value, "a duration with a unit (ms, s, m, h), such as \"60s\"", faults, |text| {
            let (mut rest, mut total) = (text.trim(), 0u64);
            if rest.is_empty() {
                return None;
            }
            while !rest.is_empty() {
                let digits = rest.find(|c: char| !c.is_ascii_digit())?;
                let (number, after) =
                    (rest[..digits].parse::<u64>().ok()?, rest[digits..].trim_start());
                let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
                let factor = TIMES.iter().find(|(name, _)| *name == &after[..letters])?.1;
                total = total.checked_add(number.checked_mul(factor)?)?;
                rest = after[letters..].trim_start();
            }
            Some(Self(Duration::from_millis(total)))
        })
    }
    fn show(&self) -> Option<toml::Value> {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, factor): &&(&str, u64)| millis > 0 && millis.is_multiple_of(*factor);
        let (unit, factor) = TIMES.iter().find(fits).unwrap_or(&("ms", 1));
        Some(format!("{}{unit}", millis / factor).into())
    }
}

impl Setting for SocketAddr {
    fn kind() -> String {
        "address and port".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        const WHAT: &str = "an address and port, such as \"127.0.0.1:9400\" or \"[::1]:9400\"";
        from_text(value, WHAT, faults, |text| text.parse().ok())
    }
    fn show(&self) -> Option<toml::Value> {
        Some(self.to_string().into())
    }
}

impl Setting for IpNet {
    fn kind() -> String {
        "subnet".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        const WHAT: &str = "a subnet, such as \"10.1.0.0/16\" or \"fd00::/64\"";
        from_text(value, WHAT, faults, |text| text.parse().ok())
    }
    fn show(&self) -> Option<toml::Value> {
        Some(self.to_string().into())
    }
}

/// Not set is written as empty text, so that a drop-in can take back what a file says.
impl<T: Setting> Setting for Option<T> {
    fn kind() -> String {
        format!("{}, or \"\" for none", T::kind())
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        if value.get_ref().as_str() == Some("") {
            return Some(None);
        }
        T::read(value, faults).map(Some)
    }
    fn show(&self) -> Option<toml::Value> {
        self.as_ref().and_then(T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn kind() -> String {
        format!("list of: {}", T::kind())
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            return wanted(value, "a list in brackets", faults);
        };
        // Every element is read, also after a wrong one.
        let read: Vec<Option<T>> = array.iter().map(|element| T::read(element, faults)).collect();
        read.into_iter().collect()
    }
    fn show(&self) -> Option<toml::Value> {
        Some(toml::Value::Array(self.iter().filter_map(T::show).collect()))
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn kind() -> String {
        format!("table of: {}", T::kind())
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            return wanted(value, "a table", faults);
        };
        let read: Vec<Option<(String, T)>> = table
            .iter()
            .map(|(key, value)| Some((key.get_ref().to_string(), T::read(value, faults)?)))
            .collect();
        read.into_iter().collect()
    }
    fn show(&self) -> Option<toml::Value> {
        let shown = self.iter().filter_map(|(key, value)| Some((key.clone(), value.show()?)));
        Some(toml::Value::Table(shown.collect()))
    }
}

/// The same in JSON; `None` for a number that is none there, and for a date.
fn plain(value: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok()?.into(),
        DeValue::Float(n) => serde_json::Number::from_f64(n.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(is) => (*is).into(),
        DeValue::Datetime(_) => return None,
        DeValue::Array(list) => {
            let list: Option<Vec<_>> = list.iter().map(|value| plain(value.get_ref())).collect();
            list?.into()
        }
        DeValue::Table(table) => {
            let keys = table.iter();
            let map: Option<serde_json::Map<_, _>> = keys
                .map(|(key, value)| Some((key.get_ref().to_string(), plain(value.get_ref())?)))
                .collect();
            map?.into()
        }
    })
}

/// Anything, for a program that is not ours.
impl Setting for serde_json::Map<String, serde_json::Value> {
    fn kind() -> String {
        "table".into()
    }
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self> {
        match plain(value.get_ref()) {
            Some(serde_json::Value::Object(map)) => Some(map),
            _ => wanted(value, "a table of plain values", faults),
        }
    }
    fn show(&self) -> Option<toml::Value> {
        toml::Value::try_from(self).ok()
    }
}

/// Makes a [`Setting`] of an enum whose variants are single words.
macro_rules! words {
    ($Name:ident { $($word:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::config::schema::Setting for $Name {
            fn kind() -> String {
                [$(concat!("\"", $word, "\"")),+].join(" or ")
            }
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                faults: &mut $crate::config::schema::Faults,
            ) -> Option<Self> {
                let text = value.get_ref().as_str().unwrap_or_default();
                $( if text == $word { return Some(Self::$variant); } )+
                let near = $crate::suggest::nearest(text, [$($word),+]);
                let hint = near.map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
                faults.push((value.span(), format!("use {}{hint}", Self::kind())));
                None
            }
            fn show(&self) -> Option<toml::Value> {
                match self {
                    $( Self::$variant => Some($word.into()), )+
                }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        let document = format!("x = {text}");
        let table = DeTable::parse(&document).unwrap();
        let value = table.get_ref().get("x").unwrap();
        let mut faults = Faults::new();
        let read = T::read(value, &mut faults);
        read.filter(|_| faults.is_empty()).ok_or_else(|| faults[0].1.clone())
    }

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("0", 0, "0 B"),
            ("1024", 1024, "1 KiB"),
            ("'16 MiB'", 16 << 20, "16 MiB"),
            ("'3GB'", 3_000_000_000, "3 GB"),
            ("'1500 B'", 1500, "1500 B"),
        ] {
            let size = read::<Size>(text).unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.show().unwrap().as_str(), Some(shown));
            assert_eq!(read::<Size>(&format!("{shown:?}")).unwrap(), size);
        }
        for text in ["-1", "''", "'MiB'", "'1 mib'", "'1.5 GiB'", "'99999999999 TiB'", "true"] {
            assert!(read::<Size>(text).is_err_and(|m| m.contains("16 MiB")), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis, shown) in [
            ("'60s'", 60_000, "1m"),
            ("'1m 30s'", 90_000, "90s"),
            ("'1h30m'", 5_400_000, "90m"),
            ("'250 ms'", 250, "250ms"),
            ("'0s'", 0, "0ms"),
        ] {
            let span = read::<Span>(text).unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.show().unwrap().as_str(), Some(shown));
            assert_eq!(read::<Span>(&format!("{shown:?}")).unwrap(), span);
        }
        for text in
            ["60", "''", "'60'", "'s'", "'1d'", "'-1s'", "'99999999999999999999h'", "'1s x'"]
        {
            assert!(read::<Span>(text).is_err_and(|m| m.contains("60s")), "{text}");
        }
    }

    #[test]
    fn others() {
        assert_eq!(read::<SocketAddr>("'[::1]:1'").unwrap().port(), 1);
        assert!(read::<SocketAddr>("'localhost:1'").is_err());
        assert_eq!(read::<Option<PathBuf>>("''"), Ok(None));
        assert!(read::<PathBuf>("'a/b'").is_err_and(|m| m.contains("absolute path, not \"a/b\"")));
        assert!(read::<u32>("-1").is_err_and(|m| m.contains("from 0 to 4294967295, not -1")));
        assert_eq!(read::<u32>("0x10"), Ok(16));
        assert!(read::<usize>("1.5").is_err());
        assert!(read::<IpNet>("'10.0.0.0'").is_err());
        assert_eq!(read::<Vec<String>>("['a', 'b']").unwrap(), ["a", "b"]);
        assert!(read::<Vec<String>>("'a'").is_err_and(|m| m.contains("brackets")));
    }

    #[test]
    fn every_element_is_looked_at() {
        let document = "x = [1, 'a', 2]";
        let table = DeTable::parse(document).unwrap();
        let mut faults = Faults::new();
        assert_eq!(Vec::<String>::read(table.get_ref().get("x").unwrap(), &mut faults), None);
        let places: Vec<_> = faults.iter().map(|(span, _)| span.start).collect();
        assert_eq!(places, [5, 13]);
    }
}
