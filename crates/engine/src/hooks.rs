//! The way of a packet through the hooks: rules, tracking, translation, confirmation.
//!
//! A packet of a known connection that no rule asks for goes from tracking to confirmation
//! without a stop.

use ctkeeper_flow::{Direction, Status, Zone};

use crate::engine::{Engine, Tracked};
use crate::entry::flag;
use crate::event::Changes;
use crate::nat::bind::{TRANSLATED, bound, translated};
use crate::nat::{End, packet_at};
use crate::outcome::{Class, Outcome, Reason, Verdict};
use crate::packet::rewrite::{can_translate, error_can_pass};
use crate::packet::{Datagram, Packet, Route};
use crate::rules::{Binding, Connection, Decision, Hook, Ruleset, Stage, Tracking, Visit};
use crate::time::Ticks;
use crate::tuple::protocol;

/// A packet on its way.
pub(crate) struct Walk<'a> {
    pub(crate) now: Ticks,
    pub(crate) packet: &'a Packet<'a>,
    pub(crate) datagram: &'a Datagram<'a>,
    /// The packet's mark as rules have left it.
    mark: u32,
}

impl Route {
    const fn first(self) -> Hook {
        match self {
            Self::Input | Self::Forward => Hook::Prerouting,
            Self::Output => Hook::Output,
        }
    }

    const fn middle(self) -> Hook {
        match self {
            Self::Input => Hook::Input,
            Self::Forward => Hook::Forward,
            Self::Output => Hook::Output,
        }
    }

    const fn last(self) -> Hook {
        match self {
            Self::Input => Hook::Input,
            Self::Forward | Self::Output => Hook::Postrouting,
        }
    }
}

impl<'a> Walk<'a> {
    pub(crate) const fn new(
        now: Ticks,
        packet: &'a Packet<'a>,
        datagram: &'a Datagram<'a>,
    ) -> Self {
        Self { now, packet, datagram, mark: packet.mark }
    }

    const fn visit(&self, hook: Hook, class: Class) -> Visit<'_> {
        Visit {
            hook,
            packet: self.packet,
            datagram: self.datagram,
            tuple: None,
            mark: self.mark,
            class,
            connection: None,
        }
    }

    /// Whether this is an ICMP error about its connection.
    fn is_error(&self, class: Class) -> bool {
        class == Class::Related
            && matches!(self.datagram.protocol, protocol::ICMP | protocol::ICMPV6)
    }
}

/// Why a packet goes no further.
struct Stopped(Reason);

impl Engine {
    /// Takes a packet with a checked header through the hooks.
    #[inline]
    pub(crate) fn walk<R: Ruleset + ?Sized>(
        &mut self,
        walk: &mut Walk<'_>,
        rules: &mut R,
    ) -> Outcome {
        let zone = if rules.asks(Stage::Raw) {
            match ask_before_tracking(walk, rules) {
                Tracking::In(zone) => zone,
                Tracking::Drop => return self.dropped_by_rule(Class::Untracked),
                Tracking::Untracked => {
                    let outcome = Outcome::loose(Class::Untracked, None);
                    return self.walk_without(walk, outcome, rules);
                }
            }
        } else {
            Zone::DEFAULT
        };
        match self.track(walk.now, walk.packet, walk.datagram, zone) {
            Ok(tracked) => self.walk_with(walk, tracked, rules),
            Err(outcome) if outcome.verdict == Verdict::Drop => outcome,
            Err(outcome) => self.walk_without(walk, outcome, rules),
        }
    }

    /// The rest of the way for a packet with a connection.
    #[inline]
    fn walk_with<R: Ruleset + ?Sized>(
        &mut self,
        walk: &mut Walk<'_>,
        tracked: Tracked,
        rules: &mut R,
    ) -> Outcome {
        let entry = self.table.arena.entry(tracked.line);
        let is_plain = entry.has(Status::CONFIRMED)
            && entry.flags & (flag::MASQUERADED | flag::HELPED) == 0
            && tracked.class != Class::Related
            && (walk.datagram.protocol != protocol::GRE || !entry.status().intersects(TRANSLATED));
        if is_plain && !rules.asks(Stage::Tracked) && !rules.asks(Stage::Filter) {
            return self.confirm(walk.now, tracked);
        }
        self.walk_through(walk, tracked, rules)
    }

