//! The ruleset that comes with the engine: an ordered list a stage.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ctkeeper_flow::{Family, Labels, Zone};
use serde::{Deserialize, Serialize};

use crate::nat::Range;
use crate::outcome::Verdict;
use crate::rules::{Binding, Decision, Hook, Match, Raw, Ruleset, Stage, Tracking, Visit};

/// Ordered rules for every stage: what a small ruleset of nftables can say.
///
/// At each stage the rules are asked in their order until one settles the matter. Packets that no
/// rule speaks of are tracked in the default zone, accepted, and not translated.
///
/// ```
/// use std::net::IpAddr;
///
/// use ctkeeper_engine::Class;
/// use ctkeeper_engine::rules::{FilterAction, Match, Rules, SourceAction};
///
/// let outside: IpAddr = "203.0.113.1".parse()?;
/// let rules = Rules::default()
///     .with_address(2, outside)
///     .with_filter(
///         Match::all().states([Class::Established, Class::Related]),
///         FilterAction::Accept,
///     )
///     .with_filter(Match::all().input(2), FilterAction::Drop)
///     .with_source(
///         Match::all().output(2).source("10.0.0.0/8".parse()?),
///         SourceAction::masquerade(),
///     );
/// let text = serde_json::to_string(&rules)?;
/// assert_eq!(serde_json::from_str::<Rules>(&text)?, rules);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Asked before tracking.
    pub raw: Vec<Rule<RawAction>>,
    /// Asked behind tracking.
    pub tracked: Vec<Rule<FilterAction>>,
    /// Asked about the destination of new connections: at prerouting, where no hook is given.
    pub destination: Vec<Rule<DestinationAction>>,
    /// Asked at input, forward and output.
    pub filter: Vec<Rule<FilterAction>>,
    /// Asked about the source of new connections: at postrouting, where no hook is given.
    pub source: Vec<Rule<SourceAction>>,
    /// Namespaces whose chains translate addresses though they have no rule: connections get
    /// bindings that change nothing but, on a collision, a source port.
    pub nat: Vec<u16>,
    /// Addresses of interfaces, which masquerading and redirection take: the first of the
    /// packet's family.
    pub addresses: BTreeMap<u32, Vec<IpAddr>>,
}

/// One rule: what it is about and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule<Action> {
    /// The packets it is about.
    #[serde(default)]
    pub when: Match,
    /// What becomes of them.
    pub then: Action,
}

/// What a rule before tracking does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawAction {
    /// No further rule of the stage is asked.
    Accept,
    /// The packet is dropped.
    Drop,
    /// The packet is not tracked, `notrack`.
    Untracked,
    /// The packet is tracked in a zone; further rules are asked.
    Zone(Zone),
    /// The packet gets a mark; further rules are asked.
    Mark(u32),
}

/// What a rule behind tracking does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterAction {
    /// No further rule of the stage is asked.
    Accept,
    /// The packet is dropped.
    Drop,
    /// The packet gets a mark; further rules are asked.
    Mark(u32),
    /// The connection gets a mark; further rules are asked.
    ConnectionMark(u32),
    /// The connection gets the packet's mark; further rules are asked.
    SaveMark,
    /// The packet gets the connection's mark; further rules are asked.
    RestoreMark,
    /// The connection gets a label, 0 to 127; further rules are asked.
    Label(u8),
    /// A helper reads along in the connection, by its number
    /// ([`Engine::add_helper`](crate::Engine::add_helper)); further rules are asked.
    Helper(u16),
}

/// What becomes of the destination of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationAction {
    /// No further rule of the stage is asked; the destination stays.
    Accept,
    /// One of a range, `dnat`.
    To(Range),
    /// This host, `redirect`: the address of the interface it came in by, or the loopback
    /// address for packets of its own. Addresses of the range are not looked at.
    Redirect(Range),
}

