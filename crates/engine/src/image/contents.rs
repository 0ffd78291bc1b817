//! The connections and expectations of an image, and the orders they stand in.

use std::collections::HashMap;

use ctkeeper_flow::{Direction, ExpectationFlags};
use serde::{Deserialize, Serialize};

use super::ImageError;
use super::connection::Connection;
use crate::entry::{NOWHERE, flag};
use crate::expect::{Announcement, Counts, Expectation, Expectations, Mask, Origin};
use crate::extension::{Extensions, has};
use crate::helper::{Helpers, Memory};
use crate::index::chains::Chains;
use crate::index::records::Stored;
use crate::memory::Arena;
use crate::outcome::Handle;
use crate::time::Ticks;
use crate::tuple::Tuple;

/// What an engine's table holds. Connections are named by their place in `connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) connections: Vec<Connection>,
    /// Exact mode: the tuples in their chains, each chain from its end to its head: a
    /// connection's number times two, plus one for its reply tuple.
    chains: Vec<u32>,
    /// Connections listed by their source, those of one source the oldest first.
    by_source: Vec<u32>,
    expectations: Vec<Awaited>,
    last_expectation: u32,
    expectation_counts: Vec<Counts>,
    /// Connections with a helper: its number, what it keeps.
    helpers: Vec<(u32, u16, [u32; 8])>,
}

/// An expectation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Awaited {
    /// Number of its master.
    master: u32,
    namespace: u16,
    zone: u16,
    tuple: ctkeeper_flow::Tuple,
    /// Low and high half of the mask of the source's address.
    mask: [u64; 2],
    mask_id: u16,
    class: u8,
    flags: ExpectationFlags,
    helper: u16,
    deadline: u32,
    id: u32,
}

/// The table's parts, to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) arena: &'a Arena,
    pub(super) extensions: &'a Extensions,
    /// Exact mode.
    pub(super) chains: Option<&'a Chains>,
    pub(super) expectations: &'a Expectations,
    pub(super) helpers: &'a Helpers,
}

/// The parts of an empty table, to be filled.
#[derive(Debug)]
pub(super) struct Empty<'a> {
    pub(super) arena: &'a mut Arena,
    pub(super) extensions: &'a mut Extensions,
    pub(super) expectations: &'a mut Expectations,
    pub(super) helpers: &'a mut Helpers,
}

