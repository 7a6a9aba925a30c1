//! Changes that are applied together or not at all.

use super::expr::write_verdict;
use super::object::{BaseChain, ChainKind, Data, DataType, Element, KeyType, Rule, Set, Table};
use super::wire::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL,
    NLM_F_REQUEST, Writer,
};

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u16 = 10;

/// Number of a message of nftables.
pub(super) const fn message(number: u16) -> u16 {
    SUBSYSTEM << 8 | number
}

pub(super) const NEW_TABLE: u16 = message(0);
pub(super) const GET_TABLE: u16 = message(1);
const DELETE_TABLE: u16 = message(2);
pub(super) const NEW_CHAIN: u16 = message(3);
pub(super) const GET_CHAIN: u16 = message(4);
const DELETE_CHAIN: u16 = message(5);
pub(super) const NEW_RULE: u16 = message(6);
pub(super) const GET_RULE: u16 = message(7);
const DELETE_RULE: u16 = message(8);
const NEW_SET: u16 = message(9);
const DELETE_SET: u16 = message(11);
pub(super) const NEW_ELEMENT: u16 = message(12);
pub(super) const GET_ELEMENT: u16 = message(13);
const DELETE_ELEMENT: u16 = message(14);
pub(super) const NEW_GENERATION: u16 = message(15);
pub(super) const GET_GENERATION: u16 = message(16);

/// Elements per message: a list is an attribute, and an attribute has at most 64 KiB.
const CHUNK: usize = 200;

/// What a message of a batch does, for the words of an error.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) what: &'static str,
    pub(super) object: String,
}

/// Changes under construction; [`super::Nft::commit`] applies them.
#[derive(Debug, Clone)]
pub struct Batch {
    writer: Writer,
    operations: Vec<Operation>,
    last: usize,
    sets: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Batch {
    /// An empty batch. With a generation, it applies only to the ruleset of that generation.
    pub fn new(generation: Option<u32>) -> Self {
        let mut writer = Writer::default();
        writer.message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, (0, SUBSYSTEM), |writer| {
            if let Some(generation) = generation {
                writer.put_u32(1, generation);
            }
        });
        Self { writer, operations: Vec::new(), last: 0, sets: 0 }
    }

