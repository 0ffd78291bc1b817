//! The entries that a change is about: read, shown in part, read again before they are touched.

use std::collections::HashSet;

use ctkeeper_flow::{Filter, Flow, Status, Tuple, Zone};
use ctkeeper_netlink::Conntrack;

use super::agreement::SAMPLE;
use super::filter::{Carried, FilterArgs, kernel_filter};
use super::list::nanoseconds_since_epoch;
use crate::exit::UsageError;

/// What finds an entry again, and what a change of it has to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    tuple: Tuple,
    zone: Zone,
    id: Option<u32>,
    status: Status,
}

impl Found {
    fn of(flow: &Flow) -> Self {
        Self { tuple: flow.original, zone: flow.zone, id: flow.id, status: flow.status }
    }

    /// What tells it from every other one: ids alone may meet.
    fn identity(&self) -> (Tuple, Zone, Option<u32>) {
        (self.tuple, self.zone, self.id)
    }

    /// Whether nothing changes its timeout any more.
    pub(super) const fn is_fixed(&self) -> bool {
        self.status.contains(Status::FIXED_TIMEOUT)
    }

    /// The entry, as far as naming it goes.
    pub(super) fn flow(&self) -> Flow {
        let Self { tuple, zone, id, status } = *self;
        Flow { original: tuple, zone, id, status, ..Flow::default() }
    }
}

/// The entries of a table that a filter means.
#[derive(Debug, Default)]
pub(super) struct Matching {
    pub(super) found: Vec<Found>,
    pub(super) sample: Vec<Flow>,
    /// How many of them have an address translated.
    pub(super) translated: u64,
    /// Entries that were read and not meant, as far as the kernel sent them.
    pub(super) carried: Carried,
    pub(super) undecodable: u64,
}

impl Matching {
    /// Reads them; again from the start if the table is rebuilt meanwhile.
    pub(super) fn read(table: &mut Conntrack, filter: &Filter) -> anyhow::Result<Self> {
        let now = nanoseconds_since_epoch();
        let (mut matching, dump) = table.fold(&kernel_filter(filter), |all: &mut Self, flow| {
            all.carried.look(flow);
            if filter.matches(flow, now) {
                all.take(flow);
            }
        })?;
        matching.undecodable = dump.undecodable;
        Ok(matching)
    }

    fn take(&mut self, flow: &Flow) {
        self.found.push(Found::of(flow));
        self.translated += u64::from(flow.status.intersects(Status::SRC_NAT | Status::DST_NAT));
        if self.sample.len() < SAMPLE {
            self.sample.push(flow.clone());
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.found.len() as u64
    }

    /// Leaves those that still are what they were when they were agreed to: an answer takes its
    /// time, and the table goes on.
    pub(super) fn recheck(&mut self, table: &mut Conntrack, filter: &Filter) -> anyhow::Result<()> {
        let agreed: HashSet<_> = self.found.iter().map(Found::identity).collect();
        *self = Self::read(table, filter)?;
        self.found.retain(|found| agreed.contains(&found.identity()));
        Ok(())
    }
}

/// The filter, which must say something.
pub(super) fn filter_that_says(args: &FilterArgs, instead: &str) -> anyhow::Result<Filter> {
    let filter = args.compile()?;
    if filter.is_everything() {
        return Err(UsageError(format!("which entries? Give a filter; {instead}")).into());
    }
    Ok(filter)
}