/// Taking.
impl Contents {
    pub(super) fn of(parts: Parts<'_>) -> Self {
        let Parts { arena, extensions, expectations, helpers, .. } = parts;
        let is_listed = |line: &u32| arena.entry(*line).flags & flag::LISTED != 0;
        let lines: Vec<u32> = arena.records().filter(is_listed).collect();
        let numbers: HashMap<u32, u32> = lines.iter().copied().zip(0..).collect();
        let (awaited, last_expectation) = expectations.in_order();
        Self {
            connections: lines
                .iter()
                .map(|&line| Connection::of(arena, extensions, line, &numbers))
                .collect(),
            chains: parts
                .chains
                .map(|chains| in_chains(parts, chains, &numbers))
                .unwrap_or_default(),
            by_source: by_source(parts, &lines, &numbers),
            expectations: awaited
                .into_iter()
                .filter_map(|one| Awaited::of(one, &numbers))
                .collect(),
            last_expectation,
            expectation_counts: expectations.all_counts().to_vec(),
            helpers: lines
                .iter()
                .filter_map(|&line| {
                    let handle = Handle { line, id: arena.entry(line).id };
                    let (helper, Memory(memory)) = helpers.kept(handle)?;
                    Some((numbers[&line], helper, memory))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
impl Contents {
    pub(super) fn nodes(&self) -> &[u32] {
        &self.chains
    }
}

/// The nodes of all chains, each from its end on.
fn in_chains(parts: Parts<'_>, chains: &Chains, numbers: &HashMap<u32, u32>) -> Vec<u32> {
    let records = Stored { arena: parts.arena, extensions: parts.extensions };
    let mut nodes = Vec::with_capacity(2 * numbers.len());
    for bucket in 0..chains.buckets() as usize {
        let begin = nodes.len();
        let chain = chains.chain(bucket, &records);
        nodes.extend(
            chain.filter_map(|(line, direction)| Some(numbers.get(&line)? << 1 | direction as u32)),
        );
        nodes[begin..].reverse();
    }
    nodes
}

/// The connections listed by source, each list from its end on.
fn by_source(parts: Parts<'_>, lines: &[u32], numbers: &HashMap<u32, u32>) -> Vec<u32> {
    let extensions = parts.extensions;
    let place = |line: u32| parts.arena.entry(line).extension;
    let is_last = |place: &u32| {
        let extension = extensions.at(*place);
        extension.has & has::BY_SOURCE != 0 && extension.next == NOWHERE
    };
    let ends = lines.iter().map(|&line| place(line)).filter(|place| *place != NOWHERE);
    ends.filter(is_last)
        .flat_map(|end| {
            std::iter::successors(Some(end), |&place| {
                let previous = extensions.at(place).previous;
                (previous != NOWHERE).then_some(previous)
            })
        })
        .filter_map(|place| numbers.get(&extensions.at(place).line).copied())
        .collect()
}

/// Putting back.
impl Contents {
    /// Fills an empty table, but for the index of the fast mode: the lines to be put into that.
    pub(super) fn put(
        &self,
        namespaces: usize,
        empty: Empty<'_>,
        chains: Option<&mut Chains>,
    ) -> Result<Vec<u32>, ImageError> {
        let Empty { arena, extensions, expectations, helpers } = empty;
        let lines = self.put_connections(namespaces, arena, extensions)?;
        self.list_by_source(arena, extensions, &lines)?;
        if let Some(chains) = chains {
            self.put_into_chains(arena, extensions, chains, &lines)?;
        }
        let handle = |number: u32| {
            let line = *lines.get(number as usize).ok_or(ImageError::Reference(number))?;
            Ok(Handle { line, id: arena.entry(line).id })
        };
        for (number, awaited) in self.expectations.iter().enumerate() {
            let expectation = awaited.expectation(handle(awaited.master)?, namespaces);
            expectations.put_back(expectation.ok_or(ImageError::Expectation(number))?);
        }
        let masters = self.expectations.iter().map(|awaited| awaited.master);
        for number in masters.chain(self.helpers.iter().map(|&(number, ..)| number)) {
            let line = *lines.get(number as usize).ok_or(ImageError::Reference(number))?;
            arena.entry_mut(line).flags |= flag::HELPED;
        }
        let handle = |number: u32| {
            let line = *lines.get(number as usize).ok_or(ImageError::Reference(number))?;
            Ok(Handle { line, id: arena.entry(line).id })
        };
        if self.expectation_counts.len() > namespaces {
            return Err(ImageError::Namespaces);
        }
        expectations.resume(self.last_expectation, &self.expectation_counts);
        for &(number, helper, memory) in &self.helpers {
            helpers.put_back(handle(number)?, (helper, Memory(memory)));
        }
        Ok(lines)
    }

    fn put_connections(
        &self,
        namespaces: usize,
        arena: &mut Arena,
        extensions: &mut Extensions,
    ) -> Result<Vec<u32>, ImageError> {
        let mut lines = Vec::with_capacity(self.connections.len());
        for (number, connection) in self.connections.iter().enumerate() {
            if let Some(what) = connection.fault(namespaces, self.connections.len()) {
                return Err(ImageError::Connection { number, what });
            }
            let line = connection.put(arena, extensions);
            lines.push(line.ok_or(ImageError::TooMany(self.connections.len()))?);
        }
        for (connection, &line) in self.connections.iter().zip(&lines) {
            let Some(master) = connection.master() else { continue };
            let master = lines.get(master as usize).ok_or(ImageError::Reference(master))?;
            let master = Handle { line: *master, id: arena.entry(*master).id };
            extensions.set_master(line, arena.entry_mut(line), master);
        }
        Ok(lines)
    }

    fn list_by_source(
        &self,
        arena: &Arena,
        extensions: &mut Extensions,
        lines: &[u32],
    ) -> Result<(), ImageError> {
        for &number in &self.by_source {
            let line = *lines.get(number as usize).ok_or(ImageError::Reference(number))?;
            let entry = arena.entry(line);
            let is_new = extensions.get(entry).is_some_and(|one| one.has & has::BY_SOURCE == 0);
            if !is_new {
                return Err(ImageError::Reference(number));
            }
            let original = arena.original(line);
            let zone = entry.zone_in(Direction::Original);
            extensions.list_by_source(entry.extension, &original, zone, entry.namespace);
        }
        Ok(())
    }

    fn put_into_chains(
        &self,
        arena: &mut Arena,
        extensions: &Extensions,
        chains: &mut Chains,
        lines: &[u32],
    ) -> Result<(), ImageError> {
        // Which of its tuples a connection still lacks.
        let lacking = |one: &Connection| if one.reply_only { 0b10 } else { 0b11 };
        let mut lacking: Vec<u8> = self.connections.iter().map(lacking).collect();
        let mut records = Stored { arena, extensions };
        for &node in &self.chains {
            let (number, bit) = (node >> 1, 1 << (node & 1));
            let lacks = lacking.get_mut(number as usize).filter(|lacks| **lacks & bit != 0);
            *lacks.ok_or(ImageError::Chain(number))? &= !bit;
            let direction = if node & 1 == 0 { Direction::Original } else { Direction::Reply };
            chains.push(&mut records, lines[number as usize], direction);
        }
        match lacking.iter().position(|lacks| *lacks != 0) {
            Some(number) => Err(ImageError::Chain(number as u32)),
            None => Ok(()),
        }
    }
}

impl Awaited {
    fn of(one: &Expectation, numbers: &HashMap<u32, u32>) -> Option<Self> {
        let Expectation { announcement, origin, deadline, id } = *one;
        let Announcement { tuple, mask, class, flags, helper } = announcement;
        Some(Self {
            master: *numbers.get(&origin.master.line)?,
            namespace: origin.namespace,
            zone: origin.zone,
            tuple: tuple.into(),
            mask: [mask.source as u64, (mask.source >> 64) as u64],
            mask_id: mask.source_id,
            class,
            flags,
            helper,
            deadline: deadline.0,
            id,
        })
    }

    /// `None` for one that is none.
    fn expectation(&self, master: Handle, namespaces: usize) -> Option<Expectation> {
        let tuple = Tuple::from(self.tuple);
        let is_sound = ctkeeper_flow::Tuple::from(tuple) == self.tuple;
        if !is_sound || usize::from(self.namespace) >= namespaces || self.id == 0 {
            return None;
        }
        let [low, high] = self.mask.map(u128::from);
        let mask = Mask { source: high << 64 | low, source_id: self.mask_id };
        let Self { class, flags, helper, .. } = *self;
        Some(Expectation {
            announcement: Announcement { tuple, mask, class, flags, helper },
            origin: Origin { master, namespace: self.namespace, zone: self.zone },
            deadline: Ticks(self.deadline),
            id: self.id,
        })
    }
}
