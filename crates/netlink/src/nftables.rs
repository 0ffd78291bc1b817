//! A summary of a namespace's nftables rules: as much as it takes to tell which of them turned
//! connection tracking on and what acts on it.
//!
//! Rules that iptables made through nftables (`iptables-nft`) show as [`Expression::Match`] and
//! [`Expression::Target`]; those of the legacy iptables are elsewhere in the kernel and are not
//! here. Nothing is judged here.
//!
//! Source: `include/uapi/linux/netfilter/nf_tables.h` (Linux 6.12).

use std::fmt;

use crate::availability::{Availability, Module, ModulePresence};
use crate::error::{Error, Operation};
use crate::netns::{self, Namespace};
use crate::socket::{DUMP_BUFFER, Socket};
use crate::wire::{Attribute, Attributes, Builder, Malformed, Message, message};

/// `NFNL_SUBSYS_NFTABLES` in the upper byte of a message's type.
const TABLES: u16 = 10 << 8;
const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;

/// How often the rules are read again when they changed meanwhile.
const ATTEMPTS: u32 = 5;

/// Everything read of a namespace's rules. Names in it are others' choice: hostile input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesetSummary {
    /// The tables.
    pub tables: Vec<Table>,
    /// Their chains.
    pub chains: Vec<Chain>,
    /// Their rules, in the order of evaluation within a chain.
    pub rules: Vec<Rule>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: RuleFamily,
    /// Its name.
    pub name: String,
    /// Whether it is switched off (`flags dormant`).
    pub is_dormant: bool,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its family.
    pub family: RuleFamily,
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is hooked in; absent for chains that are only jumped to.
    pub hook: Option<Hook>,
    /// `filter`, `nat` or `route`; absent where there is no hook.
    pub kind: Option<String>,
    /// What happens to packets that reach its end; absent where there is no hook.
    pub policy: Option<Verdict>,
}

/// Where a chain is hooked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The hook's number within the family.
    pub number: u32,
    /// Its name: `prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress`, `egress`.
    pub name: &'static str,
    /// Its priority; conntrack's own is -200, so lower ones see packets first.
    pub priority: i32,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its family.
    pub family: RuleFamily,
    /// Its table's name.
    pub table: String,
    /// Its chain's name.
    pub chain: String,
    /// Its handle, as `nft -a list ruleset` shows it.
    pub handle: u64,
    /// What it consists of, in order.
    pub expressions: Vec<Expression>,
}

/// A family of rules (`NFPROTO_*`), by nft's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleFamily(pub u8);

impl RuleFamily {
    /// nft's name.
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "unknown",
        }
    }

    const fn hook_name(self, number: u32) -> &'static str {
        match (self.0, number) {
            (5, 0) | (1, 5) => "ingress",
            (5, 1) => "egress",
            (3, 1) | (_, 3) => "output",
            (3, 0) | (_, 1) => "input",
            (_, 0) => "prerouting",
            (_, 2) => "forward",
            (_, 4) => "postrouting",
            _ => "unknown",
        }
    }
}

