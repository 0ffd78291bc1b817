//! Rules: what the caller decides about packets at each hook.
//!
//! A [`Ruleset`] is asked on the way of every packet, in the order in which Netfilter's hooks
//! would ask nftables or iptables:
//!
//! | stage | hooks | may |
//! |---|---|---|
//! | [`raw`](Ruleset::raw) | prerouting, output; before tracking | choose the zone, keep the packet untracked, drop it |
//! | [`tracked`](Ruleset::tracked) | prerouting, output; behind tracking | mark, label, drop |
//! | [`destination`](Ruleset::destination) | prerouting, output | translate the destination of a connection's first packet |
//! | [`filter`](Ruleset::filter) | input, forward, output | accept, drop, mark, label |
//! | [`source`](Ruleset::source) | postrouting, input | translate the source of a connection's first packet |
//!
//! `()` is the ruleset without rules and costs nothing; [`Rules`] is a small one of ordered lists.

mod list;
mod matching;

use ctkeeper_flow::{Direction, Family, Labels, Status, Zone};
use serde::{Deserialize, Serialize};

use crate::nat::Range;
use crate::outcome::{Class, Handle, Verdict};
use crate::packet::{Datagram, Packet};
use crate::tuple::Tuple;

pub use list::{DestinationAction, FilterAction, RawAction, Rule, Rules, SourceAction};
pub use matching::{Match, Prefix, PrefixError};

/// The caller's rules.
///
/// Every method has a default that lets the packet pass, so that a ruleset says only what it
/// cares about. The engine never asks twice about the same packet at the same stage.
pub trait Ruleset {
    /// Whether there are rules at a stage at all. What is not asked for is not prepared: a
    /// ruleset that says no here makes every packet cheaper.
    #[inline]
    fn asks(&self, stage: Stage) -> bool {
        let _ = stage;
        true
    }

    /// Whether a namespace has chains that translate addresses of a family.
    ///
    /// Where it has, each new connection gets a binding for its destination and one for its
    /// source, though no rule may speak of it, and that alone can change its source port: when
    /// another connection has the reply tuple (`nf_nat_alloc_null_binding`, `nf_nat_core.c`,
    /// Linux 6.12). [`Self::destination`] and [`Self::source`] are asked only where it has.
    #[inline]
    fn uses_nat(&self, namespace: u16, family: Family) -> bool {
        let _ = (namespace, family);
        false
    }

    /// Before tracking.
    #[inline]
    fn raw(&mut self, visit: &Visit<'_>) -> Raw {
        let _ = visit;
        Raw::TRACK
    }

    /// Behind tracking, before any translation.
    #[inline]
    fn tracked(&mut self, visit: &Visit<'_>) -> Decision {
        let _ = visit;
        Decision::ACCEPT
    }

    /// Where the destination of a new connection is to be translated to.
    #[inline]
    fn destination(&mut self, visit: &Visit<'_>) -> Binding {
        let _ = visit;
        Binding::Keep
    }

    /// Whether the packet may go on.
    #[inline]
    fn filter(&mut self, visit: &Visit<'_>) -> Decision {
        let _ = visit;
        Decision::ACCEPT
    }

    /// Where the source of a new connection is to be translated to.
    #[inline]
    fn source(&mut self, visit: &Visit<'_>) -> Binding {
        let _ = visit;
        Binding::Keep
    }
}

/// No rules: every packet is tracked and accepted.
impl Ruleset for () {
    #[inline]
    fn asks(&self, _: Stage) -> bool {
        false
    }
}

/// A place where rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// [`Ruleset::raw`].
    Raw,
    /// [`Ruleset::tracked`].
    Tracked,
    /// [`Ruleset::destination`].
    Destination,
    /// [`Ruleset::filter`].
    Filter,
    /// [`Ruleset::source`].
    Source,
}

/// A hook of Netfilter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Where packets come in.
    Prerouting,
    /// Before a local socket.
    Input,
    /// Between two interfaces.
    Forward,
    /// Where local packets begin.
    Output,
    /// Where packets leave.
    Postrouting,
}

/// A packet at a hook.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Where it is.
    pub hook: Hook,
    /// The packet as the caller gave it: its interfaces and namespace.
    pub packet: &'a Packet<'a>,
    /// Its network header and what is behind it, untranslated.
    pub datagram: &'a Datagram<'a>,
    /// Addresses and ids as they stand at this hook, translated as far as the packet has come;
    /// `None` where the packet has no layer 4 header that could be read.
    pub tuple: Option<Tuple>,
    /// Its mark, with what rules before this one made of it.
    pub mark: u32,
    /// `ct state`; [`Class::Untracked`] before tracking.
    pub class: Class,
    /// Its connection, if it has one.
    pub connection: Option<Connection>,
}

/// What rules see of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name.
    pub handle: Handle,
    /// Direction of the packet within it.
    pub direction: Direction,
    /// Tuple of the original direction.
    pub original: Tuple,
    /// Tuple of the reply direction.
    pub reply: Tuple,
    /// Its status bits, `ct status`.
    pub status: Status,
    /// Its zone.
    pub zone: Zone,
    /// Its mark, `ct mark`.
    pub mark: u32,
    /// Its labels, `ct label`.
    pub labels: Labels,
}

/// What becomes of a packet before tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Whether it is tracked.
    pub tracking: Tracking,
    /// The packet's new mark.
    pub mark: Option<u32>,
}

/// Whether a packet is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// In a zone.
    In(Zone),
    /// `notrack`.
    Untracked,
    /// It is dropped instead.
    Drop,
}

impl Raw {
    /// Tracked, in the default zone.
    pub const TRACK: Self = Self { tracking: Tracking::In(Zone::DEFAULT), mark: None };
}

/// What becomes of a packet at [`Ruleset::tracked`] and [`Ruleset::filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// The packet's new mark, `meta mark set`.
    pub mark: Option<u32>,
    /// Its connection's new mark, `ct mark set`.
    pub connection_mark: Option<u32>,
    /// Labels its connection gets beside those it has, `ct label set`.
    pub labels: Option<Labels>,
    /// The helper that reads along in its connection, by its number
    /// ([`Engine::add_helper`](crate::Engine::add_helper)), `ct helper set`. Counts with the first packet of a connection
    /// and where the helper is for its protocol.
    pub helper: Option<u16>,
}

impl Decision {
    /// It goes on as it is.
    pub const ACCEPT: Self = Self {
        verdict: Verdict::Accept,
        mark: None,
        connection_mark: None,
        labels: None,
        helper: None,
    };
    /// It is dropped.
    pub const DROP: Self = Self { verdict: Verdict::Drop, ..Self::ACCEPT };
}

/// What becomes of an address of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// No rule speaks of it: the address stays.
    Keep,
    /// It becomes one of these.
    To(Range),
    /// The packet is dropped: the interface it leaves by has no address, for one.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ruleset_without_rules_asks_for_nothing() {
        for stage in [Stage::Raw, Stage::Tracked, Stage::Destination, Stage::Filter, Stage::Source]
        {
            assert!(!().asks(stage));
        }
        assert!(!().uses_nat(0, Family::Ipv4));
    }
}