/// What becomes of the source of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceAction {
    /// No further rule of the stage is asked; the source stays.
    Accept,
    /// One of a range, `snat`.
    To(Range),
    /// The address of the interface it goes out by, `masquerade`. Addresses of the range are not
    /// looked at.
    Masquerade(Range),
}

impl SourceAction {
    /// `masquerade` without more.
    pub const fn masquerade() -> Self {
        Self::Masquerade(Range::KEEP)
    }
}

impl DestinationAction {
    /// `redirect to :port`.
    pub const fn redirect(port: u16) -> Self {
        Self::Redirect(Range::KEEP.ports(port, port))
    }
}

/// Building.
impl Rules {
    /// Adds a rule before tracking.
    #[must_use]
    pub fn with_raw(mut self, when: Match, then: RawAction) -> Self {
        self.raw.push(Rule { when, then });
        self
    }

    /// Adds a rule behind tracking.
    #[must_use]
    pub fn with_tracked(mut self, when: Match, then: FilterAction) -> Self {
        self.tracked.push(Rule { when, then });
        self
    }

    /// Adds a rule about destinations.
    #[must_use]
    pub fn with_destination(mut self, when: Match, then: DestinationAction) -> Self {
        self.destination.push(Rule { when, then });
        self
    }

    /// Adds a rule at input, forward or output.
    #[must_use]
    pub fn with_filter(mut self, when: Match, then: FilterAction) -> Self {
        self.filter.push(Rule { when, then });
        self
    }

    /// Adds a rule about sources.
    #[must_use]
    pub fn with_source(mut self, when: Match, then: SourceAction) -> Self {
        self.source.push(Rule { when, then });
        self
    }

    /// A namespace gets chains that translate addresses, without a rule.
    #[must_use]
    pub fn with_nat(mut self, namespace: u16) -> Self {
        self.nat.push(namespace);
        self
    }

    /// An interface gets an address.
    #[must_use]
    pub fn with_address(mut self, interface: u32, address: IpAddr) -> Self {
        self.addresses.entry(interface).or_default().push(address);
        self
    }
}

impl Ruleset for Rules {
    fn asks(&self, stage: Stage) -> bool {
        match stage {
            Stage::Raw => !self.raw.is_empty(),
            Stage::Tracked => !self.tracked.is_empty(),
            Stage::Destination => !self.destination.is_empty(),
            Stage::Filter => !self.filter.is_empty(),
            Stage::Source => !self.source.is_empty(),
        }
    }

    fn uses_nat(&self, namespace: u16, family: Family) -> bool {
        let concerns = |when: &Match| when.concerns(namespace, family);
        self.nat.contains(&namespace)
            || self.source.iter().any(|rule| concerns(&rule.when))
            || self.destination.iter().any(|rule| concerns(&rule.when))
    }

    fn raw(&mut self, visit: &Visit<'_>) -> Raw {
        let mut visit = *visit;
        let mut outcome = Raw::TRACK;
        for rule in &self.raw {
            if !rule.when.fits(&visit) {
                continue;
            }
            match rule.then {
                RawAction::Accept => break,
                RawAction::Drop => return Raw { tracking: Tracking::Drop, ..outcome },
                RawAction::Untracked => return Raw { tracking: Tracking::Untracked, ..outcome },
                RawAction::Zone(zone) => outcome.tracking = Tracking::In(zone),
                RawAction::Mark(mark) => {
                    visit.mark = mark;
                    outcome.mark = Some(mark);
                }
            }
        }
        outcome
    }

    fn tracked(&mut self, visit: &Visit<'_>) -> Decision {
        decide(&self.tracked, visit)
    }

    fn filter(&mut self, visit: &Visit<'_>) -> Decision {
        decide(&self.filter, visit)
    }