impl fmt::Display for RuleFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expression {
    /// Reads something of the packet's connection: `ct state`, `ct mark`.
    ConntrackRead(ConntrackKey),
    /// Writes to the packet's connection: `ct mark set`, `ct zone set`.
    ConntrackWrite(ConntrackKey),
    /// Translates sources (`snat`).
    SourceNat,
    /// Translates destinations (`dnat`).
    DestinationNat,
    /// Translates sources to the outgoing interface's address.
    Masquerade,
    /// Translates destinations to this host.
    Redirect,
    /// Exempts the packet from tracking.
    Notrack,
    /// Counts the connections of a key (`ct count`).
    ConnectionLimit,
    /// Hands connections to a flow table.
    FlowOffload(String),
    /// Answers SYNs in the server's place.
    SynProxy,
    /// Refers to an object by name: `ct helper set`, `ct timeout set`, and others.
    Object(ObjectKind, String),
    /// Looks something up in a set or map.
    Lookup {
        /// The set's name.
        set: String,
        /// Whether what it finds is a verdict (`vmap`).
        is_verdict: bool,
    },
    /// An iptables match: `conntrack`, `state`, `connlimit`.
    Match(String),
    /// An iptables target: `MASQUERADE`, `DNAT`, `CT`, `CONNMARK`.
    Target(String),
    /// Decides.
    Verdict(Verdict),
    /// Drops and tells the sender.
    Reject,
    /// Writes to the packet or to what the kernel keeps with it (`meta mark set`, `ip dscp set`), by
    /// the kernel's name of the expression: `meta`, `payload`, `exthdr`.
    PacketWrite(String),
    /// Anything else, by the kernel's name.
    Other(String),
}

/// What a `ct` expression reads or writes (`enum nft_ct_keys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConntrackKey(pub u32);

impl ConntrackKey {
    /// nft's name for it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "state",
            1 => "direction",
            2 => "status",
            3 => "mark",
            4 => "secmark",
            5 => "expiration",
            6 => "helper",
            7 => "l3proto",
            8 | 19 | 21 => "saddr",
            9 | 20 | 22 => "daddr",
            10 => "protocol",
            11 => "proto-src",
            12 => "proto-dst",
            13 => "label",
            14 => "packets",
            15 => "bytes",
            16 => "avgpkt",
            17 => "zone",
            18 => "event",
            23 => "id",
            _ => "unknown",
        }
    }
}

/// Kinds of objects (`NFT_OBJECT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A connection tracking helper.
    ConntrackHelper,
    /// A limit of connections.
    ConnectionLimit,
    /// A timeout policy.
    ConntrackTimeout,
    /// An expectation.
    ConntrackExpectation,
    /// A SYN proxy.
    SynProxy,
    /// Counters, quotas and whatever else has nothing to do with tracking; the kernel's number.
    Other(u32),
}

/// What a rule or a chain's end decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet is dropped.
    Drop,
    /// It goes on past this chain.
    Accept,
    /// Evaluation goes on in another chain and comes back.
    Jump(String),
    /// Evaluation goes on in another chain.
    Goto(String),
    /// Evaluation returns to the calling chain.
    Return,
    /// Something else: `queue`, `continue`, `break`; the kernel's code.
    Other(i32),
}

