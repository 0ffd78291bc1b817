//! One connection in an image.

use std::collections::HashMap;

use ctkeeper_flow::{
    Counters, Labels, SctpState, SequenceAdjustment, Status, TcpState, Zone, ZoneDirection,
};
use serde::{Deserialize, Serialize};

use crate::entry::{Entry, TcpSide, TcpWindow, flag};
use crate::event::Changes;
use crate::extension::{Adjustment, Adjustments, Extensions, has};
use crate::memory::Arena;
use crate::outcome::Handle;
use crate::tuple::{Tuple, protocol};

/// A connection with everything the table keeps of it but its places there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Connection {
    pub(super) id: u32,
    pub(super) namespace: u16,
    pub(super) zone: Zone,
    original: ctkeeper_flow::Tuple,
    /// Of a translated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<ctkeeper_flow::Tuple>,
    /// In the table by its reply tuple alone.
    #[serde(default)]
    pub(super) reply_only: bool,
    status: Status,
    state: u8,
    /// In ticks.
    deadline: u32,
    mark: u32,
    small: [u32; 3],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<Tcp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<Box<More>>,
}

/// [`TcpWindow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tcp {
    original: Side,
    reply: Side,
    last_direction: u8,
    last_index: u8,
    retransmissions: u8,
    last_scale: u8,
    last_sequence: u32,
    last_acknowledgement: u32,
    last_end: u32,
    last_window: u16,
    last_flags: u8,
}

/// [`TcpSide`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Side {
    end: u32,
    max_end: u32,
    max_window: u32,
    max_ack: u32,
    scale: u8,
    flags: u8,
}

/// What stands in the extension, but for the reply tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct More {
    masquerade: u32,
    helper: u16,
    /// Number of the master in the image; one that has ended is left out.
    master: Option<u32>,
    counters: Option<[Counters; 2]>,
    start: Option<u64>,
    labels: Option<Labels>,
    adjustments: Option<[SequenceAdjustment; 2]>,
    /// Changes that are to be told with the next packet.
    deferred: u16,
}

/// Largest shift that a window scale stands for (RFC 7323).
const LARGEST_SCALE: u8 = 14;
/// Kinds of TCP segments ([`TcpWindow::last_index`]).
const TCP_KINDS: u8 = 6;

/// Taking.
impl Connection {
    /// `numbers` gives connections their numbers in the image.
    pub(super) fn of(
        arena: &Arena,
        extensions: &Extensions,
        line: u32,
        numbers: &HashMap<u32, u32>,
    ) -> Self {
        let entry = arena.entry(line);
        Self {
            id: entry.id,
            namespace: entry.namespace,
            zone: entry.zone(),
            original: arena.original(line).into(),
            reply: extensions.reply(entry).map(Into::into),
            reply_only: entry.flags & flag::REPLY_ONLY != 0,
            status: entry.status(),
            state: entry.state,
            deadline: entry.deadline,
            mark: entry.mark,
            small: entry.small,
            window: arena.tcp(line).map(Tcp::from),
            more: More::of(arena, extensions, entry, numbers),
        }
    }
}

impl More {
    fn of(
        arena: &Arena,
        extensions: &Extensions,
        entry: &Entry,
        numbers: &HashMap<u32, u32>,
    ) -> Option<Box<Self>> {
        let extension = extensions.get(entry)?;
        let has = |bit| extension.has & bit != 0;
        let counters = extension.counters.map(|[packets, bytes]| Counters { packets, bytes });
        let is_alive =
            |master: &Handle| arena.get(master.line).is_some_and(|entry| entry.id == master.id);
        let master = extensions.master(entry).filter(is_alive);
        Some(Box::new(Self {
            masquerade: extension.masquerade,
            helper: extension.helper,
            master: master.and_then(|master| numbers.get(&master.line).copied()),
            counters: has(has::COUNTERS).then_some(counters),
            start: has(has::START).then_some(extension.start),
            labels: has(has::LABELS).then_some(Labels(extension.labels)),
            adjustments: extensions.adjustments(entry).map(|both| both.sides.map(Into::into)),
            deferred: extension.deferred().0,
        }))
    }
}