    fn destination(&mut self, visit: &Visit<'_>) -> Binding {
        match first(&self.destination, Hook::Prerouting, visit) {
            None | Some(DestinationAction::Accept) => Binding::Keep,
            Some(DestinationAction::To(range)) => Binding::To(range),
            Some(DestinationAction::Redirect(range)) => {
                let address = match (visit.hook, visit.datagram.family) {
                    (Hook::Output, Family::Ipv4) => Some(Ipv4Addr::LOCALHOST.into()),
                    (Hook::Output, Family::Ipv6) => Some(Ipv6Addr::LOCALHOST.into()),
                    (_, family) => self.address_of(visit.packet.input, family),
                };
                address.map_or(Binding::Drop, |address| Binding::To(range.at(address)))
            }
        }
    }

    fn source(&mut self, visit: &Visit<'_>) -> Binding {
        match first(&self.source, Hook::Postrouting, visit) {
            None | Some(SourceAction::Accept) => Binding::Keep,
            Some(SourceAction::To(range)) => Binding::To(range),
            Some(SourceAction::Masquerade(range)) => self.masquerade(range, visit),
        }
    }
}

impl Rules {
    /// As `nf_nat_masquerade_ipv4` and `_ipv6` (`nf_nat_masquerade.c`, Linux 6.12): a source that
    /// is no address yet stays.
    fn masquerade(&self, range: Range, visit: &Visit<'_>) -> Binding {
        let (interface, family) = (visit.packet.output, visit.datagram.family);
        if family == Family::Ipv4 && visit.datagram.source == 0 {
            return Binding::Keep;
        }
        let Some(address) = self.address_of(interface, family) else { return Binding::Drop };
        Binding::To(Range { masquerade: Some(interface), ..range.at(address) })
    }

    fn address_of(&self, interface: u32, family: Family) -> Option<IpAddr> {
        let addresses = self.addresses.get(&interface)?.iter();
        addresses.copied().find(|address| address.is_ipv4() == (family == Family::Ipv4))
    }
}

/// What the first rule that fits does; rules that name no hook stand at `home`.
fn first<Action: Copy>(rules: &[Rule<Action>], home: Hook, visit: &Visit<'_>) -> Option<Action> {
    let is_here = |rule: &Rule<Action>| rule.when.hook.unwrap_or(home) == visit.hook;
    rules.iter().find(|rule| is_here(rule) && rule.when.fits(visit)).map(|rule| rule.then)
}

fn decide(rules: &[Rule<FilterAction>], visit: &Visit<'_>) -> Decision {
    let mut visit = *visit;
    let mut decision = Decision::ACCEPT;
    for rule in rules {
        if !rule.when.fits(&visit) {
            continue;
        }
        match rule.then {
            FilterAction::Accept => break,
            FilterAction::Drop => {
                decision.verdict = Verdict::Drop;
                break;
            }
            other => alter(other, &mut visit, &mut decision),
        }
    }
    decision
}

/// Does what does not settle the matter; the rules behind see it.
fn alter(action: FilterAction, visit: &mut Visit<'_>, decision: &mut Decision) {
    match action {
        FilterAction::Accept | FilterAction::Drop => {}
        FilterAction::Mark(mark) => mark_packet(mark, visit, decision),
        FilterAction::ConnectionMark(mark) => mark_connection(mark, visit, decision),
        FilterAction::SaveMark => mark_connection(visit.mark, visit, decision),
        FilterAction::Helper(number) => decision.helper = Some(number),
        FilterAction::RestoreMark => {
            if let Some(connection) = visit.connection {
                mark_packet(connection.mark, visit, decision);
            }
        }
        FilterAction::Label(label) => {
            let before = decision.labels.unwrap_or_default();
            decision.labels = Some(Labels::from_bits(before.bits().chain([label])));
        }
    }
}

fn mark_packet(mark: u32, visit: &mut Visit<'_>, decision: &mut Decision) {
    visit.mark = mark;
    decision.mark = Some(mark);
}

fn mark_connection(mark: u32, visit: &mut Visit<'_>, decision: &mut Decision) {
    if let Some(connection) = &mut visit.connection {
        connection.mark = mark;
        decision.connection_mark = Some(mark);
    }
}

#[cfg(test)]
mod tests;