impl RulesetSummary {
    /// Reads the rules of the calling thread's namespace. `None` when this kernel has no nftables
    /// running, so that there can be no rules; nothing is loaded to find out.
    pub fn read() -> Result<Option<Self>, Error> {
        if !is_running()? {
            return Ok(None);
        }
        let mut socket = Socket::open(Operation::ReadRules, 0)?;
        for _ in 0..ATTEMPTS {
            match Self::read_once(&mut socket) {
                Ok((summary, false)) => return Ok(Some(summary)),
                Ok((_, true)) => {}
                // A kernel without modules and without nftables.
                Err(error) if error.errno().is_some_and(|errno| errno.0 == libc::EINVAL) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Interrupted { operation: Operation::ReadRules, attempts: ATTEMPTS })
    }

    /// Reads the rules of a namespace.
    pub fn read_in(namespace: &Namespace) -> Result<Option<Self>, Error> {
        if namespace.is_current() {
            return Self::read();
        }
        netns::enter(namespace, |_| Self::read())?
    }

    /// The chain that a rule stands in.
    pub fn chain_of(&self, rule: &Rule) -> Option<&Chain> {
        self.chains.iter().find(|chain| {
            chain.family == rule.family && chain.table == rule.table && chain.name == rule.chain
        })
    }

    /// Also returns whether the rules changed meanwhile.
    fn read_once(socket: &mut Socket) -> Result<(Self, bool), Error> {
        let mut summary = Self::default();
        let mut has_changed = list(socket, GET_TABLE, |family, attributes| {
            summary.tables.push(table(family, attributes)?);
            Ok(())
        })?;
        has_changed |= list(socket, GET_CHAIN, |family, attributes| {
            summary.chains.push(chain(family, attributes)?);
            Ok(())
        })?;
        has_changed |= list(socket, GET_RULE, |family, attributes| {
            summary.rules.push(rule(family, attributes)?);
            Ok(())
        })?;
        Ok((summary, has_changed))
    }
}

fn is_running() -> Result<bool, Error> {
    match Module::Tables.presence() {
        ModulePresence::Unknown => Err(Error::Unavailable { availability: Availability::Unknown }),
        presence => Ok(presence.is_safe_to_ask()),
    }
}

/// Returns whether the rules changed meanwhile.
fn list(
    socket: &mut Socket,
    what: u16,
    mut take: impl FnMut(RuleFamily, Attributes<'_>) -> Result<(), Malformed>,
) -> Result<bool, Error> {
    let sequence = socket.next_sequences(1);
    let mut builder = Builder::default();
    builder.begin(TABLES | what, message::REQUEST | message::DUMP, sequence, 0);
    if !builder.end() {
        return Err(Error::TooLong { operation: Operation::ReadRules, object: String::new() });
    }
    let mut buffer = vec![0; DUMP_BUFFER];
    let take = |message: Message<'_>| {
        let (family, _) = message.netfilter_header()?;
        take(RuleFamily(family), message.attributes()?)?;
        Ok(false)
    };
    let request = builder.bytes();
    socket.exchange_with(&mut buffer, Operation::ReadRules, &String::new, request, take)
}

fn table(family: RuleFamily, attributes: Attributes<'_>) -> Result<Table, Malformed> {
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    const DORMANT: u32 = 1;
    let mut table = Table { family, name: String::new(), is_dormant: false };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            NAME => table.name = attribute.text(),
            FLAGS => table.is_dormant = attribute.be32()? & DORMANT != 0,
            _ => {}
        }
    }
    Ok(table)
}

fn chain(family: RuleFamily, attributes: Attributes<'_>) -> Result<Chain, Malformed> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    let (table, name) = (String::new(), String::new());
    let mut chain = Chain { family, table, name, hook: None, kind: None, policy: None };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            TABLE => chain.table = attribute.text(),
            NAME => chain.name = attribute.text(),
            HOOK => chain.hook = Some(hook(family, &attribute)?),
            POLICY => chain.policy = Some(decision(attribute.be32()?, String::new())),
            TYPE => chain.kind = Some(attribute.text()),
            _ => {}
        }
    }
    Ok(chain)
}

fn hook(family: RuleFamily, container: &Attribute<'_>) -> Result<Hook, Malformed> {
    const NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    let (mut number, mut priority) = (0, 0);
    for attribute in container.nested() {
        let attribute = attribute?;
        match attribute.kind {
            NUMBER => number = attribute.be32()?,
            PRIORITY => priority = attribute.be32()?.cast_signed(),
            _ => {}
        }
    }
    Ok(Hook { number, name: family.hook_name(number), priority })
}

fn rule(family: RuleFamily, attributes: Attributes<'_>) -> Result<Rule, Malformed> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    let (table, chain) = (String::new(), String::new());
    let mut rule = Rule { family, table, chain, handle: 0, expressions: Vec::new() };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            TABLE => rule.table = attribute.text(),
            CHAIN => rule.chain = attribute.text(),
            HANDLE => rule.handle = attribute.be64()?,
            EXPRESSIONS => {
                for element in attribute.nested() {
                    rule.expressions.push(expression(&element?)?);
                }
            }
            _ => {}
        }
    }
    Ok(rule)
}

