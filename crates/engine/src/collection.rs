//! The table as its collector sees it.

use crate::collector::Collectable;
use crate::entry::{Entry, flag};
use crate::index::Index;
use crate::table::Table;
use crate::time::Ticks;

impl Collectable for Table {
    fn buckets(&self) -> u32 {
        match &self.index {
            Index::Exact(chains) => chains.buckets(),
            Index::Fast(_) => 0,
        }
    }

    fn chain(&self, bucket: u32, lines: &mut Vec<u32>) {
        if let Index::Exact(chains) = &self.index {
            lines.extend(chains.chain(bucket as usize, &self.records()).map(|(line, _)| line));
        }
    }

    fn places(&self) -> usize {
        self.arena.places()
    }

    fn scan(&self, cursor: u32, places: usize, visit: impl FnMut(u32, &Entry)) -> u32 {
        self.arena.scan(cursor, places, visit)
    }

    fn entry(&self, line: u32) -> &Entry {
        self.arena.entry(line)
    }

    fn count(&self, namespace: u16) -> u32 {
        self.namespaces.get(usize::from(namespace)).map_or(0, |namespace| namespace.count)
    }

    fn limit(&self) -> u32 {
        self.limit
    }

    fn end(&mut self, now: Ticks, lines: &[u32]) {
        if let Index::Fast(fast) = &self.index {
            for line in lines {
                fast.prefetch(self.arena.entry(*line).hash);
            }
        }
        for &line in lines {
            let entry = self.arena.entry(line);
            if entry.flags & flag::LISTED != 0 {
                let late = now.after(entry.deadline()).max(0).cast_unsigned();
                self.latest = self.latest.max(late);
                Self::end(self, now, line);
            }
        }
    }

    fn end_expectations(&mut self, now: Ticks, line: u32) {
        self.collect_expectations(now, line);
    }
}
