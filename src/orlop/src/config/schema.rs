//! How keys are declared: [`settings!`] makes of one table of keys the struct, its defaults, its
//! reader, and what the reference and `orlop config` show.

use super::problem::{Origins, Place, Problem, Source};
use crate::suggest;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Declares a section of the configuration.
///
/// Each key is `/// what it does`, then `name: Type = default;`. Between them may stand
/// `, check |value| ...` with what [`Setting::read`] cannot know, as `Result<(), String>` whose text
/// says what to use instead, and at the end `=> reload` where SIGHUP changes the key in a running
/// daemon. A key may itself be a section, or [`super::value::Named`] sections.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        pub(crate) struct $Name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $Type:ty = $default:expr $(, check $check:expr)? $(=> $reload:ident)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $Name {
            $( $(#[doc = $doc])+ pub(crate) $field: $Type, )+
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl $crate::config::schema::Section for $Name {
            const KEYS: &'static [&'static str] = &[$($crate::config::schema::plain(stringify!($field))),+];

            fn read_key(
                &mut self,
                key: &str,
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                at: &str,
                reader: &mut $crate::config::schema::Reader<'_>,
            ) {
                $(
                    if key == $crate::config::schema::plain(stringify!($field)) {
                        #[allow(unused_mut, unused_assignments)]
                        let mut check: $crate::config::schema::Check<$Type> = None;
                        $( check = Some($check); )?
                        $crate::config::schema::Node::read(&mut self.$field, value, at, check, reader);
                    }
                )+
            }

            fn entries(&self, at: &str, out: &mut Vec<$crate::config::schema::Entry>) {
                $(
                    let about = $crate::config::schema::About {
                        key: $crate::config::schema::dotted(
                            at,
                            $crate::config::schema::plain(stringify!($field)),
                        ),
                        doc: concat!($($doc, "\n"),+),
                        reload: false $( || stringify!($reload) == "reload" )?,
                    };
                    $crate::config::schema::Node::entries(&self.$field, about, out);
                )+
            }
        }
    };
}
pub(crate) use settings;

/// The name of a field without the mark of one that is a word of the language.
pub(crate) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// A table of keys; made by [`settings!`].
pub(crate) trait Section: Default + Clone + PartialEq {
    /// Its keys, as declared.
    const KEYS: &'static [&'static str];
    /// Takes over the value of one of [`Self::KEYS`].
    fn read_key(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        at: &str,
        reader: &mut Reader<'_>,
    );
    /// Every key below, in the order of declaration.
    fn entries(&self, at: &str, out: &mut Vec<Entry>);
}

/// The type of one key's value.
pub(crate) trait Setting: Clone + PartialEq {
    /// What is written, for the reference: `text`, `duration`.
    fn kind() -> String;
    /// The value, or nothing, with every mistake told to `faults`.
    fn read(value: &Spanned<DeValue<'_>>, faults: &mut Faults) -> Option<Self>;
    /// As it is written in the file; `None`: not set.
    fn show(&self) -> Option<toml::Value>;
}

/// Places in a value, each with what to write instead.
pub(crate) type Faults = Vec<(Range<usize>, String)>;

/// What is declared about a key.
pub(crate) struct About {
    pub(crate) key: String,
    pub(crate) doc: &'static str,
    pub(crate) reload: bool,
}

/// A key, or the head of a section, with what it is now.
pub(crate) struct Entry {
    /// Dotted from the root.
    pub(crate) key: String,
    pub(crate) doc: &'static str,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// A section begins; `many`: its name stands for any.
    Section {
        many: bool,
    },
    Key {
        kind: String,
        value: Option<toml::Value>,
        reload: bool,
    },
}

/// What [`Setting::read`] cannot know, if there is such a thing: the text says what to use instead.
pub(crate) type Check<T> = Option<fn(&T) -> Result<(), String>>;

/// A place in the tree: a section or one key.
pub(crate) trait Node: Sized {
    fn read(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        at: &str,
        check: Check<Self>,
        reader: &mut Reader<'_>,
    );
    fn entries(&self, about: About, out: &mut Vec<Entry>);
}

impl<T: Setting> Node for T {
    fn read(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        at: &str,
        check: Check<Self>,
        reader: &mut Reader<'_>,
    ) {
        let mut faults = Faults::new();
        let read = T::read(value, &mut faults).filter(|_| faults.is_empty());
        if let Some(read) = read {
            match check.map_or(Ok(()), |check| check(&read)) {
                Ok(()) => *self = read,
                Err(remedy) => faults.push((value.span(), remedy)),
            }
        }
        // Also a wrong value has its origin, so that a check over several keys can point at it.
        reader.origins.insert(at.to_owned(), reader.place(value.span()));
        for (span, remedy) in faults {
            reader.fault(span, format!("{at}: {remedy}"));
        }
    }

    fn entries(&self, about: About, out: &mut Vec<Entry>) {
        let what = What::Key { kind: T::kind(), value: self.show(), reload: about.reload };
        out.push(Entry { key: about.key, doc: about.doc, what });
    }
}

/// Reads one source into the configuration.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Arc<Source>,
    pub(crate) origins: &'a mut Origins,
    pub(crate) problems: &'a mut Vec<Problem>,
    /// Every key there is, with `NAME` for any, for suggestions.
    pub(crate) known: &'a [String],
}