fn expression(element: &Attribute<'_>) -> Result<Expression, Malformed> {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let name = find(element.nested(), NAME)?.map(|name| name.text()).unwrap_or_default();
    let data = find(element.nested(), DATA)?.map_or(Attributes(&[]), |data| data.nested());
    Ok(match name.as_str() {
        "ct" => conntrack(data)?,
        "nat" => translation(data)?,
        "masq" => Expression::Masquerade,
        "redir" => Expression::Redirect,
        "notrack" => Expression::Notrack,
        "connlimit" => Expression::ConnectionLimit,
        "flow_offload" => Expression::FlowOffload(text(data, 1)?),
        "synproxy" => Expression::SynProxy,
        "objref" => object(data)?,
        "lookup" => lookup(data)?,
        "match" => Expression::Match(text(data, 1)?),
        "target" => Expression::Target(text(data, 1)?),
        "reject" => Expression::Reject,
        "meta" | "payload" | "exthdr" if !reads(data.clone())? => Expression::PacketWrite(name),
        "immediate" => immediate(data)?.unwrap_or(Expression::Other(name)),
        _ => Expression::Other(name),
    })
}

fn conntrack(data: Attributes<'_>) -> Result<Expression, Malformed> {
    const KEY: u16 = 2;
    const SOURCE_REGISTER: u16 = 4;
    let key = find(data.clone(), KEY)?.map_or(Ok(u32::MAX), |key| key.be32())?;
    let writes = find(data, SOURCE_REGISTER)?.is_some();
    let key = ConntrackKey(key);
    Ok(if writes { Expression::ConntrackWrite(key) } else { Expression::ConntrackRead(key) })
}

/// Whether a `meta`, `payload` or `exthdr` puts what it reads into a register
/// (`NFTA_META_DREG`, `NFTA_PAYLOAD_DREG`, `NFTA_EXTHDR_DREG`); without one it writes.
fn reads(data: Attributes<'_>) -> Result<bool, Malformed> {
    const DESTINATION_REGISTER: u16 = 1;
    Ok(find(data, DESTINATION_REGISTER)?.is_some())
}

fn translation(data: Attributes<'_>) -> Result<Expression, Malformed> {
    const TYPE: u16 = 1;
    const SOURCE: u32 = 0;
    let kind = find(data, TYPE)?.map_or(Ok(SOURCE), |kind| kind.be32())?;
    Ok(if kind == SOURCE { Expression::SourceNat } else { Expression::DestinationNat })
}

fn object(data: Attributes<'_>) -> Result<Expression, Malformed> {
    const TYPE: u16 = 1;
    const NAME: u16 = 2;
    let number = find(data.clone(), TYPE)?.map_or(Ok(0), |kind| kind.be32())?;
    let kind = match number {
        3 => ObjectKind::ConntrackHelper,
        5 => ObjectKind::ConnectionLimit,
        7 => ObjectKind::ConntrackTimeout,
        9 => ObjectKind::ConntrackExpectation,
        10 => ObjectKind::SynProxy,
        other => ObjectKind::Other(other),
    };
    Ok(Expression::Object(kind, text(data, NAME)?))
}

fn lookup(data: Attributes<'_>) -> Result<Expression, Malformed> {
    const SET: u16 = 1;
    const DESTINATION_REGISTER: u16 = 3;
    const VERDICT_REGISTER: u32 = 0;
    let register = find(data.clone(), DESTINATION_REGISTER)?;
    let is_verdict = match register {
        Some(register) => register.be32()? == VERDICT_REGISTER,
        None => false,
    };
    Ok(Expression::Lookup { set: text(data, SET)?, is_verdict })
}

/// A verdict; `None` for a value that is put into a register.
fn immediate(data: Attributes<'_>) -> Result<Option<Expression>, Malformed> {
    const DATA: u16 = 2;
    const VERDICT: u16 = 2;
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    let Some(data) = find(data, DATA)? else { return Ok(None) };
    let Some(verdict) = find(data.nested(), VERDICT)? else { return Ok(None) };
    let Some(code) = find(verdict.nested(), CODE)? else { return Ok(None) };
    let chain = text(verdict.nested(), CHAIN)?;
    Ok(Some(Expression::Verdict(decision(code.be32()?, chain))))
}

