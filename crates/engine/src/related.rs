//! Related connections: helpers that read along, and what they announce.

use ctkeeper_flow::{Direction, Expectation, Family, Status};

use crate::engine::{Engine, Tracked};
use crate::entry::flag;
use crate::expect::{self, Expectations, Origin};
use crate::helper::{Announcement, CallExists, Helper, Helpers, Policy, Refused, Sight, Subject};
use crate::outcome::{Class, Handle, Verdict};
use crate::packet::Datagram;
use crate::table::{Place, Table};
use crate::time::{Ticks, Time};
use crate::tuple::Tuple;

/// The helpers of an engine and the connections they await.
#[derive(Debug)]
pub(crate) struct Related {
    pub(crate) helpers: Helpers,
    pub(crate) expectations: Expectations,
}

impl Related {
    /// No helper, room for so many expectations in each namespace.
    pub(crate) fn new(limit: u32) -> Self {
        Self { helpers: Helpers::default(), expectations: Expectations::new(limit) }
    }

    /// Whether a new connection of a namespace may be one that is expected.
    #[inline]
    pub(crate) fn is_awaiting(&self, namespace: u16) -> bool {
        self.expectations.held(namespace) != 0
    }
}

/// Helpers and expectations of an engine.
impl Engine {
    /// Takes a helper in, and gives the number that rules name it by
    /// ([`Decision::helper`](crate::rules::Decision)); `None` when there are 65,535.
    pub fn add_helper(&mut self, helper: Box<dyn Helper>) -> Option<u16> {
        self.table.related.helpers.add(helper)
    }

    /// Gives a connection to a helper by its number, in the middle of it; whether the connection
    /// lives and the helper exists and is for its protocol.
    pub fn assign_helper(&mut self, connection: Handle, number: u16) -> bool {
        let Some(line) = self.table.resolve(connection) else { return false };
        let protocol = self.table.arena.entry(line).protocol;
        self.table.related.helpers.adopt(connection, number, protocol) && {
            self.table.note_helper(line, number, Status::HELPER);
            true
        }
    }

    /// Announces a connection to come on behalf of a connection: the first packet that meets it
    /// begins a connection that is related to that one. Gives the expectation's id, or `None`
    /// where the connection has ended.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn expect(
        &mut self,
        now: Time,
        master: Handle,
        announcement: Announcement,
        policy: Policy,
    ) -> Result<Option<u32>, Refused> {
        let Some(line) = self.table.resolve(master) else { return Ok(None) };
        let origin = self.table.origin(line);
        // Whoever ends takes expectations along if this says that there are any.
        self.table.arena.entry_mut(line).flags |= flag::HELPED;
        let expectations = &mut self.table.related.expectations;
        expectations.expect(Ticks::at(now), origin, announcement, policy).map(Some)
    }

    /// Notes a PPTP call on behalf of its control connection; whether that lives.
    ///
    /// GRE of PPTP carries the call id of its receiver only. `call` is the tuple of what goes in
    /// `direction` of the call, the receiver's id as its destination's and the sender's as its
    /// source's: with both directions noted, the two are one connection
    /// (`nf_ct_gre_keymap_add`, `nf_conntrack_proto_gre.c`, Linux 6.12).
    ///
    /// # Errors
    /// [`CallExists`].
    pub fn note_call(
        &mut self,
        master: Handle,
        direction: Direction,
        call: Tuple,
    ) -> Result<bool, CallExists> {
        let Some(line) = self.table.resolve(master) else { return Ok(false) };
        let entry = self.table.arena.entry_mut(line);
        let namespace = usize::from(entry.namespace);
        // Whoever ends takes its calls along if this says that there are any.
        entry.flags |= flag::HELPED;
        self.table.namespaces[namespace].calls.add(master, direction, call).map(|()| true)
    }

    /// The connections that are expected in a namespace.
    pub fn expectations(&self, now: Time, namespace: u16) -> impl Iterator<Item = Expectation> {
        let now = Ticks::at(now);
        let all = self.table.related.expectations.of_namespace(namespace, now);
        all.map(move |expectation| self.table.described(now, expectation))
    }
}

impl Table {
    fn origin(&self, line: u32) -> Origin {
        let entry = self.arena.entry(line);
        Origin { master: self.handle(line), namespace: entry.namespace, zone: entry.zone }
    }

