//! Records with a copy under `/run`, so that a damaged file on the disk does not end what it
//! describes: everything that lives, lives in this boot, and so does the copy.

use orlop_store::{BadRecord, Durability, Record, RecordDir, StoreError};
use std::path::Path;

/// Records of one kind.
pub(crate) struct Records<R> {
    dir: RecordDir<R>,
    copies: RecordDir<R>,
}

/// Records with their names, and what was wrong with the others.
pub(crate) type Found<R> = (Vec<(String, R)>, Vec<Damaged>);

/// A record whose file could not be read.
pub(crate) struct Damaged {
    pub(crate) bad: BadRecord,
    /// Its copy could, and is the record again.
    pub(crate) restored: bool,
}

impl<R: Record> Records<R> {
    pub(crate) fn open(dir: &Path, copies: &Path) -> Result<Self, StoreError> {
        Ok(Self { dir: RecordDir::open(dir)?, copies: RecordDir::open(copies)? })
    }

    /// Writes the record; that its copy cannot be written costs only the second chance.
    pub(crate) fn put(&self, name: &str, record: &R) -> Result<(), StoreError> {
        self.dir.put(name, record, Durability::Process)?;
        if let Err(error) = self.copies.put(name, record, Durability::Process) {
            tracing::debug!(name, %error, "no copy of the record");
        }
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), StoreError> {
        // The copy first: without its record it would only lie around.
        self.copies.remove(name)?;
        self.dir.remove(name)
    }

    /// All records. Of one whose file is damaged, the copy is taken and written back.
    pub(crate) fn load_all(&self) -> Result<Found<R>, StoreError> {
        let mut found = self.dir.load_all()?;
        let copies = self.copies.load_all()?.records;
        let mut damaged = Vec::new();
        for bad in found.bad {
            damaged.push(Damaged { bad, restored: false });
        }
        for (name, copy) in copies {
            if let Some(damaged) = damaged.iter_mut().find(|damaged| damaged.bad.name == name) {
                damaged.restored = true;
                self.dir.put(&name, &copy, Durability::Process)?;
                found.records.push((name, copy));
            } else if !found.records.iter().any(|(known, _)| *known == name) {
                self.copies.remove(&name)?;
            }
        }
        Ok((found.records, damaged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Fact(u32);
    impl Record for Fact {
        const KIND: &'static str = "fact";
    }

    #[test]
    fn a_damaged_record_comes_back_and_a_removed_one_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let (main, copies) = (temp.path().join("main"), temp.path().join("copies"));
        let records = Records::<Fact>::open(&main, &copies).unwrap();
        for (name, number) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            records.put(name, &Fact(number)).unwrap();
        }
        records.remove("b").unwrap();
        std::fs::write(main.join("a.json"), "").unwrap();
        std::fs::write(main.join("c.json"), "{").unwrap();
        std::fs::write(copies.join("c.json"), "{").unwrap();
        // A copy that outlived its record: the process died between the two.
        std::fs::remove_file(main.join("d.json")).unwrap();
        let (found, damaged) = records.load_all().unwrap();
        assert_eq!(found, [("a".to_owned(), Fact(1))]);
        let told: Vec<_> = damaged.iter().map(|d| (d.bad.name.as_str(), d.restored)).collect();
        assert_eq!(told, [("a", true), ("c", false)]);
        let (found, damaged) = records.load_all().unwrap();
        assert_eq!((found.len(), damaged.len()), (1, 0));
        assert!(!copies.join("d.json").exists());
    }
}