/// `NF_DROP`, `NF_ACCEPT` and `enum nft_verdicts`.
fn decision(code: u32, chain: String) -> Verdict {
    match code.cast_signed() {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -3 => Verdict::Jump(chain),
        -4 => Verdict::Goto(chain),
        -5 => Verdict::Return,
        other => Verdict::Other(other),
    }
}

fn find(attributes: Attributes<'_>, kind: u16) -> Result<Option<Attribute<'_>>, Malformed> {
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(Some(attribute));
        }
    }
    Ok(None)
}

fn text(attributes: Attributes<'_>, kind: u16) -> Result<String, Malformed> {
    Ok(find(attributes, kind)?.map(|attribute| attribute.text()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Messages;

    /// `table ip nat { chain post { type nat hook postrouting priority 100; ct state new
    /// masquerade } }` as Linux 6.18 sends it.
    const CHAIN: &str = "68000000030a0200070000008727020002000007080001006e61740009000300706f73\
74000000000c00020000000000000000011400040008000100000000040800020000000064080005000000000108000700\
6e61740008000a00000000010800060000000001";
    const RULE: &str = "e4000000060a0208070000006327020002000007080001006e61740009000200706f73\
74000000000c0003000000000000000002b000040020000100070001006374000014000200080001000000000108000200\
000000004c0001000c00010062697477697365003c00020008000100000000010800020000000001080003000000000408\
000600000000000c00040008000100080000000c00050008000100000000002c00010008000100636d7000200002000800\
01000000000108000200000000010c000300080001000000000014000100090001006d6173710000000004000200";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            hex.bytes().filter_map(|digit| Some(char::from(digit).to_digit(16)? as u8)).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn read_all(attributes: &Attributes<'_>) {
        let _ = table(RuleFamily(2), attributes.clone());
        let _ = chain(RuleFamily(2), attributes.clone());
        let _ = rule(RuleFamily(2), attributes.clone());
    }

    #[test]
    fn a_chain_with_its_hook() {
        let bytes = bytes(CHAIN);
        let message = Messages(&bytes).next().unwrap().unwrap();
        let chain = chain(RuleFamily(2), message.attributes().unwrap()).unwrap();
        let hook = Hook { number: 4, name: "postrouting", priority: 100 };
        assert_eq!((chain.table.as_str(), chain.name.as_str()), ("nat", "post"));
        assert_eq!((chain.hook, chain.kind.as_deref()), (Some(hook), Some("nat")));
        assert_eq!(chain.policy, Some(Verdict::Accept));
    }

    #[test]
    fn a_rule_with_its_expressions() {
        let bytes = bytes(RULE);
        let message = Messages(&bytes).next().unwrap().unwrap();
        let rule = rule(RuleFamily(2), message.attributes().unwrap()).unwrap();
        assert_eq!((rule.chain.as_str(), rule.handle), ("post", 2));
        let other = |name: &str| Expression::Other(name.to_owned());
        let expected = [
            Expression::ConntrackRead(ConntrackKey(0)),
            other("bitwise"),
            other("cmp"),
            Expression::Masquerade,
        ];
        assert_eq!(rule.expressions, expected);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            read_all(&Attributes(&bytes));
        }

        #[test]
        fn changed_messages_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
            cut in any::<prop::sample::Index>(),
        ) {
            for hex in [CHAIN, RULE] {
                let mut message = bytes(hex);
                for (place, value) in &changes {
                    let place = place.index(message.len());
                    message[place] = *value;
                }
                message.truncate(cut.index(message.len()) + 1);
                read_all(&Attributes(message.get(20..).unwrap_or_default()));
            }
        }
    }
}