    fn described(&self, now: Ticks, expectation: &expect::Expectation) -> Expectation {
        let expect::Expectation { announcement, origin, deadline, id } = *expectation;
        let Announcement { tuple, mask, class, flags, helper } = announcement;
        let whole = if tuple.family == Family::Ipv4 { u128::from(u32::MAX) } else { u128::MAX };
        let mask = Tuple {
            source: mask.source & whole,
            source_id: mask.source_id,
            destination: 0,
            destination_id: 0,
            ..tuple
        };
        let master = self.resolve(origin.master).map(|line| self.tuple(line, Direction::Original));
        let helper = self.related.helpers.by_number(helper);
        Expectation {
            expected: tuple.into(),
            mask: mask.into(),
            master: master.unwrap_or(tuple).into(),
            zone: ctkeeper_flow::Zone::both(origin.zone),
            timeout: Some(Ticks(deadline.after(now).max(0).cast_unsigned()).seconds()),
            id: Some(id),
            helper: helper.map(|helper| helper.name().into()),
            flags,
            class: class.into(),
        }
    }

    /// Makes a connection that has just begun the one that was expected, if any was
    /// (`init_conntrack`, `nf_conntrack_core.c`, Linux 6.12).
    #[cold]
    pub(crate) fn meet_expectation(&mut self, now: Ticks, line: u32, place: Place, tuple: &Tuple) {
        let arena = &self.arena;
        let stands = |master: Handle| {
            arena.get(master.line).is_some_and(|entry| {
                entry.id == master.id
                    && entry.has(Status::CONFIRMED)
                    && !entry.status().intersects(Status::DYING)
            })
        };
        let Place { namespace, zone } = place;
        let expectations = &mut self.related.expectations;
        let Some(met) = expectations.meet(now, namespace, zone.id, tuple, stands) else { return };
        let (master, helper) = (met.origin.master, met.announcement.helper);
        let mark = self.arena.entry(master.line).mark;
        let entry = self.arena.entry_mut(line);
        entry.mark = mark;
        entry.set(Status::EXPECTED);
        self.extensions.set_master(line, entry, master);
        self.give_to_helper(line, helper, Status(0));
    }

    /// Lets a helper read along in a connection from its first packet on, and sets status bits
    /// that say so; whether that helper exists and is for its protocol.
    pub(crate) fn give_to_helper(&mut self, line: u32, number: u16, status: Status) -> bool {
        let (handle, protocol) = (self.handle(line), self.arena.entry(line).protocol);
        self.related.helpers.assign(handle, number, protocol) && {
            self.note_helper(line, number, status);
            true
        }
    }

    fn note_helper(&mut self, line: u32, number: u16, status: Status) {
        let entry = self.arena.entry_mut(line);
        entry.flags |= flag::HELPED;
        entry.set(status);
        self.extensions.ensure(line, entry).helper = number;
    }

    /// The name of a connection's helper.
    pub(crate) fn helper(&self, line: u32) -> Option<&str> {
        let number = self.extensions.get(self.arena.entry(line))?.helper;
        self.related.helpers.by_number(number).map(Helper::name)
    }

    /// The original tuple of a connection's master, as long as that lives.
    pub(crate) fn master(&self, line: u32) -> Option<Tuple> {
        let master = self.extensions.master(self.arena.entry(line))?;
        Some(self.tuple(self.resolve(master)?, Direction::Original))
    }

    /// A connection ends: nobody reads along any more, nor is anything expected on its behalf.
    #[cold]
    pub(crate) fn forget_related(&mut self, line: u32) {
        let handle = self.handle(line);
        let namespace = usize::from(self.arena.entry(line).namespace);
        self.namespaces[namespace].calls.remove(handle);
        self.related.helpers.forget(handle);
        self.related.expectations.remove_of(handle);
    }

    /// Forgets what a connection expected in vain.
    pub(crate) fn collect_expectations(&mut self, now: Ticks, line: u32) {
        let handle = self.handle(line);
        self.related.expectations.collect_of(handle, now);
    }

    /// Lets a connection's helper look at a packet (`nf_confirm`, `nf_conntrack_proto.c`,
    /// Linux 6.12); ICMP errors against its direction are not shown to it.
    #[cold]
    pub(crate) fn show_to_helper(
        &mut self,
        now: Ticks,
        tracked: Tracked,
        datagram: &Datagram<'_>,
    ) -> Verdict {
        if tracked.class == Class::Related && tracked.direction == Direction::Reply {
            return Verdict::Accept;
        }
        let Tracked { line, direction, class, .. } = tracked;
        let sight = Sight {
            class,
            direction,
            original: self.tuple(line, Direction::Original),
            reply: self.tuple(line, Direction::Reply),
            datagram: *datagram,
        };
        let subject = Subject { now, origin: self.origin(line) };
        let Related { helpers, expectations } = &mut self.related;
        helpers.inspect(subject, &sight, expectations)
    }
}
