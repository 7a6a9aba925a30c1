//! Accepting what is forwarded for pods where iptables drops by default.
//!
//! Accepting in a table of our own would mean nothing: a packet must pass the chains of every table,
//! and one drop is enough. So where the host has the chain `FORWARD` that `iptables-nft` made (as
//! Docker does, with policy DROP), the pods' addresses are accepted in a chain called from there, in
//! rules that `iptables` itself can read, list and delete. Without that chain there is nothing that
//! drops, and nothing is made.

use crate::ruleset::RulesetError;
use ipnet::IpNet;
use orlop_sys::nft::{
    AddressOf, Batch, CompareOp, Expr, Family, Hook, Nft, Rule, RuleInfo, Table, Verdict,
    match_prefix,
};

/// Our chain in the table of iptables.
const CHAIN: &str = "ORLOP-FORWARD";
/// The chain that iptables calls for what passes through.
const FORWARD: &str = "FORWARD";
/// Comment of the rule that leads to our chain.
const CALL: &str = "orlop: pods";
const ATTEMPTS: u32 = 50;

fn table(ipv6: bool) -> Table<'static> {
    Table { family: if ipv6 { Family::Ipv6 } else { Family::Ipv4 }, name: "filter" }
}

/// Whether iptables decides about forwarding here.
fn is_decided_by_iptables(nft: &mut Nft, ipv6: bool) -> Result<bool, RulesetError> {
    let forward = nft.chain(table(ipv6), FORWARD)?;
    Ok(forward.is_some_and(|chain| chain.hook == Some(Hook::Forward as u32)))
}

fn of_family(addresses: &[IpNet], ipv6: bool) -> impl Iterator<Item = &IpNet> {
    addresses.iter().filter(move |address| address.addr().is_ipv6() == ipv6)
}

fn accept(which: AddressOf, address: &IpNet) -> Vec<Expr> {
    let address = address.addr();
    let bits = if address.is_ipv6() { 128 } else { 32 };
    let mut rule = match_prefix(which, address, bits, CompareOp::Equal);
    rule.push(Expr::Verdict(Verdict::Accept));
    rule
}

/// Tries until nobody changes the ruleset in between. `plan` fills a batch, none for nothing to do.
fn settle(
    nft: &mut Nft,
    what: &'static str,
    plan: &dyn Fn(&mut Nft, &mut Batch) -> Result<(), RulesetError>,
) -> Result<(), RulesetError> {
    for _ in 0..ATTEMPTS {
        let mut batch = Batch::new(Some(nft.generation()?));
        plan(nft, &mut batch)?;
        match nft.commit(batch) {
            Err(error) if error.is_stale() => {}
            other => return Ok(other?),
        }
    }
    Err(RulesetError::Unsettled { what, attempts: ATTEMPTS })
}

fn calls(nft: &mut Nft, ipv6: bool) -> Result<Vec<RuleInfo>, RulesetError> {
    let mut rules = nft.rules(table(ipv6), FORWARD)?;
    rules.retain(|rule| rule.comment == CALL);
    Ok(rules)
}

/// Accepts what is forwarded from and to the addresses.
pub(super) fn add(nft: &mut Nft, comment: &str, addresses: &[IpNet]) -> Result<(), RulesetError> {
    for ipv6 in [false, true] {
        if of_family(addresses, ipv6).next().is_none() || !is_decided_by_iptables(nft, ipv6)? {
            continue;
        }
        settle(nft, "accept forwarding", &|nft, batch| {
            let table = table(ipv6);
            if nft.chain(table, CHAIN)?.is_none() {
                batch.add_chain(table, CHAIN, None);
            }
            for rule in nft.rules(table, CHAIN)?.iter().filter(|rule| rule.comment == comment) {
                batch.delete_rule(table, CHAIN, rule.handle);
            }
            for address in of_family(addresses, ipv6) {
                for which in [AddressOf::Source, AddressOf::Destination] {
                    let expressions = accept(which, address);
                    batch.append_rule(table, &Rule { chain: CHAIN, expressions, comment });
                }
            }
            if calls(nft, ipv6)?.is_empty() {
                let expressions = vec![Expr::Verdict(Verdict::Jump(CHAIN.into()))];
                batch.insert_rule(table, &Rule { chain: FORWARD, expressions, comment: CALL });
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Removes the rules whose comment is chosen, and the chain with its last rule.
pub(super) fn remove(nft: &mut Nft, chosen: &dyn Fn(&str) -> bool) -> Result<(), RulesetError> {
    for ipv6 in [false, true] {
        let table = table(ipv6);
        if nft.chain(table, CHAIN)?.is_none() {
            continue;
        }
        settle(nft, "stop accepting forwarding", &|nft, batch| {
            let rules = nft.rules(table, CHAIN)?;
            if rules.iter().all(|rule| chosen(&rule.comment)) {
                for call in calls(nft, ipv6)? {
                    batch.delete_rule(table, FORWARD, call.handle);
                }
                batch.delete_chain(table, CHAIN);
                return Ok(());
            }
            for rule in rules.iter().filter(|rule| chosen(&rule.comment)) {
                batch.delete_rule(table, CHAIN, rule.handle);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether everything is accepted that should be.
pub(super) fn is_present(
    nft: &mut Nft,
    comment: &str,
    addresses: &[IpNet],
) -> Result<bool, RulesetError> {
    for ipv6 in [false, true] {
        let wanted = of_family(addresses, ipv6).count() * 2;
        if wanted == 0 || !is_decided_by_iptables(nft, ipv6)? {
            continue;
        }
        let rules = nft.rules(table(ipv6), CHAIN)?;
        let present = rules.iter().filter(|rule| rule.comment == comment).count();
        if present != wanted || calls(nft, ipv6)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
