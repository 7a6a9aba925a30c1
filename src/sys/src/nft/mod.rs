//! nftables over netlink: tables, chains, sets, maps and rules, changed in atomic batches.
//!
//! [`Nft`] is a synchronous socket in the network namespace of the thread that opens it; the kernel
//! answers a batch before `send` returns, so no call of this module waits for anything. A [`Batch`]
//! is applied whole or not at all, and [`Nft::generation`] lets a batch depend on what was read
//! before it: where somebody else changed the ruleset in between, [`NftError::is_stale`] says so.
//!
//! Only what this project's rules need is here, written from the kernel's interface
//! (`linux/netfilter/nf_tables.h`); the record in `docs/decisions/0006-nftables.md` says why.

mod batch;
pub mod conntrack;
mod dump;
mod error;
mod expr;
mod object;
mod pool;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

pub use batch::Batch;
pub use dump::{ChainInfo, RuleInfo, TableInfo};
pub use error::NftError;
pub use expr::{
    AddressOf, CompareOp, CtKey, Expr, MetaKey, NatKind, PayloadBase, Reg, Verdict, ipv4, ipv6,
    l4_destination_port, match_ct_state, match_ct_status_dnat, match_family, match_iifname,
    match_local, match_oifname, match_prefix,
};
pub use object::{
    BaseChain, ChainKind, Data, DataType, Element, Family, Hook, Key, KeyType, Rule, Set, Table,
};
pub use pool::KeptNft;
pub use socket::Nft;
