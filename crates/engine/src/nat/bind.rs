//! Giving connections their bindings, as `nf_nat_setup_info` (`nf_nat_core.c`, Linux 6.12).

use ctkeeper_flow::{Direction, Statistic, Status, TcpState};

use crate::entry::flag;
use crate::nat::unique::{Request, World, unique};
use crate::nat::{End, Range};
use crate::settings::Profile;
use crate::table::{Place, Table};
use crate::time::Ticks;
use crate::tuple::{Tuple, protocol};

/// The bit that says that an end of a connection is another one to the other side.
pub(crate) const fn translated(end: End) -> Status {
    match end {
        End::Source => Status::SRC_NAT,
        End::Destination => Status::DST_NAT,
    }
}

/// The bit that says that an end of a connection has its binding.
pub(crate) const fn bound(end: End) -> Status {
    match end {
        End::Source => Status::SRC_NAT_DONE,
        End::Destination => Status::DST_NAT_DONE,
    }
}

/// Either end is translated (`IPS_NAT_MASK`).
pub(crate) const TRANSLATED: Status = Status(Status::SRC_NAT.0 | Status::DST_NAT.0);

impl Table {
    /// Binds one end of a connection outside the table to an address and id of a range.
    ///
    /// Where nothing of it is free, it gets what another one has, and will not come into the
    /// table.
    pub(crate) fn bind(
        &mut self,
        now: Ticks,
        line: u32,
        end: End,
        range: &Range,
        profile: Profile,
    ) {
        let (original, reply) =
            (self.tuple(line, Direction::Original), self.tuple(line, Direction::Reply));
        // Only tuples that can be turned round begin connections.
        let Some(current) = reply.inverted() else { return };
        let entry = self.arena.entry(line);
        let place = Place { namespace: entry.namespace, zone: entry.zone() };
        let request = Request {
            current,
            range,
            end,
            zone: place.zone.id,
            profile,
            is_expected: self.extensions.master(entry).is_some(),
            is_syn_sent: entry.protocol == protocol::TCP
                && entry.state == TcpState::SynSent.number(),
        };
        let mut around = Surroundings { table: self, now, line, place, original, reply };
        let chosen = unique(&request, &mut around);
        self.give(line, end, &current, &chosen);
        if let Some(interface) = range.masquerade {
            let entry = self.arena.entry_mut(line);
            entry.flags |= flag::MASQUERADED;
            self.extensions.ensure(line, entry).masquerade = interface;
        }
    }

    /// Binds one end to the address it has: its port may change all the same
    /// (`nf_nat_alloc_null_binding`).
    pub(crate) fn bind_to_itself(&mut self, now: Ticks, line: u32, end: End, profile: Profile) {
        let reply = self.tuple(line, Direction::Reply);
        let address = match end {
            End::Source => reply.destination,
            End::Destination => reply.source,
        };
        let range = Range { addresses: Some((address, address)), ..Range::KEEP };
        self.bind(now, line, end, &range, profile);
    }

    fn give(&mut self, line: u32, end: End, current: &Tuple, chosen: &Tuple) {
        let original = self.arena.original(line);
        let entry = self.arena.entry_mut(line);
        if chosen != current
            && let Some(reply) = chosen.inverted()
        {
            self.extensions.set_reply(line, entry, &reply);
            entry.set(translated(end));
        }
        let is_moved = (chosen.source, chosen.source_id) != (original.source, original.source_id);
        if end == End::Source && is_moved {
            let (zone, namespace) = (entry.zone_in(Direction::Original), entry.namespace);
            self.extensions.ensure(line, entry);
            self.extensions.list_by_source(entry.extension, &original, zone, namespace);
        }
        entry.set(bound(end));
    }
}

/// A connection that is to be bound, and the table around it.
struct Surroundings<'a> {
    table: &'a mut Table,
    now: Ticks,
    line: u32,
    place: Place,
    original: Tuple,
    reply: Tuple,
}