/// Putting back.
impl Connection {
    /// What is wrong with it, if anything is. `namespaces` and `connections` there are.
    pub(super) fn fault(&self, namespaces: usize, connections: usize) -> Option<&'static str> {
        let original = Tuple::from(self.original);
        if !is_sound(&self.original) || original.inverted().is_none() {
            return Some("its original tuple is none");
        }
        if let Some(reply) = self.reply {
            let Tuple { family, protocol, .. } = Tuple::from(reply);
            if !is_sound(&reply) || (family, protocol) != (original.family, original.protocol) {
                return Some("its reply tuple is none, or not of its protocol");
            }
        }
        if usize::from(self.namespace) >= namespaces {
            return Some("its namespace does not exist");
        }
        if self.id == 0 {
            return Some("it has no id");
        }
        let ended = Status::DYING | Status::TEMPLATE;
        if !self.status.contains(Status::CONFIRMED) || self.status.intersects(ended) {
            return Some("its status is not that of a connection in the table");
        }
        let is_state = match original.protocol {
            protocol::TCP => TcpState::from_number(self.state).is_some(),
            protocol::SCTP => SctpState::from_number(self.state).is_some(),
            _ => true,
        };
        if !is_state {
            return Some("its state is unknown");
        }
        let is_tcp = original.protocol == protocol::TCP;
        if self.window.is_some() != is_tcp || self.window.as_ref().is_some_and(Tcp::is_odd) {
            return Some("its TCP window is missing, too much or out of range");
        }
        let master = self.more.as_ref().and_then(|more| more.master);
        if master.is_some_and(|master| master as usize >= connections) {
            return Some("its master does not exist");
        }
        None
    }

    /// Number of its master in the image.
    pub(super) fn master(&self) -> Option<u32> {
        self.more.as_ref()?.master
    }

    /// Makes a record of it, outside the index and without its master; `None` when there is no
    /// room.
    pub(super) fn put(&self, arena: &mut Arena, extensions: &mut Extensions) -> Option<u32> {
        let line = arena.record(&self.original.into())?;
        if let (Some(window), Some((_, place))) = (&self.window, arena.tcp_mut(line)) {
            *place = window.into();
        }
        let entry = arena.entry_mut(line);
        entry.id = self.id;
        entry.namespace = self.namespace;
        entry.zone = self.zone.id;
        entry.flags = flag::LISTED | zone_flags(self.zone);
        if self.reply_only {
            entry.flags |= flag::REPLY_ONLY;
        }
        entry.status = self.status.0;
        entry.state = self.state;
        entry.deadline = self.deadline;
        entry.mark = self.mark;
        entry.small = self.small;
        if let Some(reply) = self.reply {
            extensions.set_reply(line, entry, &reply.into());
        }
        if let Some(more) = &self.more {
            more.put(line, entry, extensions);
        }
        Some(line)
    }
}

impl More {
    fn put(&self, line: u32, entry: &mut Entry, extensions: &mut Extensions) {
        let extension = extensions.ensure(line, entry);
        extension.masquerade = self.masquerade;
        extension.helper = self.helper;
        extension.defer(Changes(self.deferred));
        if self.masquerade != 0 {
            entry.flags |= flag::MASQUERADED;
        }
        if self.deferred != 0 {
            entry.flags |= flag::CHANGED;
        }
        if let Some(counters) = self.counters {
            extension.has |= has::COUNTERS;
            extension.counters = counters.map(|side| [side.packets, side.bytes]);
        }
        if let Some(start) = self.start {
            extension.has |= has::START;
            extension.start = start;
        }
        if let Some(labels) = self.labels {
            extension.has |= has::LABELS;
            extension.labels = labels.0;
        }
        if let Some(sides) = self.adjustments {
            *extensions.adjust(line, entry) = Adjustments { sides: sides.map(adjustment) };
        }
    }
}

/// Whether a tuple means what it says: one family, ids as its protocol has them.
fn is_sound(tuple: &ctkeeper_flow::Tuple) -> bool {
    ctkeeper_flow::Tuple::from(Tuple::from(*tuple)) == *tuple
}

const fn zone_flags(zone: Zone) -> u8 {
    match zone.direction {
        ZoneDirection::Both => 0,
        ZoneDirection::Original => flag::ZONE_NOT_REPLY,
        ZoneDirection::Reply => flag::ZONE_NOT_ORIGINAL,
    }
}

const fn adjustment(side: SequenceAdjustment) -> Adjustment {
    Adjustment {
        correction: side.correction,
        before: side.before.cast_signed(),
        after: side.after.cast_signed(),
    }
}

impl Tcp {
    fn is_odd(&self) -> bool {
        let scales = [self.original.scale, self.reply.scale, self.last_scale];
        scales.into_iter().any(|scale| scale > LARGEST_SCALE)
            || self.last_direction > 1
            || self.last_index >= TCP_KINDS
    }
}

impl From<&TcpWindow> for Tcp {
    fn from(window: &TcpWindow) -> Self {
        let [original, reply] = window.seen.map(|side| Side {
            end: side.end,
            max_end: side.max_end,
            max_window: side.max_window,
            max_ack: side.max_ack,
            scale: side.scale,
            flags: side.flags,
        });
        Self {
            original,
            reply,
            last_direction: window.last_direction,
            last_index: window.last_index,
            retransmissions: window.retransmissions,
            last_scale: window.last_scale,
            last_sequence: window.last_sequence,
            last_acknowledgement: window.last_acknowledgement,
            last_end: window.last_end,
            last_window: window.last_window,
            last_flags: window.last_flags,
        }
    }
}

impl From<&Tcp> for TcpWindow {
    fn from(window: &Tcp) -> Self {
        let seen = [&window.original, &window.reply].map(|side| TcpSide {
            end: side.end,
            max_end: side.max_end,
            max_window: side.max_window,
            max_ack: side.max_ack,
            scale: side.scale,
            flags: side.flags,
            ..TcpSide::default()
        });
        Self {
            seen,
            last_direction: window.last_direction,
            last_index: window.last_index,
            retransmissions: window.retransmissions,
            last_scale: window.last_scale,
            last_sequence: window.last_sequence,
            last_acknowledgement: window.last_acknowledgement,
            last_end: window.last_end,
            last_window: window.last_window,
            last_flags: window.last_flags,
            ..Self::default()
        }
    }
}