    /// Whether nothing was added to it.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Ends the batch: its bytes and what each message does. The last asks for an acknowledgement.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<Operation>) {
        self.writer.add_flags(self.last, NLM_F_ACK);
        self.writer.message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, 0, (0, SUBSYSTEM), |_| {});
        (self.writer.bytes().to_vec(), self.operations)
    }

    fn push(
        &mut self,
        (kind, flags): (u16, u16),
        table: Table<'_>,
        (what, name): (&'static str, &str),
        body: impl FnOnce(&mut Writer),
    ) {
        self.last = self.writer.len();
        let separator = if name.is_empty() { "" } else { " " };
        let object = format!("{}{separator}{name}", table.name);
        self.operations.push(Operation { what, object });
        let sequence = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        let header = (table.family as u8, 0);
        self.writer.message(kind, NLM_F_REQUEST | flags, sequence, header, |writer| {
            writer.put_str(1, table.name);
            body(writer);
        });
    }

    /// Makes a table; fails where it exists.
    pub fn create_table(&mut self, table: Table<'_>, comment: &str) -> &mut Self {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.push((NEW_TABLE, flags), table, ("add table", ""), |writer| {
            writer.put_u32(2, 0);
            if !comment.is_empty() {
                writer.put_comment(6, comment);
            }
        });
        self
    }

    /// Deletes a table with everything in it.
    pub fn delete_table(&mut self, table: Table<'_>) -> &mut Self {
        self.push((DELETE_TABLE, 0), table, ("delete table", ""), |_| {});
        self
    }

    /// Makes a chain, a base chain where `base` says so; fails where it exists.
    pub fn add_chain(
        &mut self,
        table: Table<'_>,
        name: &str,
        base: Option<BaseChain>,
    ) -> &mut Self {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.push((NEW_CHAIN, flags), table, ("add chain", name), |writer| {
            writer.put_str(3, name);
            let Some(base) = base else { return };
            writer.nest(4, |writer| {
                writer.put_u32(1, base.hook as u32);
                writer.put(2, &base.priority.to_be_bytes());
            });
            writer.put_u32(5, u32::from(!base.drop));
            writer.put_str(7, if base.kind == ChainKind::Nat { "nat" } else { "filter" });
        });
        self
    }

    /// Deletes a chain with its rules; fails where another rule or an element leads to it.
    pub fn delete_chain(&mut self, table: Table<'_>, name: &str) -> &mut Self {
        self.push((DELETE_CHAIN, 0), table, ("delete chain", name), |writer| {
            writer.put_str(3, name);
        });
        self
    }

    fn rule(&mut self, table: Table<'_>, rule: &Rule<'_>, flags: u16) {
        let kind = (NEW_RULE, NLM_F_CREATE | flags);
        self.push(kind, table, ("add rule to", rule.chain), |writer| {
            writer.put_str(2, rule.chain);
            writer.nest(4, |writer| {
                for expression in &rule.expressions {
                    expression.write(writer);
                }
            });
            if !rule.comment.is_empty() {
                writer.put_comment(7, rule.comment);
            }
        });
    }

    /// Adds a rule at the end of its chain.
    pub fn append_rule(&mut self, table: Table<'_>, rule: &Rule<'_>) -> &mut Self {
        self.rule(table, rule, NLM_F_APPEND);
        self
    }

    /// Adds a rule at the head of its chain.
    pub fn insert_rule(&mut self, table: Table<'_>, rule: &Rule<'_>) -> &mut Self {
        self.rule(table, rule, 0);
        self
    }

    /// Deletes one rule.
    pub fn delete_rule(&mut self, table: Table<'_>, chain: &str, handle: u64) -> &mut Self {
        self.push((DELETE_RULE, 0), table, ("delete rule of", chain), |writer| {
            writer.put_str(2, chain);
            writer.put_u64(3, handle);
        });
        self
    }

    /// Deletes every rule of a chain.
    pub fn flush_chain(&mut self, table: Table<'_>, chain: &str) -> &mut Self {
        self.push((DELETE_RULE, 0), table, ("delete rules of", chain), |writer| {
            writer.put_str(2, chain);
        });
        self
    }

    /// Makes a set or a map; fails where it exists.
    pub fn add_set(&mut self, table: Table<'_>, set: &Set<'_>) -> &mut Self {
        self.sets += 1;
        let id = self.sets;
        let (key_type, key_length) = KeyType::concatenated(set.key);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.push((NEW_SET, flags), table, ("add set", set.name), |writer| {
            writer.put_str(2, set.name);
            // NFT_SET_MAP
            writer.put_u32(3, if set.data.is_some() { 8 } else { 0 });
            writer.put_u32(4, key_type);
            writer.put_u32(5, key_length);
            match set.data {
                Some(DataType::Verdict) => {
                    writer.put_u32(6, 0xffff_ff00);
                    writer.put_u32(7, 0);
                }
                Some(DataType::Fields(fields)) => {
                    let (data_type, data_length) = KeyType::concatenated(fields);
                    writer.put_u32(6, data_type);
                    writer.put_u32(7, data_length);
                }
                None => {}
            }
            writer.put_u32(10, id);
            writer.put(13, &byte_orders(set));
        });
        self
    }

    /// Deletes a set or a map; fails where a rule uses it.
    pub fn delete_set(&mut self, table: Table<'_>, name: &str) -> &mut Self {
        self.push((DELETE_SET, 0), table, ("delete set", name), |writer| writer.put_str(2, name));
        self
    }

    fn elements(
        &mut self,
        (kind, flags): (u16, u16),
        table: Table<'_>,
        (what, set): (&'static str, &str),
        elements: &[Element],
    ) {
        for chunk in elements.chunks(CHUNK) {
            self.push((kind, flags), table, (what, set), |writer| {
                writer.put_str(2, set);
                writer.nest(3, |writer| {
                    for element in chunk {
                        write_element(writer, element);
                    }
                });
            });
        }
    }

    /// Adds elements; fails where one of their keys is there already.
    pub fn add_elements(&mut self, table: Table<'_>, set: &str, elements: &[Element]) -> &mut Self {
        let kind = (NEW_ELEMENT, NLM_F_CREATE | NLM_F_EXCL);
        self.elements(kind, table, ("add element to", set), elements);
        self
    }

    /// Deletes elements by key; fails where one is not there.
    pub fn delete_elements(
        &mut self,
        table: Table<'_>,
        set: &str,
        elements: &[Element],
    ) -> &mut Self {
        self.elements((DELETE_ELEMENT, 0), table, ("delete element of", set), elements);
        self
    }
}

/// User data by which the `nft` tool knows how to print keys (0) and values (1): numbers of the
/// host's order are 1, of network order 2, concatenations 0.
fn byte_orders(set: &Set<'_>) -> Vec<u8> {
    let order = |fields: &[KeyType]| match fields {
        [KeyType::InterfaceName] => 1_u32,
        [_] => 2,
        _ => 0,
    };
    let mut bytes = vec![0, 4];
    bytes.extend_from_slice(&order(set.key).to_ne_bytes());
    if let Some(DataType::Fields(fields)) = set.data {
        bytes.extend_from_slice(&[1, 4]);
        bytes.extend_from_slice(&order(fields).to_ne_bytes());
    }
    bytes
}

/// Writes an element as a member of a list.
pub(super) fn write_element(writer: &mut Writer, element: &Element) {
    writer.nest(1, |writer| {
        writer.nest(1, |writer| writer.put(1, &element.key.0));
        match &element.data {
            Some(Data::Value(value)) => writer.nest(2, |writer| writer.put(1, &value.0)),
            Some(Data::Verdict(verdict)) => write_verdict(writer, 2, verdict),
            None => {}
        }
        if let Some(comment) = &element.comment {
            writer.put_comment(6, comment);
        }
    });
}