    /// The same with a stop at each hook.
    #[inline(never)]
    fn walk_through<R: Ruleset + ?Sized>(
        &mut self,
        walk: &mut Walk<'_>,
        mut tracked: Tracked,
        rules: &mut R,
    ) -> Outcome {
        let passed = self.pass(walk, &mut tracked, rules);
        match passed.and_then(|()| self.read_along(walk, tracked)) {
            Ok(()) => self.confirm(walk.now, tracked),
            Err(Stopped(reason)) => self.stopped(tracked, reason),
        }
    }

    fn pass<R: Ruleset + ?Sized>(
        &mut self,
        walk: &mut Walk<'_>,
        tracked: &mut Tracked,
        rules: &mut R,
    ) -> Result<(), Stopped> {
        let route = walk.packet.route;
        if rules.asks(Stage::Tracked) {
            let visit = self.visit(walk, route.first(), *tracked, None);
            let decision = rules.tracked(&visit);
            self.follow_rule(walk, tracked, decision)?;
        }
        self.translate_end(walk, *tracked, End::Destination, rules)?;
        if rules.asks(Stage::Filter) {
            let visit = self.visit(walk, route.middle(), *tracked, Some(End::Destination));
            let decision = rules.filter(&visit);
            self.follow_rule(walk, tracked, decision)?;
        }
        self.translate_end(walk, *tracked, End::Source, rules)
    }

    /// The rest of the way for a packet without a connection: only the filters are asked.
    #[cold]
    fn walk_without<R: Ruleset + ?Sized>(
        &mut self,
        walk: &mut Walk<'_>,
        outcome: Outcome,
        rules: &mut R,
    ) -> Outcome {
        let route = walk.packet.route;
        for (stage, hook) in [(Stage::Tracked, route.first()), (Stage::Filter, route.middle())] {
            if !rules.asks(stage) {
                continue;
            }
            let tuple = walk.datagram.tuple().ok();
            let visit = Visit { tuple, ..walk.visit(hook, outcome.class) };
            let decision = match stage {
                Stage::Tracked => rules.tracked(&visit),
                _ => rules.filter(&visit),
            };
            walk.mark = decision.mark.unwrap_or(walk.mark);
            if decision.verdict == Verdict::Drop {
                return self.dropped_by_rule(outcome.class);
            }
        }
        outcome
    }

    /// A packet with a connection as rules see it, translated at an end or not at all yet.
    fn visit<'a>(
        &self,
        walk: &'a Walk<'_>,
        hook: Hook,
        tracked: Tracked,
        end: Option<End>,
    ) -> Visit<'a> {
        let (entry, line) = (self.table.arena.entry(tracked.line), tracked.line);
        let original = self.table.tuple(line, Direction::Original);
        let reply = self.table.tuple(line, Direction::Reply);
        let tuple = walk.datagram.tuple().ok();
        let tuple = match end {
            Some(end) if entry.status().intersects(TRANSLATED) => {
                let opposite = match tracked.direction {
                    Direction::Original => reply,
                    Direction::Reply => original,
                };
                tuple.map(|tuple| packet_at(&tuple, end, &opposite, walk.is_error(tracked.class)))
            }
            _ => tuple,
        };
        let connection = Connection {
            handle: self.table.handle(line),
            direction: tracked.direction,
            original,
            reply,
            status: entry.status(),
            zone: entry.zone(),
            mark: entry.mark,
            labels: self.table.extensions.labels(entry),
        };
        Visit { tuple, connection: Some(connection), ..walk.visit(hook, tracked.class) }
    }

    /// Does what a rule said about a packet with a connection.
    fn follow_rule(
        &mut self,
        walk: &mut Walk<'_>,
        tracked: &mut Tracked,
        decision: Decision,
    ) -> Result<(), Stopped> {
        walk.mark = decision.mark.unwrap_or(walk.mark);
        let entry = self.table.arena.entry_mut(tracked.line);
        if let Some(mark) = decision.connection_mark.filter(|mark| *mark != entry.mark) {
            entry.mark = mark;
            tracked.changes.add(Changes::MARK);
        }
        if let Some(labels) = decision.labels
            && self.table.extensions.add_labels(tracked.line, entry, labels)
        {
            tracked.changes.add(Changes::LABELS);
        }
        if let Some(number) = decision.helper {
            self.follow_helper(tracked, number);
        }
        match decision.verdict {
            Verdict::Accept => Ok(()),
            Verdict::Drop => Err(Stopped(Reason::Rule)),
        }
    }
}

