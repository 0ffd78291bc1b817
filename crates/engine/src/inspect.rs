//! Looking connections up and ending them from outside, as `conntrack -G`, `-D` and `-F` do.

use ctkeeper_flow::{Direction, Zone};

use crate::engine::Engine;
use crate::entry::flag;
use crate::event::Changes;
use crate::outcome::Handle;
use crate::table::Place;
use crate::time::{Ticks, Time};
use crate::tuple::Tuple;

impl Engine {
    /// The connection that has a tuple in one of its directions, and which direction that is.
    ///
    /// As for a packet with that tuple: one that has expired is not found, and ends.
    pub fn find(
        &mut self,
        now: Time,
        namespace: u16,
        zone: Zone,
        tuple: &Tuple,
    ) -> Option<(Handle, Direction)> {
        let place = Place { namespace, zone };
        let (line, direction) = self.table.lookup(Ticks::at(now), place, tuple)?;
        Some((self.table.handle(line), direction))
    }

    /// Ends a connection, as `conntrack -D` does; whether it was there.
    pub fn end(&mut self, now: Time, connection: Handle) -> bool {
        let line = self.table.resolve(connection);
        if let Some(line) = line {
            self.table.end(Ticks::at(now), line);
        }
        line.is_some()
    }

    /// Ends every connection of a namespace, as `conntrack -F` does; how many.
    pub fn flush(&mut self, now: Time, namespace: u16) -> usize {
        let mut all = Vec::new();
        self.table.arena.scan(0, usize::MAX, |line, entry| {
            if entry.flags & flag::LISTED != 0 && entry.namespace == namespace {
                all.push(line);
            }
        });
        for line in &all {
            self.table.end(Ticks::at(now), *line);
        }
        all.len()
    }

    /// Gives a connection a mark, as `conntrack -U --mark` does; whether it was there.
    pub fn set_mark(&mut self, now: Time, connection: Handle, mark: u32) -> bool {
        let Some(line) = self.table.resolve(connection) else { return false };
        let entry = self.table.arena.entry_mut(line);
        if entry.mark != mark {
            entry.mark = mark;
            self.table.tell(Ticks::at(now), line, Changes::MARK);
        }
        true
    }
}
