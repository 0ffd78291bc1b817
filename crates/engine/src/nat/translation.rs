//! What the translation of a connection does to its packets.

use std::net::IpAddr;

use ctkeeper_flow::{Direction, Status};

use crate::engine::Engine;
use crate::entry::flag;
use crate::nat::End;
use crate::nat::bind::{TRANSLATED, translated};
use crate::outcome::{Class, Handle, Outcome, Reason};
use crate::packet::Datagram;
use crate::packet::rewrite;
use crate::time::{Ticks, Time};
use crate::tuple::{Tuple, address_bits, protocol};

/// How a translated connection looks to both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    status: Status,
    /// The tuples of both directions.
    tuples: [Tuple; 2],
}

/// A connection that ended under its last packet, which is to be translated still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parting {
    handle: Handle,
    translation: Translation,
}

impl Translation {
    /// Whether packets of a direction change at an end: what is the source to one side is the
    /// destination to the other.
    const fn changes(&self, direction: Direction, end: End) -> bool {
        let end = match direction {
            Direction::Original => end,
            Direction::Reply => end.other(),
        };
        self.status.contains(translated(end))
    }

    const fn opposite(&self, direction: Direction) -> &Tuple {
        match direction {
            Direction::Original => &self.tuples[1],
            Direction::Reply => &self.tuples[0],
        }
    }
}

impl Engine {
    /// What the translation of a connection makes of the packets of a direction: their tuple as
    /// they come in, and as they go out. `None` where they stay as they are, or the connection has
    /// ended.
    pub fn translation(&self, handle: Handle, direction: Direction) -> Option<(Tuple, Tuple)> {
        let translation = self.translation_of(handle)?;
        let from = translation.tuples[direction as usize];
        Some((from, translation.opposite(direction).inverted()?))
    }

    /// Translates a packet that went through the engine just now, as its outcome says: addresses,
    /// ports, ids, and the checksums over them; of an ICMP error the packet inside as well.
    /// Whether it changed.
    ///
    /// A packet that was dropped stays as it is.
    ///
    /// # Errors
    /// [`Reason::Untranslatable`] and what [`Datagram::parse`] says where the kernel would drop
    /// the packet on its way; its bytes are of no use then.
    pub fn translate(&self, outcome: &Outcome, bytes: &mut [u8]) -> Result<bool, Reason> {
        let Some(translation) = outcome
            .connection
            .filter(|_| outcome.is_accepted())
            .and_then(|handle| self.translation_of(handle))
        else {
            return Ok(false);
        };
        let opposite = translation.opposite(outcome.direction);
        let Some(target) = opposite.inverted() else { return Ok(false) };
        let is_error = outcome.class == Class::Related && is_icmp(bytes)?;
        let mut changed = false;
        for end in [End::Destination, End::Source] {
            if !translation.changes(outcome.direction, end) {
                continue;
            }
            changed = true;
            if is_error {
                rewrite::translate_error(bytes, end, opposite)?;
            } else {
                rewrite::translate(bytes, end, &target)?;
            }
        }
        Ok(changed)
    }

    /// Ends the connections of a namespace that were masqueraded to an interface which has gone
    /// down, or to one of its addresses that was removed; how many. Looks at every connection.
    ///
    /// As the kernel does when it hears of such (`nf_nat_masquerade.c`, Linux 6.12).
    pub fn address_gone(
        &mut self,
        now: Time,
        namespace: u16,
        interface: u32,
        address: Option<IpAddr>,
    ) -> usize {
        self.table.clock = now;
        let address = address.map(address_bits);
        let gone: Vec<u32> = self
            .table
            .arena
            .records()
            .filter(|&line| self.is_masqueraded(line, namespace, interface, address))
            .collect();
        for line in &gone {
            self.table.end(Ticks::at(now), *line);
        }
        gone.len()
    }

    fn is_masqueraded(
        &self,
        line: u32,
        namespace: u16,
        interface: u32,
        address: Option<u128>,
    ) -> bool {
        let entry = self.table.arena.entry(line);
        entry.flags & flag::MASQUERADED != 0
            && entry.namespace == namespace
            && self.table.extensions.get(entry).is_some_and(|e| e.masquerade == interface)
            && address.is_none_or(|address| {
                self.table.tuple(line, Direction::Reply).destination == address
            })
    }

    fn translation_of(&self, handle: Handle) -> Option<Translation> {
        let Some(line) = self.table.resolve(handle) else {
            let parting = self.partings.iter().rev().find(|parting| parting.handle == handle)?;
            return Some(parting.translation);
        };
        let status = self.table.arena.entry(line).status();
        status.intersects(TRANSLATED).then(|| self.translation_at(line))
    }

    fn translation_at(&self, line: u32) -> Translation {
        let tuples = [Direction::Original, Direction::Reply].map(|way| self.table.tuple(line, way));
        Translation { status: self.table.arena.entry(line).status(), tuples }
    }

    /// Keeps the translation of a connection that ends with a packet that goes on.
    pub(crate) fn part(&mut self, line: u32) {
        if self.table.arena.entry(line).status().intersects(TRANSLATED) {
            let (handle, translation) = (self.table.handle(line), self.translation_at(line));
            self.partings.push(Parting { handle, translation });
        }
    }
}

fn is_icmp(bytes: &[u8]) -> Result<bool, Reason> {
    let datagram = Datagram::parse(bytes)?;
    Ok(matches!(datagram.protocol, protocol::ICMP | protocol::ICMPV6))
}

/// The tuple of a packet whose one end has been translated; of an ICMP error the address alone.
pub(crate) fn packet_at(tuple: &Tuple, end: End, opposite: &Tuple, is_error: bool) -> Tuple {
    let mut tuple = *tuple;
    let target = opposite.inverted().filter(|_| !is_error);
    let is_query = matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6);
    match end {
        End::Source => tuple.source = opposite.destination,
        End::Destination => tuple.destination = opposite.source,
    }
    match (target, end) {
        (Some(target), _) if is_query => tuple.source_id = target.source_id,
        (Some(target), End::Source) => tuple.source_id = target.source_id,
        (Some(target), End::Destination) => tuple.destination_id = target.destination_id,
        (None, _) => {}
    }
    tuple
}