/// Helpers on the way.
impl Engine {
    /// A rule gives a new connection to a helper (`nft_ct_helper_obj_eval`, `nft_ct.c`).
    #[cold]
    fn follow_helper(&mut self, tracked: &mut Tracked, number: u16) {
        if !self.table.arena.entry(tracked.line).has(Status::CONFIRMED)
            && self.table.give_to_helper(tracked.line, number, Status::HELPER)
        {
            tracked.changes.add(Changes::HELPER);
        }
    }

    fn read_along(&mut self, walk: &Walk<'_>, tracked: Tracked) -> Result<(), Stopped> {
        if self.table.arena.entry(tracked.line).flags & flag::HELPED == 0 {
            return Ok(());
        }
        match self.table.show_to_helper(walk.now, tracked, walk.datagram) {
            Verdict::Accept => Ok(()),
            Verdict::Drop => Err(Stopped(Reason::Helper)),
        }
    }
}

/// Asks before tracking.
#[cold]
fn ask_before_tracking<R: Ruleset + ?Sized>(walk: &mut Walk<'_>, rules: &mut R) -> Tracking {
    let tuple = walk.datagram.tuple().ok();
    let visit = Visit { tuple, ..walk.visit(walk.packet.route.first(), Class::Untracked) };
    let raw = rules.raw(&visit);
    walk.mark = raw.mark.unwrap_or(walk.mark);
    raw.tracking
}

/// Translation on the way (`nf_nat_inet_fn`, `nf_nat_ipv4_fn` and `nf_nat_ipv6_fn`, Linux 6.12).
impl Engine {
    /// What happens to one end of a connection at the hook where it is translated.
    fn translate_end<R: Ruleset + ?Sized>(
        &mut self,
        walk: &Walk<'_>,
        tracked: Tracked,
        end: End,
        rules: &mut R,
    ) -> Result<(), Stopped> {
        let entry = self.table.arena.entry(tracked.line);
        if tracked.class == Class::Related && walk.is_error(tracked.class) {
            return self.translate_error(walk, tracked, rules);
        }
        if !entry.has(Status::CONFIRMED) {
            return self.bind_end(walk, tracked, end, rules);
        }
        let is_masqueraded = entry.flags & flag::MASQUERADED != 0;
        if end == End::Source && is_masqueraded {
            self.leaves_as_before(walk, tracked)?;
        }
        if walk.datagram.protocol == protocol::GRE
            && rules.uses_nat(walk.packet.namespace, walk.datagram.family)
        {
            return self.known_tunnel(walk, tracked, end);
        }
        Ok(())
    }

    /// GRE is the one protocol where a packet that has been tracked may be impossible to translate,
    /// and so be dropped on its way (`gre_manip_pkt`, `nf_nat_proto.c`, Linux 6.12).
    #[cold]
    fn known_tunnel(&self, walk: &Walk<'_>, tracked: Tracked, end: End) -> Result<(), Stopped> {
        let changing = match tracked.direction {
            Direction::Original => end,
            Direction::Reply => end.other(),
        };
        let entry = self.table.arena.entry(tracked.line);
        if entry.has(translated(changing)) && !can_translate(walk.datagram, end) {
            return Err(Stopped(Reason::Untranslatable));
        }
        Ok(())
    }