impl Surroundings<'_> {
    /// The connection that has a tuple in the zone that counts in the reply direction.
    fn holder(&mut self, reply: &Tuple) -> Option<u32> {
        let zone = self.place.zone;
        let is_one_zone = zone.id_in(Direction::Original) == zone.id_in(Direction::Reply);
        let (other, direction) = self.table.lookup(self.now, self.place, reply)?;
        (is_one_zone || direction == Direction::Reply).then_some(other)
    }

    /// Whether this is the connection once more, as packets that race each other make it.
    fn is_the_same(&self, other: u32) -> bool {
        let way = Direction::Original;
        let zone = self.table.arena.entry(other).zone_in(way);
        zone == self.place.zone.id_in(way) && self.table.arena.original(other) == self.original
    }

    /// Whether a connection in TIME_WAIT or beyond can give way: ours has a newer sequence
    /// number, so that packets of the old one will be invalid (`nf_nat_may_kill`,
    /// `nf_seq_has_advanced`).
    fn can_give_way(&self, other: u32) -> bool {
        let entry = self.table.arena.entry(other);
        let end = |line| self.table.arena.tcp(line).map(|window| window.seen[0].end);
        let (Some(old), Some(new)) = (end(other), end(self.line)) else { return false };
        entry.state >= TcpState::TimeWait.number()
            && !entry.status().intersects(Status::FIXED_TIMEOUT)
            && entry.has(Status::SRC_NAT)
            && new.wrapping_sub(old).cast_signed() > 0
    }
}

impl World for Surroundings<'_> {
    fn is_taken(&mut self, reply: &Tuple) -> bool {
        let is_taken = self.holder(reply).is_some_and(|other| !self.is_the_same(other));
        if is_taken {
            let namespace = usize::from(self.place.namespace);
            self.table.namespaces[namespace].increment(Statistic::Found);
        }
        is_taken
    }

    fn is_the_same_reversed(&mut self, kept: &Tuple) -> bool {
        let altered = Status(TRANSLATED.0 | Status::SEQ_ADJUST.0);
        if self.table.arena.entry(self.line).status().intersects(altered) {
            return false;
        }
        let found = self.table.lookup(self.now, self.place, kept).or_else(|| {
            let reply = kept.inverted()?;
            self.table.lookup(self.now, self.place, &reply)
        });
        let Some((other, _)) = found else { return true };
        !self.table.arena.entry(other).status().intersects(altered)
            && self.table.arena.original(other) == self.reply
    }

    fn is_taken_for_good(&mut self, reply: &Tuple) -> bool {
        let Some((other, direction)) = self.table.lookup(self.now, self.place, reply) else {
            return false;
        };
        if direction == Direction::Original || !self.can_give_way(other) {
            return true;
        }
        self.table.end(self.now, other);
        false
    }

    fn mapped_source(&mut self, fits: impl Fn(u128, u16) -> bool) -> Option<(u128, u16)> {
        let zone = self.place.zone.id_in(Direction::Original);
        let table = &*self.table;
        let places = table.extensions.with_source(&self.original, zone, self.place.namespace);
        places.map(|place| table.extensions.at(place).line).find_map(|line| {
            let entry = table.arena.entry(line);
            let other = table.arena.original(line);
            let is_of_source = entry.namespace == self.place.namespace
                && entry.zone_in(Direction::Original) == zone
                && other.protocol == self.original.protocol
                && other.family == self.original.family
                && other.source == self.original.source
                && other.source_id == self.original.source_id;
            let Tuple { source, source_id, .. } =
                table.tuple(line, Direction::Reply).inverted().filter(|_| is_of_source)?;
            fits(source, source_id).then_some((source, source_id))
        })
    }

    fn draw(&mut self) -> u16 {
        self.table.foretold.unwrap_or_else(|| self.table.random.bits16())
    }
}
