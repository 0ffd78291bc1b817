//! The engine: packets in, outcomes out.

use ctkeeper_flow::{Direction, Flow, Statistic, Statistics, Status, Zone};

use std::collections::TryReserveError;

use crate::collector::Collector;
use crate::coverage::Coverage;
use crate::entry::{Entry, flag};
use crate::event::{Changes, Event};
use crate::hooks::Walk;
use crate::nat::translation::Parting;
use crate::outcome::{Class, Handle, Outcome, Reason, Verdict};
use crate::packet::{Datagram, Packet, Route, TcpSegment};
use crate::rules::Ruleset;
use crate::settings::{Config, Profile, Settings};
use crate::table::{Entered, Place, Table};
use crate::time::{TICKS_PER_SECOND, Ticks, Time};
use crate::track::error::{self, Kind};
use crate::track::{Context, Judgement, dispatch, tcp};
use crate::tuple::{Tuple, protocol};

/// A connection tracker with a table of its own.
pub struct Engine {
    pub(crate) table: Table,
    pub(crate) profile: Profile,
    pub(crate) collector: Collector,
    pub(crate) coverage: Option<Box<Coverage>>,
    /// Translations of connections that ended with the packets of the latest call.
    pub(crate) partings: Vec<Parting>,
    pub(crate) config: Config,
}

/// Places that the collector may look at while one packet waits: the fast mode's sweep has a
/// bound that no packet feels, the kernel's walk is followed as far as it went meanwhile.
const FAST_BUDGET: usize = 1024;
const EXACT_BUDGET: usize = 1 << 19;

/// Nanoseconds between two calls from which on they count as apart: a quarter of the ticks' range.
const LONGEST_GAP: u64 = (1 << 30) * (1_000_000_000 / TICKS_PER_SECOND as u64);

/// Memory for an engine could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot set aside memory for {entries} connections: {cause}; take a lower capacity")]
pub struct OutOfMemory {
    /// How many connections it was for.
    pub entries: u32,
    /// What the allocator said.
    #[source]
    pub cause: TryReserveError,
}

/// Building and looking.
impl Engine {
    /// An empty engine without namespaces. Memory for [`Config::entries`] is set aside, not
    /// touched.
    ///
    /// # Errors
    /// [`OutOfMemory`] when that much address space cannot be had.
    pub fn new(config: Config) -> Result<Self, OutOfMemory> {
        let table = Table::new(&config)
            .map_err(|cause| OutOfMemory { entries: config.entries(), cause })?;
        Ok(Self {
            table,
            profile: config.profile,
            collector: Collector::new(&config),
            coverage: config.coverage.then(Box::default),
            partings: Vec::new(),
            config,
        })
    }

    /// Adds a namespace and gives the number that [`Packet::namespace`] names it by, from 0 on;
    /// `None` when there are 65,536 already.
    pub fn add_namespace(&mut self, settings: Settings) -> Option<u16> {
        self.table.add_namespace(settings)
    }

    /// What the engine was built with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The sysctls of a namespace.
    pub fn settings(&self, namespace: u16) -> Option<&Settings> {
        Some(&self.table.namespaces.get(usize::from(namespace))?.settings)
    }

    /// Changes the sysctls of a namespace. Connections keep the deadlines they have until their
    /// next packet, as in the kernel.
    pub fn settings_mut(&mut self, namespace: u16) -> Option<&mut Settings> {
        Some(&mut self.table.namespaces.get_mut(usize::from(namespace))?.settings)
    }

    /// `nf_conntrack_count` of a namespace: with expired connections that are not collected yet.
    pub fn count(&self, namespace: u16) -> u32 {
        self.table.namespaces.get(usize::from(namespace)).map_or(0, |n| n.count)
    }

    /// The statistics of a namespace, as `conntrack -S` shows them.
    pub fn statistics(&self, namespace: u16) -> Statistics {
        let namespace = self.table.namespaces.get(usize::from(namespace));
        namespace.map(crate::namespace::Namespace::statistics).unwrap_or_default()
    }

    /// A connection as it stands now; `None` when it has ended.
    pub fn connection(&self, now: Time, handle: Handle) -> Option<Flow> {
        let line = self.table.resolve(handle)?;
        Some(self.table.flow(Ticks::at(now), line))
    }

