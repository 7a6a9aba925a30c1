//! What a record file says about itself, and how older ones become current ones.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A step from one version's data to the next one's. Frozen once released: it describes how the
/// data of its version looked, whatever the current type looks like.
pub type Migration = fn(Value) -> Result<Value, String>;

/// A type that is kept in a [`crate::RecordDir`].
pub trait Record: Serialize + DeserializeOwned {
    /// What the envelope calls it; a file of another kind is refused.
    const KIND: &'static str;
    /// Entry `n` turns data of version `n + 1` into data of version `n + 2`; the current version is
    /// therefore one more than the table's length. Rules: never edit or remove an entry; add one
    /// whenever a field is removed, renamed or changes its meaning; a new field with a serde default
    /// needs none.
    const MIGRATIONS: &'static [Migration] = &[];
    /// The version that is written now.
    const VERSION: u32 = Self::MIGRATIONS.len() as u32 + 1;
}

#[derive(Serialize, Deserialize)]
struct Envelope<D> {
    version: u32,
    kind: String,
    data: D,
}

/// The bytes of a record file.
pub(crate) fn encode<T: Record>(record: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(&Envelope {
        version: T::VERSION,
        kind: T::KIND.to_owned(),
        data: record,
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a record file of this or an earlier version.
pub(crate) fn decode<T: Record>(bytes: &[u8]) -> Result<T, String> {
    let envelope: Envelope<Value> =
        serde_json::from_slice(bytes).map_err(|e| format!("not a record: {e}"))?;
    if envelope.kind != T::KIND {
        return Err(format!("it is a {:?} record, expected {:?}", envelope.kind, T::KIND));
    }
    if envelope.version == 0 || envelope.version > T::VERSION {
        return Err(format!(
            "its version {} is not known: this program reads 1 to {}; start the program that wrote it",
            envelope.version,
            T::VERSION
        ));
    }
    let mut data = envelope.data;
    for (step, migrate) in T::MIGRATIONS.iter().enumerate().skip(envelope.version as usize - 1) {
        data =
            migrate(data).map_err(|why| format!("migration from version {}: {why}", step + 1))?;
    }
    serde_json::from_value(data).map_err(|e| format!("its data does not fit: {e}"))
}
