//! Adding and removing elements, and with them the table.

use super::{RulesetError, Segment};
use orlop_sys::nft::{Batch, Data, Element, Key, Nft, NftError, Rule, Table, Verdict};
use std::collections::HashSet;

/// How often a change is tried again because somebody else changed the ruleset meanwhile.
const ATTEMPTS: u32 = 50;

/// A table of ours: what it consists of when it is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Its name.
    pub(crate) table: Table<'static>,
    /// Sets whose elements belong to attachments, the fullest first. Elements of other sets do not
    /// keep the table.
    pub(crate) sets: &'static [&'static str],
    /// Adds sets, chains and static rules to a batch that made the table.
    pub(crate) build: fn(&mut Batch),
    /// Called with true before the table goes, and with false where it stays after all.
    pub(crate) on_end: fn(&mut Nft, bool) -> Result<(), NftError>,
}

/// Whose an element may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The newest owner's: a pod's address cannot be another's, whatever a lost DEL left here.
    Newest,
    /// The first owner's; the text says what is taken.
    First(String),
    /// Nobody's: it has no comment and stays as long as the table.
    Nobody,
}

/// An element to be added.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its set.
    pub(crate) set: &'static str,
    /// Its key.
    pub(crate) key: Key,
    /// Its value.
    pub(crate) value: Value,
    /// What happens where the key is there already.
    pub(crate) claim: Claim,
}

/// Value of an element to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A member of a set.
    Member,
    /// Fields.
    Fields(Key),
    /// A call of a chain, which is made where it does not exist.
    Call(Segment),
}

impl Entry {
    fn element(&self, comment: &str) -> Element {
        let data = match &self.value {
            Value::Member => None,
            Value::Fields(fields) => Some(Data::Value(fields.clone())),
            Value::Call(segment) => Some(Data::Verdict(Verdict::Jump(segment.name().into()))),
        };
        let comment = (self.claim != Claim::Nobody).then(|| comment.to_owned());
        Element { key: self.key.clone(), data, comment }
    }
}

/// An element that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Its set.
    pub(crate) set: &'static str,
    /// Itself.
    pub(crate) element: Element,
}