    /// Every connection in the table that has not expired, with its namespace.
    ///
    /// In exact mode in the order of the kernel's dumps, chain by chain.
    pub fn connections(&self, now: Time) -> impl Iterator<Item = (u16, Flow)> {
        let now = Ticks::at(now);
        self.table.listed().filter_map(move |line| {
            let entry = self.table.arena.entry(line);
            (!entry.is_expired(now)).then(|| (entry.namespace, self.table.flow(now, line)))
        })
    }

    /// The events since the last call, oldest first; empty unless [`Config::events`] is on.
    pub fn events(&mut self) -> Vec<Event> {
        self.table.take_events()
    }

    /// For going through what a kernel has done: where in its range the search for a port, or an
    /// ICMP id, begins when a connection is translated, in place of a random number; until it is
    /// told otherwise, or `None`.
    pub const fn foretell(&mut self, offset: Option<u16>) {
        self.table.foretold = offset;
    }

    /// Which cells and reasons were met; `None` unless [`Config::coverage`] is on.
    pub fn coverage(&self) -> Option<&Coverage> {
        self.coverage.as_deref()
    }
}

/// Packets.
impl Engine {
    /// Takes one packet through its namespace.
    pub fn packet<R: Ruleset + ?Sized>(
        &mut self,
        now: Time,
        packet: &Packet<'_>,
        rules: &mut R,
    ) -> Outcome {
        self.partings.clear();
        if self.has_short_way(rules) {
            let glance = self.glance(packet);
            if let Some(outcome) = self.short_way(now, packet, glance.as_ref()) {
                return outcome;
            }
        }
        self.long_way(now, packet, rules)
    }

    /// Takes any packet through its namespace ([`Self::short_way`] takes some).
    #[inline(never)]
    pub(crate) fn long_way<R: Ruleset + ?Sized>(
        &mut self,
        now: Time,
        packet: &Packet<'_>,
        rules: &mut R,
    ) -> Outcome {
        if usize::from(packet.namespace) >= self.table.namespaces.len() {
            return Outcome::loose(Class::Untracked, None);
        }
        if self.collector.is_due(now) {
            self.collect_a_little(now);
        }
        self.table.clock = now;
        let now = Ticks::at(now);
        let datagram = match Datagram::parse(packet.bytes) {
            Ok(datagram) => datagram,
            Err(reason) => return self.invalid(packet.namespace, reason),
        };
        self.walk(&mut Walk::new(now, packet, &datagram), rules)
    }
}

/// Collecting.
impl Engine {
    /// Lets the collector do what is due by `now`, looking at no more than `budget` places;
    /// whether that was all. Packets do so a little at a time: this is for when none come.
    pub fn collect(&mut self, now: Time, budget: usize) -> bool {
        if now.0.saturating_sub(self.table.clock.0) > LONGEST_GAP {
            self.leap(now);
        }
        self.table.clock = now;
        self.collector.run(now, &mut self.table, budget)
    }

    /// Lets the connections expire that a leap of the caller's clock would make young again: ticks
    /// wrap after 198 days, and tell past from future for half of that.
    #[cold]
    fn leap(&mut self, now: Time) {
        // No deadline is further ahead than twice this.
        for _ in 0..3 {
            let next = self.table.clock.0.saturating_add(LONGEST_GAP);
            if next >= now.0 {
                return;
            }
            self.table.clock = Time(next);
            self.end_expired(Time(next));
        }
    }

    #[cold]
    fn collect_a_little(&mut self, now: Time) {
        let budget = match self.collector {
            Collector::Fast(_) => FAST_BUDGET,
            Collector::Exact(_) => EXACT_BUDGET,
        };
        self.collect(now, budget);
    }

    /// Ends every expired connection, as whoever lists the kernel's table does in passing, in
    /// whatever namespace (`ctnetlink_dump_table`, Linux 6.12); how many.
    pub fn end_expired(&mut self, now: Time) -> usize {
        let now = Ticks::at(now);
        let mut expired = Vec::new();
        self.table.arena.scan(0, usize::MAX, |line, entry| {
            if entry.flags & flag::LISTED != 0 && entry.is_expired(now) {
                expired.push(line);
            }
        });
        for line in &expired {
            self.table.end(now, *line);
        }
        expired.len()
    }

