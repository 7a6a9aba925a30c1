//! Reading what the kernel has.

use super::batch::{
    GET_CHAIN, GET_ELEMENT, GET_RULE, GET_TABLE, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_TABLE,
    Operation, write_element,
};
use super::expr::read_verdict;
use super::wire::{Attributes, Message, NLM_F_DUMP, NLM_F_REQUEST};
use super::{Data, Element, Family, Key, Nft, NftError, Table};

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Name.
    pub name: String,
    /// Comment, empty for none.
    pub comment: String,
}

/// A chain as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// Its table.
    pub table: String,
    /// Name.
    pub name: String,
    /// Number of the hook, for a base chain.
    pub hook: Option<u32>,
    /// Whether its policy is to drop.
    pub drop: bool,
    /// How many rules and elements lead to it, and how many rules it has.
    pub uses: u32,
}

/// A rule as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its chain.
    pub chain: String,
    /// Number by which it can be deleted.
    pub handle: u64,
    /// Comment, empty for none.
    pub comment: String,
}

/// Takes what it wants from a message of a dump.
type ReadElements<'a> = dyn Fn(&Message<'_>, &mut Vec<Element>) -> Result<(), NftError> + 'a;

fn reading(what: &'static str, object: String) -> Operation {
    Operation { what, object }
}

impl Nft {
    /// Every table of a family.
    pub fn tables(&mut self, family: Family) -> Result<Vec<TableInfo>, NftError> {
        self.dump(
            &reading("list", "tables".to_owned()),
            |writer, sequence| {
                let flags = NLM_F_REQUEST | NLM_F_DUMP;
                writer.message(GET_TABLE, flags, sequence, (family as u8, 0), |_| {});
            },
            |message, found| {
                if message.kind == NEW_TABLE {
                    found.push(table_info(message));
                }
                Ok(())
            },
        )
    }

    /// One table, `None` where it does not exist.
    pub fn table(&mut self, table: Table<'_>) -> Result<Option<TableInfo>, NftError> {
        let mut found = None;
        let asked = self.ask(
            &reading("read table", table.name.to_owned()),
            |writer, sequence| {
                let family = (table.family as u8, 0);
                writer.message(GET_TABLE, NLM_F_REQUEST, sequence, family, |writer| {
                    writer.put_str(1, table.name);
                });
            },
            |message| {
                found = (message.kind == NEW_TABLE).then(|| table_info(message));
                Ok(())
            },
        );
        absent(asked, || found)
    }

    /// One chain, `None` where it does not exist.
    pub fn chain(&mut self, table: Table<'_>, name: &str) -> Result<Option<ChainInfo>, NftError> {
        let mut found = None;
        let asked = self.ask(
            &reading("read chain", format!("{} {name}", table.name)),
            |writer, sequence| {
                let family = (table.family as u8, 0);
                writer.message(GET_CHAIN, NLM_F_REQUEST, sequence, family, |writer| {
                    writer.put_str(1, table.name);
                    writer.put_str(3, name);
                });
            },
            |message| {
                found = (message.kind == NEW_CHAIN).then(|| chain_info(message));
                Ok(())
            },
        );
        absent(asked, || found)
    }

    /// Every chain of a table.
    pub fn chains(&mut self, table: Table<'_>) -> Result<Vec<ChainInfo>, NftError> {
        let all = self.dump(
            &reading("list", format!("chains of {}", table.name)),
            |writer, sequence| {
                let flags = NLM_F_REQUEST | NLM_F_DUMP;
                writer.message(GET_CHAIN, flags, sequence, (table.family as u8, 0), |_| {});
            },
            |message, found| {
                if message.kind == NEW_CHAIN {
                    found.push(chain_info(message));
                }
                Ok(())
            },
        )?;
        Ok(all.into_iter().filter(|chain| chain.table == table.name).collect())
    }

