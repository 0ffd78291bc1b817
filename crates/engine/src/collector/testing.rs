//! A table of bare connections for the collectors' tests.

use ctkeeper_flow::{Direction, Family, Status};

use super::Collectable;
use crate::entry::{Entry, flag};
use crate::extension::Extensions;
use crate::hash::Hasher;
use crate::index::chains::Chains;
use crate::index::records::Stored;
use crate::memory::Arena;
use crate::random::Random;
use crate::time::{Ticks, Time};
use crate::tuple::{Tuple, protocol};

pub(super) struct Ground {
    arena: Arena,
    extensions: Extensions,
    chains: Chains,
    pub(super) count: u32,
    pub(super) limit: u32,
    /// Lines that ended, with the tick.
    pub(super) ended: Vec<(u32, Ticks)>,
    /// Lines whose expectations were looked after.
    pub(super) helped: Vec<u32>,
}

impl Ground {
    pub(super) fn new(buckets: u32) -> Self {
        Self {
            arena: Arena::new(100_000).unwrap(),
            extensions: Extensions::new(8, 1),
            chains: Chains::new(buckets, Hasher::new(3)),
            count: 0,
            limit: 0,
            ended: Vec::new(),
            helped: Vec::new(),
        }
    }

    /// Adds a TCP connection that lives until a moment.
    pub(super) fn add(&mut self, deadline: Time, status: Status, state: u8) -> u32 {
        let number = self.count + self.ended.len() as u32;
        let tuple = Tuple {
            source: 0x0a00_0000 + u128::from(number >> 10),
            destination: 0xc0a8_0001,
            source_id: (number & 1023) as u16,
            destination_id: 443,
            protocol: protocol::TCP,
            family: Family::Ipv4,
        };
        let line = self.arena.record(&tuple).unwrap();
        let entry = self.arena.entry_mut(line);
        (entry.id, entry.state) = (number + 1, state);
        entry.deadline = Ticks::at(deadline).0;
        entry.flags |= flag::LISTED;
        entry.set(Status::CONFIRMED | status);
        let mut records = Stored { arena: &mut self.arena, extensions: &self.extensions };
        let vacancy = self.chains.check(&records, line, &mut Random::new(0)).unwrap();
        self.chains.insert(&mut records, vacancy);
        self.count += 1;
        line
    }

    pub(super) fn is_listed(&self, line: u32) -> bool {
        self.arena.get(line).is_some_and(|entry| entry.flags & flag::LISTED != 0)
    }
}

impl Collectable for Ground {
    fn buckets(&self) -> u32 {
        self.chains.buckets()
    }

    fn chain(&self, bucket: u32, lines: &mut Vec<u32>) {
        let records = Stored { arena: &self.arena, extensions: &self.extensions };
        let chain = self.chains.chain(bucket as usize, &records);
        lines.extend(chain.map(|(line, _): (u32, Direction)| line));
    }

    fn places(&self) -> usize {
        self.arena.bytes() / size_of::<Entry>()
    }

    fn scan(&self, cursor: u32, places: usize, visit: impl FnMut(u32, &Entry)) -> u32 {
        self.arena.scan(cursor, places, visit)
    }

    fn entry(&self, line: u32) -> &Entry {
        self.arena.entry(line)
    }

    fn count(&self, _namespace: u16) -> u32 {
        self.count
    }

    fn limit(&self) -> u32 {
        self.limit
    }

    fn end(&mut self, now: Ticks, lines: &[u32]) {
        for &line in lines {
            assert!(self.is_listed(line), "{line} ends twice");
            let mut records = Stored { arena: &mut self.arena, extensions: &self.extensions };
            self.chains.remove(&mut records, line);
            self.arena.entry_mut(line).flags = 0;
            self.arena.free(line);
            self.count -= 1;
            self.ended.push((line, now));
        }
    }

    fn end_expectations(&mut self, _now: Ticks, line: u32) {
        self.helped.push(line);
    }
}