    /// How long the connection had been expired that the collector ended latest of all.
    pub const fn longest_overdue(&self) -> Ticks {
        Ticks(self.table.latest)
    }
}

/// A packet that belongs to a connection, on its way through the hooks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracked {
    pub(crate) line: u32,
    pub(crate) direction: Direction,
    pub(crate) class: Class,
    pub(crate) changes: Changes,
}

/// Tracking, as `nf_conntrack_in` (`nf_conntrack_core.c`, Linux 6.12).
impl Engine {
    /// Finds or makes the connection of a packet and lets its tracker judge.
    #[inline]
    pub(crate) fn track(
        &mut self,
        now: Ticks,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
        zone: Zone,
    ) -> Result<Tracked, Outcome> {
        let place = Place { namespace: packet.namespace, zone };
        if matches!(datagram.protocol, protocol::ICMP | protocol::ICMPV6)
            && let Some(result) = self.icmp_error(now, packet, datagram, place)
        {
            return result;
        }
        let mut tuple = match datagram.tuple() {
            Ok(tuple) => tuple,
            Err(reason) => return Err(self.invalid(packet.namespace, reason)),
        };
        if tuple.protocol == protocol::GRE {
            self.table.namespaces[usize::from(packet.namespace)].calls.complete(&mut tuple);
        }
        loop {
            let (line, direction, class) = match self.table.lookup(now, place, &tuple) {
                Some((line, direction)) => {
                    (line, direction, class(self.table.arena.entry(line), direction))
                }
                None => self.begin(now, place, &tuple)?,
            };
            let mut tracked = Tracked { line, direction, class, changes: Changes::default() };
            let judgement = self.judge(now, packet, datagram, &mut tracked);
            match self.follow(now, datagram, &mut tracked, judgement) {
                Some(Ok(())) => return Ok(tracked),
                Some(Err(outcome)) => return Err(outcome),
                None => {}
            }
        }
    }

    /// A new connection for a packet that has none (`init_conntrack`).
    fn begin(
        &mut self,
        now: Ticks,
        place: Place,
        tuple: &Tuple,
    ) -> Result<(u32, Direction, Class), Outcome> {
        if tuple.inverted().is_none() {
            return Err(self.invalid(place.namespace, Reason::NotInvertible));
        }
        match self.table.allocate(now, place, tuple) {
            Ok(line) => {
                self.equip(line);
                if self.table.related.is_awaiting(place.namespace) {
                    self.table.meet_expectation(now, line, place, tuple);
                }
                let class = class(self.table.arena.entry(line), Direction::Original);
                Ok((line, Direction::Original, class))
            }
            Err(reason) => Err(self.no_room(place.namespace, reason)),
        }
    }

    /// What the namespace wants every connection to have (`nf_ct_acct_ext_add`).
    #[inline]
    fn equip(&mut self, line: u32) {
        let entry = self.table.arena.entry_mut(line);
        let settings = &self.table.namespaces[usize::from(entry.namespace)].settings;
        if settings.accounting {
            self.table.extensions.start_counting(line, entry);
        }
    }

    #[cold]
    fn no_room(&mut self, namespace: u16, reason: Reason) -> Outcome {
        if reason == Reason::TableFull {
            self.collector.note_full();
        }
        self.namespace(namespace, Statistic::Drop);
        self.met(reason);
        Outcome::dropped(Class::Invalid, reason)
    }

    /// Asks the tracker.
    #[inline]
    fn judge(
        &mut self,
        now: Ticks,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
        tracked: &mut Tracked,
    ) -> Judgement {
        let settings = &self.table.namespaces[usize::from(packet.namespace)].settings;
        let mut context = Context {
            now,
            settings,
            profile: self.profile,
            direction: tracked.direction,
            verify: verifies(settings, packet),
            changes: &mut tracked.changes,
            coverage: self.coverage.as_deref_mut(),
        };
        if datagram.protocol != protocol::TCP {
            let entry = self.table.arena.entry_mut(tracked.line);
            return dispatch::packet(&mut context, entry, datagram);
        }
        let segment = match TcpSegment::parse(datagram.payload) {
            Ok(segment) => segment,
            Err(reason) => return Judgement::Invalid(reason),
        };
        let Some((entry, window)) = self.table.arena.tcp_mut(tracked.line) else {
            return Judgement::Invalid(Reason::TcpHeader);
        };
        let extensions = &self.table.extensions;
        let shift = extensions.shift(entry, tracked.direction, segment.acknowledgement);
        tcp::packet(&mut context, entry, window, datagram, segment, shift)
    }