    /// Every rule of a chain; none where the chain does not exist.
    pub fn rules(&mut self, table: Table<'_>, chain: &str) -> Result<Vec<RuleInfo>, NftError> {
        let dumped = self.dump(
            &reading("list", format!("rules of {} {chain}", table.name)),
            |writer, sequence| {
                let flags = NLM_F_REQUEST | NLM_F_DUMP;
                let family = (table.family as u8, 0);
                writer.message(GET_RULE, flags, sequence, family, |writer| {
                    writer.put_str(1, table.name);
                    writer.put_str(2, chain);
                });
            },
            |message, found| {
                let attributes = message.attributes();
                if message.kind == NEW_RULE {
                    found.push(RuleInfo {
                        chain: attributes.string(2).unwrap_or_default(),
                        handle: attributes.u64(3).unwrap_or_default(),
                        comment: attributes.comment(7).unwrap_or_default(),
                    });
                }
                Ok(())
            },
        );
        match dumped {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Every element of a set or a map; `None` where the set does not exist.
    pub fn elements(
        &mut self,
        table: Table<'_>,
        set: &str,
    ) -> Result<Option<Vec<Element>>, NftError> {
        self.dump_elements(table, set, &read_elements)
    }

    fn dump_elements(
        &mut self,
        table: Table<'_>,
        set: &str,
        each: &ReadElements<'_>,
    ) -> Result<Option<Vec<Element>>, NftError> {
        // A list that comes in parts can miss what the kernel moves meanwhile, when it makes a grown
        // table larger: such a list counts only when it comes twice the same.
        let mut before = None;
        for _ in 0..8 {
            let parts = std::cell::Cell::new(0);
            let counted: &ReadElements<'_> = &|message, found| {
                parts.set(parts.get() + usize::from(message.kind == NEW_ELEMENT));
                each(message, found)
            };
            let mut found = match self.dump_elements_once(table, set, counted) {
                Err(error) if error.is_absent() => return Ok(None),
                other => other?,
            };
            found.sort_by(|one, other| one.key.cmp(&other.key));
            found.dedup_by(|one, other| one.key == other.key);
            if parts.get() <= 1 || before.as_ref() == Some(&found) {
                return Ok(Some(found));
            }
            before = Some(found);
        }
        Ok(before)
    }

    fn dump_elements_once(
        &mut self,
        table: Table<'_>,
        set: &str,
        each: &ReadElements<'_>,
    ) -> Result<Vec<Element>, NftError> {
        self.dump(
            &reading("list", format!("elements of {} {set}", table.name)),
            |writer, sequence| {
                let flags = NLM_F_REQUEST | NLM_F_DUMP;
                let family = (table.family as u8, 0);
                writer.message(GET_ELEMENT, flags, sequence, family, |writer| {
                    writer.put_str(1, table.name);
                    writer.put_str(2, set);
                });
            },
            each,
        )
    }

    /// The elements whose comment is chosen, and whether the set has others; `None` where the set
    /// does not exist. Costs little for an element that is not chosen.
    pub fn elements_where(
        &mut self,
        table: Table<'_>,
        set: &str,
        chosen: &dyn Fn(&str) -> bool,
    ) -> Result<Option<(Vec<Element>, bool)>, NftError> {
        let others = std::cell::Cell::new(false);
        let dumped = self.dump_elements(table, set, &|message, found| {
            if message.kind != NEW_ELEMENT {
                return Ok(());
            }
            for (_, element) in message.attributes().nested(3) {
                let element = Attributes::new(element);
                if element.comment_text(6).is_some_and(chosen) {
                    found.push(read_element(element)?);
                } else {
                    others.set(true);
                }
            }
            Ok(())
        })?;
        Ok(dumped.map(|found| (found, others.get())))
    }

    /// One element by its key; `None` where it, the set or the table does not exist.
    pub fn element(
        &mut self,
        table: Table<'_>,
        set: &str,
        key: &Key,
    ) -> Result<Option<Element>, NftError> {
        let mut found = Vec::new();
        let wanted = Element { key: key.clone(), data: None, comment: None };
        let asked = self.ask(
            &reading("read", format!("an element of {} {set}", table.name)),
            |writer, sequence| {
                let family = (table.family as u8, 0);
                writer.message(GET_ELEMENT, NLM_F_REQUEST, sequence, family, |writer| {
                    writer.put_str(1, table.name);
                    writer.put_str(2, set);
                    writer.nest(3, |writer| write_element(writer, &wanted));
                });
            },
            |message| read_elements(message, &mut found),
        );
        absent(asked, || found.pop())
    }
}

/// An answer that nothing is there is `None`.
fn absent<A, T>(
    asked: Result<A, NftError>,
    found: impl FnOnce() -> Option<T>,
) -> Result<Option<T>, NftError> {
    match asked {
        Ok(_) => Ok(found()),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

fn table_info(message: &Message<'_>) -> TableInfo {
    let attributes = message.attributes();
    TableInfo {
        name: attributes.string(1).unwrap_or_default(),
        comment: attributes.comment(6).unwrap_or_default(),
    }
}

fn chain_info(message: &Message<'_>) -> ChainInfo {
    let attributes = message.attributes();
    ChainInfo {
        table: attributes.string(1).unwrap_or_default(),
        name: attributes.string(3).unwrap_or_default(),
        hook: attributes.nested(4).u32(1),
        drop: attributes.u32(5) == Some(0),
        uses: attributes.u32(6).unwrap_or_default(),
    }
}

fn read_elements(message: &Message<'_>, found: &mut Vec<Element>) -> Result<(), NftError> {
    if message.kind != NEW_ELEMENT {
        return Ok(());
    }
    for (_, element) in message.attributes().nested(3) {
        found.push(read_element(Attributes::new(element))?);
    }
    Ok(())
}

fn read_element(element: Attributes<'_>) -> Result<Element, NftError> {
    let key = element.nested(1).get(1).ok_or(NftError::Malformed { what: "element" })?;
    let data = element.nested(2);
    let verdict = data.nested(2);
    let data = match (data.get(1), verdict.u32(1)) {
        (Some(value), _) => Some(Data::Value(Key(value.to_vec()))),
        (None, Some(code)) => Some(Data::Verdict(read_verdict(code, verdict.string(2)))),
        (None, None) => None,
    };
    Ok(Element { key: Key(key.to_vec()), data, comment: element.comment(6) })
}