    /// Gives an end of a new connection its binding, where the namespace has chains for that.
    fn bind_end<R: Ruleset + ?Sized>(
        &mut self,
        walk: &Walk<'_>,
        tracked: Tracked,
        end: End,
        rules: &mut R,
    ) -> Result<(), Stopped> {
        let (line, route) = (tracked.line, walk.packet.route);
        if self.table.arena.entry(line).has(bound(end))
            || !rules.uses_nat(walk.packet.namespace, walk.datagram.family)
        {
            return Ok(());
        }
        let binding = match end {
            End::Destination if rules.asks(Stage::Destination) => {
                rules.destination(&self.visit(walk, route.first(), tracked, None))
            }
            End::Source if rules.asks(Stage::Source) => {
                rules.source(&self.visit(walk, route.last(), tracked, Some(End::Destination)))
            }
            _ => Binding::Keep,
        };
        match binding {
            Binding::To(range) if range.suits(walk.datagram.family) => {
                self.table.bind(walk.now, line, end, &range, self.profile);
            }
            Binding::Keep | Binding::To(_) => {
                self.table.bind_to_itself(walk.now, line, end, self.profile);
            }
            Binding::Drop => return Err(Stopped(Reason::Rule)),
        }
        let changes = self.table.arena.entry(line).has(translated(end));
        if changes && !can_translate(walk.datagram, end) {
            return Err(Stopped(Reason::Untranslatable));
        }
        Ok(())
    }

    /// ICMP errors are held to more where packets are translated
    /// (`nf_nat_icmp_reply_translation`).
    #[cold]
    fn translate_error<R: Ruleset + ?Sized>(
        &mut self,
        walk: &Walk<'_>,
        tracked: Tracked,
        rules: &mut R,
    ) -> Result<(), Stopped> {
        if !rules.uses_nat(walk.packet.namespace, walk.datagram.family) {
            return Ok(());
        }
        let status = self.table.arena.entry(tracked.line).status();
        let done = Status(Status::SRC_NAT_DONE.0 | Status::DST_NAT_DONE.0);
        let is_redirect = matches!(
            (walk.datagram.protocol, walk.datagram.payload.first()),
            (protocol::ICMP, Some(5)) | (protocol::ICMPV6, Some(137))
        );
        let may_redirect = status.contains(done) && !status.intersects(TRANSLATED);
        let can_pass = error_can_pass(walk.datagram, walk.packet.checksum_verified);
        if can_pass && (!is_redirect || may_redirect) {
            Ok(())
        } else {
            Err(Stopped(Reason::Untranslatable))
        }
    }

    /// A masqueraded connection whose packets leave by another interface ends
    /// (`nf_nat_oif_changed`).
    #[cold]
    fn leaves_as_before(&mut self, walk: &Walk<'_>, tracked: Tracked) -> Result<(), Stopped> {
        let entry = self.table.arena.entry(tracked.line);
        let by = self.table.extensions.get(entry).map_or(0, |extension| extension.masquerade);
        let is_asked = walk.packet.route != Route::Input
            && tracked.direction == Direction::Original
            && by != 0;
        if !is_asked || by == walk.packet.output {
            return Ok(());
        }
        self.count_packet(tracked, walk.datagram);
        self.table.unlist(walk.now, tracked.line);
        Err(Stopped(Reason::Dying))
    }
}

/// Ends of the way.
impl Engine {
    #[cold]
    fn dropped_by_rule(&mut self, class: Class) -> Outcome {
        self.met(Reason::Rule);
        Outcome::dropped(class, Reason::Rule)
    }

    /// A packet that is dropped on its way; a connection that is not in the table goes with it.
    #[cold]
    fn stopped(&mut self, tracked: Tracked, reason: Reason) -> Outcome {
        self.met(reason);
        let is_listed = self.table.arena.entry(tracked.line).flags & flag::LISTED != 0;
        if is_listed {
            self.table.defer(tracked.line, tracked.changes);
        } else {
            self.table.release(tracked.line);
        }
        let handle = self.table.handle(tracked.line);
        Outcome {
            verdict: Verdict::Drop,
            class: tracked.class,
            direction: tracked.direction,
            reason: Some(reason),
            connection: is_listed.then_some(handle),
        }
    }
}