    /// Does what the tracker said; `None` to look the packet up again.
    #[inline]
    fn follow(
        &mut self,
        now: Ticks,
        datagram: &Datagram<'_>,
        tracked: &mut Tracked,
        judgement: Judgement,
    ) -> Option<Result<(), Outcome>> {
        match judgement {
            Judgement::Refresh(timeout) => {
                self.refresh(now, tracked.line, timeout);
                self.count_packet(*tracked, datagram);
            }
            Judgement::Ignore => {}
            Judgement::End => {
                self.count_packet(*tracked, datagram);
                self.table.unlist(now, tracked.line);
            }
            Judgement::Repeat => {
                self.table.end(now, tracked.line);
                return None;
            }
            Judgement::Invalid(reason) => return Some(Err(self.refuse(*tracked, reason))),
        }
        self.replied(tracked);
        Some(Ok(()))
    }

    /// The other side has spoken; only after the tracker, which judges its first packet without
    /// that knowledge.
    #[inline]
    fn replied(&mut self, tracked: &mut Tracked) {
        if tracked.direction == Direction::Reply {
            let entry = self.table.arena.entry_mut(tracked.line);
            if !entry.has(Status::SEEN_REPLY) {
                entry.set(Status::SEEN_REPLY);
                tracked.changes.add(Changes::REPLY);
            }
        }
    }

    /// `nf_ct_refresh`: a confirmed connection's deadline is a moment, another's a span.
    #[inline]
    fn refresh(&mut self, now: Ticks, line: u32, timeout: Ticks) {
        let entry = self.table.arena.entry_mut(line);
        if entry.has(Status::FIXED_TIMEOUT) {
            return;
        }
        entry.deadline = if entry.has(Status::CONFIRMED) { (timeout + now).0 } else { timeout.0 };
    }

    #[inline]
    pub(crate) fn count_packet(&mut self, tracked: Tracked, datagram: &Datagram<'_>) {
        let entry = self.table.arena.entry(tracked.line);
        self.table.extensions.count(entry, tracked.direction, datagram.length);
    }

    #[cold]
    fn refuse(&mut self, tracked: Tracked, reason: Reason) -> Outcome {
        let entry = self.table.arena.entry(tracked.line);
        let namespace = entry.namespace;
        if entry.has(Status::CONFIRMED) {
            // Of several SCTP chunks the first may have changed something.
            self.table.defer(tracked.line, tracked.changes);
        } else {
            self.table.release(tracked.line);
        }
        self.invalid(namespace, reason)
    }

    #[cold]
    fn invalid(&mut self, namespace: u16, reason: Reason) -> Outcome {
        self.namespace(namespace, Statistic::Invalid);
        self.met(reason);
        Outcome::loose(Class::Invalid, Some(reason))
    }

    pub(crate) fn namespace(&mut self, namespace: u16, statistic: Statistic) {
        self.table.namespaces[usize::from(namespace)].increment(statistic);
    }

    pub(crate) fn met(&mut self, reason: Reason) {
        if let Some(coverage) = &mut self.coverage {
            coverage.reason(reason);
        }
    }
}

/// ICMP errors about connections.
impl Engine {
    /// What to do with an ICMP message before any lookup; `None` for one that is tracked as other
    /// packets are (`nf_conntrack_handle_icmp`).
    fn icmp_error(
        &mut self,
        now: Ticks,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
        place: Place,
    ) -> Option<Result<Tracked, Outcome>> {
        let namespace = &self.table.namespaces[usize::from(packet.namespace)];
        let verify = verifies(&namespace.settings, packet);
        Some(match error::kind(datagram, self.profile, verify, &namespace.calls) {
            Kind::Message => return None,
            Kind::Untracked => Err(Outcome::loose(Class::Untracked, None)),
            Kind::Invalid(reason) => Err(self.error(packet.namespace, reason)),
            Kind::About(inner) => match self.table.lookup(now, place, &inner) {
                None => Err(self.error(packet.namespace, Reason::IcmpInnerUnknown)),
                Some((line, direction)) => self.related(packet, datagram, line, direction),
            },
        })
    }