impl Layout {
    /// Adds the entries in one transaction, with the table and the chains that they need.
    pub(crate) fn add(
        &self,
        nft: &mut Nft,
        comment: &str,
        entries: &[Entry],
    ) -> Result<(), RulesetError> {
        // A batch that fails costs a grace period of the kernel (16 ms), a question microseconds.
        if self.is_laid_out(nft, entries)? {
            let mut batch = Batch::default();
            for entry in entries {
                batch.add_elements(self.table, entry.set, &[entry.element(comment)]);
            }
            match nft.commit(batch) {
                Err(error) if error.is_absent() || error.is_present() => {}
                other => return Ok(other?),
            }
        }
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::new(Some(nft.generation()?));
            self.plan(nft, &mut batch, comment, entries)?;
            match nft.commit(batch) {
                Err(error) if error.is_stale() => {}
                other => return Ok(other?),
            }
        }
        Err(RulesetError::Unsettled { what: "add elements", attempts: ATTEMPTS })
    }

    /// Whether the table and all chains that the entries call are there.
    fn is_laid_out(&self, nft: &mut Nft, entries: &[Entry]) -> Result<bool, NftError> {
        let mut asked = HashSet::new();
        for entry in entries {
            let Value::Call(segment) = &entry.value else { continue };
            let name = segment.name();
            if !asked.contains(&name) && nft.chain(self.table, &name)?.is_none() {
                return Ok(false);
            }
            asked.insert(name);
        }
        Ok(!asked.is_empty() || nft.table(self.table)?.is_some())
    }

    /// Fills a batch with everything that the entries lack, as the ruleset stands.
    fn plan(
        &self,
        nft: &mut Nft,
        batch: &mut Batch,
        comment: &str,
        entries: &[Entry],
    ) -> Result<(), RulesetError> {
        let mut chains = HashSet::new();
        let exists = nft.table(self.table)?.is_some();
        if exists {
            chains.extend(nft.chains(self.table)?.into_iter().map(|chain| chain.name));
        } else {
            batch.create_table(self.table, "made by orlop, goes with its last element");
            (self.build)(batch);
        }
        for entry in entries {
            if let Value::Call(segment) = &entry.value {
                let name = segment.name();
                if !chains.contains(&name) {
                    batch.add_chain(self.table, &name, None);
                    for expressions in segment.rules() {
                        let rule = Rule { chain: &name, expressions, comment: "" };
                        batch.append_rule(self.table, &rule);
                    }
                    chains.insert(name);
                }
            }
            let present =
                if exists { nft.element(self.table, entry.set, &entry.key)? } else { None };
            if let Some(present) = present {
                if entry.claim == Claim::Nobody {
                    continue;
                }
                entry.check(&present, comment)?;
                batch.delete_elements(self.table, entry.set, &[bare(present)]);
            }
            batch.add_elements(self.table, entry.set, &[entry.element(comment)]);
        }
        Ok(())
    }

    /// Removes the elements of these sets whose comment is chosen, and the table where nothing is
    /// left in any of its sets.
    pub(crate) fn remove(
        &self,
        nft: &mut Nft,
        sets: &[&'static str],
        chosen: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Removed>, RulesetError> {
        for _ in 0..ATTEMPTS {
            let generation = nft.generation()?;
            let (removed, kept) = self.divide(nft, sets, chosen)?;
            if removed.is_empty() {
                return Ok(removed);
            }
            let done = if kept || self.holds_others(nft, sets)? {
                // Nobody else deletes these, so whatever else changes does not matter.
                let mut batch = Batch::default();
                for Removed { set, element } in &removed {
                    batch.delete_elements(self.table, set, &[bare(element.clone())]);
                }
                nft.commit(batch)
            } else {
                self.remove_table(nft, generation)
            };
            match done {
                Err(error) if error.is_stale() || error.is_absent() => {}
                other => {
                    other?;
                    // Two that each leave the other's element behind would both leave the table.
                    self.sweep(nft)?;
                    return Ok(removed);
                }
            }
        }
        Err(RulesetError::Unsettled { what: "remove elements", attempts: ATTEMPTS })
    }

    /// Removes the table where it has no element. Whoever changes it meanwhile looks after it.
    fn sweep(&self, nft: &mut Nft) -> Result<(), RulesetError> {
        let generation = nft.generation()?;
        for set in self.sets {
            match nft.elements_where(self.table, set, &|_| false)? {
                Some((_, false)) => {}
                // An element, or no table.
                Some((_, true)) | None => return Ok(()),
            }
        }
        match self.remove_table(nft, generation) {
            Err(error) if error.is_stale() || error.is_absent() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Removes the table unless anything changed since the generation.
    fn remove_table(&self, nft: &mut Nft, generation: u32) -> Result<(), NftError> {
        (self.on_end)(nft, true)?;
        let mut batch = Batch::new(Some(generation));
        batch.delete_table(self.table);
        let done = nft.commit(batch);
        if done.is_err() {
            (self.on_end)(nft, false)?;
        }
        done
    }

    /// The chosen elements of some sets, and whether there are others in them.
    fn divide(
        &self,
        nft: &mut Nft,
        sets: &[&'static str],
        chosen: &dyn Fn(&str) -> bool,
    ) -> Result<(Vec<Removed>, bool), RulesetError> {
        let (mut removed, mut kept) = (Vec::new(), false);
        for &set in sets {
            // No such set: no table.
            let Some((found, others)) = nft.elements_where(self.table, set, chosen)? else { break };
            removed.extend(found.into_iter().map(|element| Removed { set, element }));
            kept |= others;
        }
        Ok((removed, kept))
    }

    /// Whether a set other than these has elements.
    fn holds_others(&self, nft: &mut Nft, sets: &[&str]) -> Result<bool, RulesetError> {
        for set in self.sets.iter().filter(|set| !sets.contains(set)) {
            if nft.elements_where(self.table, set, &|_| false)?.is_some_and(|(_, others)| others) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether all the entries are there, as they would be added; the first that is not.
    pub(crate) fn missing<'e>(
        &self,
        nft: &mut Nft,
        comment: &str,
        entries: &'e [Entry],
    ) -> Result<Option<&'e Entry>, RulesetError> {
        for entry in entries {
            let wanted = entry.element(comment);
            if nft.element(self.table, entry.set, &entry.key)?.as_ref() != Some(&wanted) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn check(&self, present: &Element, comment: &str) -> Result<(), RulesetError> {
        let holder = present.comment.as_deref().unwrap_or("unknown");
        match &self.claim {
            Claim::First(what) if holder != comment => {
                let holder = holder.split(' ').next().unwrap_or(holder).to_owned();
                Err(RulesetError::Taken { what: what.clone(), holder })
            }
            _ => Ok(()),
        }
    }
}

/// An element by its key alone, as deletion wants it.
fn bare(element: Element) -> Element {
    Element { key: element.key, data: None, comment: None }
}