impl Reader<'_> {
    /// A place in the source that is being read.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        Place { source: Arc::clone(self.source), span }
    }

    /// Notes a mistake.
    pub(crate) fn fault(&mut self, span: Range<usize>, message: String) {
        let place = self.place(span);
        self.problems.push(Problem { place: Some(place), message });
    }

    /// Every key of a table into a section.
    pub(crate) fn section<S: Section>(&mut self, into: &mut S, table: &DeTable<'_>, at: &str) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let full = dotted(at, name);
            if S::KEYS.contains(&name) {
                into.read_key(name, value, &full, self);
            } else {
                let hint = self.suggest(name, at, S::KEYS);
                self.fault(key.span(), format!("unknown key {name:?}{}{hint}", within(at)));
            }
        }
    }

    /// What was probably meant: a near word of the same section, else the same word elsewhere.
    fn suggest(&self, name: &str, at: &str, keys: &[&str]) -> String {
        if let Some(near) = suggest::nearest(name, keys.iter().copied()) {
            return format!(": did you mean {near:?}?");
        }
        let elsewhere = self.known.iter().find(|known| known.rsplit('.').next() == Some(name));
        match elsewhere.and_then(|known| known.rsplit_once('.')) {
            Some((section, _)) if section != at => format!(": it belongs in [{section}]"),
            None if elsewhere.is_some() => ": it belongs at the top, before any section".into(),
            _ => format!(": use one of {}", keys.join(", ")),
        }
    }
}

fn within(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" in [{at}]") }
}

/// `key` below `at`.
pub(crate) fn dotted(at: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let key = if plain { key.to_owned() } else { toml::Value::from(key).to_string() };
    if at.is_empty() { key } else { format!("{at}.{key}") }
}

/// A table where one is needed.
fn table<'v, 'i>(
    value: &'v Spanned<DeValue<'i>>,
    at: &str,
    reader: &mut Reader<'_>,
) -> Option<&'v DeTable<'i>> {
    let found = value.get_ref().as_table();
    if found.is_none() {
        let kind = value.get_ref().type_str();
        reader.fault(value.span(), format!("{at}: use a section [{at}], not a single {kind}"));
    }
    found
}

/// A section inside another one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sub<S>(pub(crate) S);

impl<S> std::ops::Deref for Sub<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> std::ops::DerefMut for Sub<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0
    }
}

impl<S: Section> Node for Sub<S> {
    fn read(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        at: &str,
        _: Check<Self>,
        reader: &mut Reader<'_>,
    ) {
        if let Some(table) = table(value, at, reader) {
            reader.section(&mut self.0, table, at);
        }
    }

    fn entries(&self, about: About, out: &mut Vec<Entry>) {
        let key = about.key;
        out.push(Entry { key: key.clone(), doc: about.doc, what: What::Section { many: false } });
        self.0.entries(&key, out);
    }
}

/// Sections that the operator names: `[runtimes.NAME]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Named<S>(pub(crate) BTreeMap<String, S>);

impl<S: Section> Node for Named<S> {
    fn read(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        at: &str,
        check: Check<Self>,
        reader: &mut Reader<'_>,
    ) {
        let Some(named) = table(value, at, reader) else { return };
        for (name, value) in named {
            let at = dotted(at, name.get_ref());
            if let Some(table) = table(value, &at, reader) {
                reader
                    .origins
                    .entry(at.clone())
                    .or_insert(Place { source: Arc::clone(reader.source), span: name.span() });
                let section = self.0.entry(name.get_ref().to_string()).or_default();
                reader.section(section, table, &at);
            }
        }
        if let Some(Err(remedy)) = check.map(|check| check(self)) {
            reader.fault(value.span(), format!("{at}: {remedy}"));
        }
    }

    fn entries(&self, about: About, out: &mut Vec<Entry>) {
        if self.0.is_empty() {
            let key = dotted(&about.key, "NAME");
            let what = What::Section { many: true };
            out.push(Entry { key: key.clone(), doc: about.doc, what });
            S::default().entries(&key, out);
        }
        for (name, section) in &self.0 {
            let key = dotted(&about.key, name);
            let what = What::Section { many: false };
            out.push(Entry { key: key.clone(), doc: about.doc, what });
            section.entries(&key, out);
        }
    }
}

/// Sections in a list: `[[images.policy.rules]]`. A later list replaces an earlier one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct List<S>(pub(crate) Vec<S>);

impl<S: Section> Node for List<S> {
    fn read(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        at: &str,
        check: Check<Self>,
        reader: &mut Reader<'_>,
    ) {
        let Some(array) = value.get_ref().as_array() else {
            reader.fault(value.span(), format!("{at}: use [[{at}]] for each"));
            return;
        };
        let before = reader.problems.len();
        let mut read = Vec::new();
        for value in array {
            if let Some(table) = table(value, at, reader) {
                let mut section = S::default();
                reader.section(&mut section, table, at);
                read.push(section);
            }
        }
        self.0 = read;
        reader.origins.insert(at.to_owned(), reader.place(value.span()));
        if reader.problems.len() == before
            && let Some(Err(remedy)) = check.map(|check| check(self))
        {
            reader.fault(value.span(), format!("{at}: {remedy}"));
        }
    }

    fn entries(&self, about: About, out: &mut Vec<Entry>) {
        let key = about.key;
        let value = toml::Value::Array(self.0.iter().map(inline).collect());
        let what =
            What::Key { kind: "list of sections".into(), value: Some(value), reload: about.reload };
        out.push(Entry { key: key.clone(), doc: about.doc, what });
        // One that stands for any, for the reference.
        let one = format!("[{key}]");
        out.push(Entry { key: one.clone(), doc: about.doc, what: What::Section { many: true } });
        S::default().entries(&format!("{one}.NAME"), out);
    }
}

/// A section as one value.
fn inline<S: Section>(section: &S) -> toml::Value {
    let mut entries = Vec::new();
    section.entries("", &mut entries);
    let keys = entries.into_iter().filter_map(|entry| match entry.what {
        What::Key { value, .. } => Some((entry.key, value?)),
        What::Section { .. } => None,
    });
    toml::Value::Table(keys.collect())
}