    /// An error about a connection goes to that connection's sender, or it is invalid
    /// (`nf_conntrack_inet_error`, `nf_conntrack_proto_icmp.c`, Linux 6.12).
    fn related(
        &mut self,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
        line: u32,
        direction: Direction,
    ) -> Result<Tracked, Outcome> {
        if !error::outer_destination_matches(datagram, &self.table.tuple(line, direction)) {
            return Err(self.error(packet.namespace, Reason::IcmpOuterDestination));
        }
        let changes = Changes::default();
        Ok(Tracked { line, direction, class: Class::Related, changes })
    }

    #[cold]
    fn error(&mut self, namespace: u16, reason: Reason) -> Outcome {
        self.namespace(namespace, Statistic::Error);
        self.met(reason);
        Outcome::loose(Class::Invalid, Some(reason))
    }
}

/// Confirming, as `nf_conntrack_confirm` at the last hook.
impl Engine {
    #[inline]
    pub(crate) fn confirm(&mut self, now: Ticks, mut tracked: Tracked) -> Outcome {
        let entry = self.table.arena.entry(tracked.line);
        if entry.has(Status::DYING) {
            return self.ended(tracked);
        }
        if !entry.has(Status::CONFIRMED) && tracked.direction == Direction::Original {
            let is_expected = entry.has(Status::EXPECTED);
            match self.table.list(now, tracked.line) {
                Entered::Yes => {
                    self.begin_at(tracked.line);
                    let event = if is_expected { Changes::RELATED } else { Changes::NEW };
                    tracked.changes.add(event);
                }
                // Of its own changes it tells, but not that it is new.
                Entered::ByReply => {}
                Entered::Another(winner) => {
                    // What the other one had to tell went with it.
                    tracked.changes = Changes::default();
                    tracked.line = winner;
                }
                Entered::No(reason) => {
                    self.met(reason);
                    return Outcome::dropped(tracked.class, reason);
                }
            }
        }
        self.table.tell(now, tracked.line, tracked.changes);
        Outcome {
            verdict: Verdict::Accept,
            class: tracked.class,
            direction: tracked.direction,
            reason: None,
            connection: Some(self.table.handle(tracked.line)),
        }
    }

    /// Keeps when a connection entered the table, where its namespace wants that
    /// (`__nf_conntrack_insert_prepare`).
    #[inline]
    fn begin_at(&mut self, line: u32) {
        let entry = self.table.arena.entry_mut(line);
        if self.table.namespaces[usize::from(entry.namespace)].settings.timestamps {
            self.table.extensions.begin_at(line, entry, self.table.clock);
        }
    }

    /// The packet was the last of its connection and went through the hooks with it.
    #[cold]
    fn ended(&mut self, tracked: Tracked) -> Outcome {
        let connection = Some(self.table.handle(tracked.line));
        self.part(tracked.line);
        self.table.release(tracked.line);
        Outcome {
            verdict: Verdict::Accept,
            class: tracked.class,
            direction: tracked.direction,
            reason: None,
            connection,
        }
    }
}

/// `ct state` of a packet that the table knows.
fn class(entry: &Entry, direction: Direction) -> Class {
    if direction == Direction::Reply || entry.has(Status::SEEN_REPLY) {
        Class::Established
    } else if entry.has(Status::EXPECTED) {
        Class::Related
    } else {
        Class::New
    }
}

/// Checksums are verified where packets come in, unless a device did
/// (`nf_checksum` calls at `NF_INET_PRE_ROUTING`).
pub(crate) const fn verifies(settings: &Settings, packet: &Packet<'_>) -> bool {
    settings.checksum && !packet.checksum_verified && !matches!(packet.route, Route::Output)
}
