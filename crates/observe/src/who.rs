//! Who holds the entries: counts every namespace's table by holder or by another property.
//!
//! A namespace that one holder has for itself is not read: its count is the holder's. Of the others
//! so many entries are read as make each row above 5 % known to ±1 point; a small table is read
//! whole, and every table if that is asked for.

mod holders;
mod twice;

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ctkeeper_census::{Clock, Counter, Panel, Stopping, TableFacts};
use ctkeeper_flow::{Flow, Timeouts};
use ctkeeper_host::roster::{Evidence, Reader};
use ctkeeper_host::runtimes::{self, Directory, Names};
use ctkeeper_host::{machine, module, sysctl};
use ctkeeper_netlink::{Conntrack, DumpFilter, netns};
use ctkeeper_snapshot::{
    EvidenceSource, Gap, HolderIndex, Key, Namespace, Roster, Table, WHO_SCHEMA, Who,
};

use crate::pulse::{self, Look, Pulse};
use crate::targets::Target;
use crate::{ObserveError, Selection, gaps, taken};
pub(crate) use holders::name_holders;

/// What to count.
#[derive(Clone, Debug)]
pub struct WhoOptions {
    /// Which namespaces.
    pub namespaces: Selection,
    /// What a row stands for: one property, or two different ones.
    pub by: Vec<Key>,
    /// Rows wanted.
    pub top: usize,
    /// Whether every entry is to be read.
    pub exact: bool,
    /// Entries read of a table that is not read whole, at most.
    pub sample: u64,
    /// Runtimes to ask beside those that are found: `unix:///path`, or a path.
    pub runtimes: Vec<String>,
}

impl Default for WhoOptions {
    fn default() -> Self {
        Self {
            namespaces: Selection::All,
            by: vec![Key::Holder],
            top: 20,
            exact: false,
            sample: SAMPLE,
            runtimes: Vec::new(),
        }
    }
}

/// Entries that make every share known to ±1 point with 95 % confidence, whatever the table holds:
/// most tables need fewer.
const SAMPLE: u64 = 13_000;
/// Entries that the samples of all tables together may walk over, beside those that they read: a
/// dump walks the table of all namespaces, at 0.4 us an entry, to find those of one. About 60 ms.
const WALK_BUDGET: u64 = 150_000;

/// Counts again and again; each look knows how the rows grew since the one before.
#[derive(Debug)]
pub struct Watcher {
    options: WhoOptions,
    directory: Directory,
    reader: Reader,
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    pulse: Pulse,
    panel: Option<Panel>,
    at: Instant,
}

impl Watcher {
    /// One that has not looked yet.
    pub fn new(options: WhoOptions) -> Self {
        let directory = Directory::new(options.runtimes.clone(), runtimes::BUDGET);
        Self { options, directory, reader: Reader::default(), before: None }
    }

    /// What is counted from the next look on. Growth is known again after the look behind that.
    pub fn set_by(&mut self, by: Vec<Key>) {
        if self.options.by != by {
            self.options.by = by;
            self.before = None;
        }
    }

    /// Looks twice, so far apart, and tells how the rows grew.
    pub fn look_twice(&mut self, window: Duration) -> Result<Who, ObserveError> {
        self.look()?;
        thread::sleep(window);
        self.look()
    }

    /// Counts.
    pub fn look(&mut self) -> Result<Who, ObserveError> {
        let began = Instant::now();
        if !module::state().is_present() {
            return Ok(Who { gaps: vec![gaps::no_tracking()], ..self.empty(began) });
        }
        let Look { pulse, targets, mut gaps } = pulse::take(&self.options.namespaces)?;
        let takes_owned = takes_owned(&self.options.by);
        let whole: Vec<u64> = targets.iter().map(Target::inode).filter(|_| !takes_owned).collect();
        let mut roster = read_roster(&mut self.directory, &mut self.reader, &whole, &mut gaps);
        let before = self.before.take();
        let known = before.as_ref().map(|b| (b.pulse.clone(), EvidenceSource::Window));
        let namespaces = pulse.namespaces(&targets, known.as_ref());
        let read = self.read(&namespaces, &targets, &roster, &mut gaps);
        for one in &read {
            gaps.extend(one.add_sockets(&mut self.reader, &mut roster, self.directory.names()));
        }
        let Some(mut counter) = Counter::new(&self.options.by, &roster) else {
            return Ok(self.empty(began));
        };
        let old = before.as_ref().and_then(|before| before.panel.as_ref());
        counter.keep_panel(old);
        for one in &read {
            gaps.extend(one.count(&mut counter));
        }
        let window = before.as_ref().map(|before| began.duration_since(before.at));
        let growth = old.zip(counter.panel()).zip(window);
        let growth = growth.map(|((old, now), window)| now.growth_since(old, window.as_secs_f64()));
        let mut rows = counter.rows(self.options.top, growth.as_ref());
        twice::mark(&mut rows.rows, &read, &roster);
        let mut tables = counter.tables();
        add_rates(&mut tables, &namespaces);
        let who = Who {
            tables,
            rows: rows.rows,
            other: rows.other,
            others: rows.others,
            window_ms: window.map(|window| window.as_millis() as u64),
            gaps,
            ..self.empty(began)
        };
        self.before = Some(Before { pulse, panel: counter.take_panel(), at: began });
        Ok(who)
    }

    /// An answer without tables.
    fn empty(&self, began: Instant) -> Who {
        Who {
            schema: WHO_SCHEMA.to_owned(),
            taken: taken(),
            by: self.options.by.clone(),
            tables: Vec::new(),
            rows: Vec::new(),
            other: None,
            others: 0,
            window_ms: None,
            elapsed_ms: began.elapsed().as_secs_f64() * 1000.0,
            gaps: Vec::new(),
        }
    }

    /// Reads what is needed of each table, the fullest first.
    fn read(
        &self,
        namespaces: &[Namespace],
        targets: &[Target],
        roster: &Roster,
        gaps: &mut Vec<Gap>,
    ) -> Vec<Read> {
        let takes_owned = takes_owned(&self.options.by);
        let total: u64 = namespaces.iter().map(|namespace| namespace.count).sum();
        let mut fullest: Vec<_> = namespaces.iter().collect();
        fullest.sort_by_key(|namespace| Reverse(namespace.count));
        let is_one = matches!(self.options.namespaces, Selection::One(_));
        let mut budget = if is_one { u64::MAX } else { WALK_BUDGET };
        let mut read = Vec::new();
        for namespace in fullest {
            let Some(target) = targets.iter().find(|target| target.inode() == namespace.inode)
            else {
                continue;
            };
            let owner = roster.views.get(&namespace.inode).and_then(|view| view.owner);
            let content = match owner.filter(|_| takes_owned) {
                _ if namespace.count == 0 => Content::Nothing,
                Some(owner) => Content::Owned(owner),
                None if self.options.exact => Content::Whole,
                None => match walk(namespace.count, total, self.options.sample) {
                    walk if walk > budget => Content::Nothing,
                    walk => {
                        budget -= walk;
                        self.sample(namespace, target, roster, gaps)
                    }
                },
            };
            read.push(Read::new(namespace, target, content));
        }
        read
    }

    /// Reads entries until the rows that they make are known well enough. Sockets come later, as the
    /// entries tell which are wanted: the rule reckons with what they will divide.
    fn sample(
        &self,
        namespace: &Namespace,
        target: &Target,
        roster: &Roster,
        gaps: &mut Vec<Gap>,
    ) -> Content {
        let Some(mut counter) = Counter::new(&self.options.by, roster) else {
            return Content::Nothing;
        };
        let facts = TableFacts {
            inode: namespace.inode,
            count: namespace.count,
            limit: namespace.limit,
            ..TableFacts::default()
        };
        let mut table = counter.table(facts, Clock::default());
        let mut stopping = Stopping::new(namespace.count, self.options.sample);
        let mut flows = Vec::new();
        let sample = target.open().and_then(|handle| {
            Conntrack::open_in(&handle)?.dump(&DumpFilter::ALL, |flow| {
                table.add(flow);
                flows.push(flow.clone());
                if stopping.is_enough(&table) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        });
        drop(table);
        let sample = sample.map(|dump| Content::Sample(flows, dump.complete));
        sample.unwrap_or_else(|error| {
            gaps.extend(gaps::of_sample(&error, target.inode()));
            Content::Nothing
        })
    }
}

/// Who is there, with the names that runtimes give; `whole` as [`Reader::read`] has it.
fn read_roster(
    directory: &mut Directory,
    reader: &mut Reader,
    whole: &[u64],
    gaps: &mut Vec<Gap>,
) -> Roster {
    let namespaces = netns::enumerate();
    let mut reading = reader.read(&namespaces, directory.names(), whole);
    if directory.has_learnt(&reading.roster.holders) {
        reading = reader.read(&namespaces, directory.names(), whole);
    }
    gaps.extend(directory.gaps().iter().cloned().chain(reading.gaps));
    reading.roster
}

/// Adds the sockets that entries of a namespace lead to.
fn add_sockets(
    reader: &mut Reader,
    roster: &mut Roster,
    names: &Names,
    target: &Target,
    flows: Option<&[Flow]>,
) -> Option<Gap> {
    // Whoever cannot be opened has been told of by who tried first.
    let namespace = target.open().ok()?;
    reader.add_sockets(roster, &namespace, names, flows, Evidence::Groups)
}

/// Whether rows by these keys need nothing of a table but whose it is.
fn takes_owned(by: &[Key]) -> bool {
    Counter::new(by, &Roster::default()).is_some_and(|counter| counter.takes_owned())
}

/// Entries that a sample of a namespace walks over.
fn walk(count: u64, total: u64, sample: u64) -> u64 {
    (sample.saturating_mul(total) / count.max(1)).min(total)
}

/// What was read of one namespace.
#[derive(Debug)]
struct Read {
    facts: TableFacts,
    target: Target,
    timeouts: Option<Timeouts>,
    at_ms: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// The holder's, all of it.
    Owned(HolderIndex),
    /// Some entries, or all.
    Sample(Vec<Flow>, bool),
    /// Read when it is counted: it would be too much to keep.
    Whole,
    /// Empty, unreadable, or too dear to read beside so large a table of others.
    Nothing,
}

impl Read {
    fn new(namespace: &Namespace, target: &Target, content: Content) -> Self {
        let facts = TableFacts {
            inode: namespace.inode,
            name: namespace.label(),
            count: namespace.count,
            limit: namespace.limit,
        };
        let needs_timeouts = matches!(content, Content::Sample(..) | Content::Whole);
        let timeouts = needs_timeouts.then(|| {
            let read =
                target.open().and_then(|handle| netns::enter(&handle, |_| sysctl::timeouts()));
            read.ok().and_then(Result::ok)
        });
        let (at_ms, timeouts) = (machine::boottime_ms(), timeouts.flatten());
        Self { facts, target: target.clone(), timeouts, at_ms, content }
    }

    fn add_sockets(&self, reader: &mut Reader, roster: &mut Roster, names: &Names) -> Option<Gap> {
        let flows = match &self.content {
            Content::Sample(flows, _) => Some(flows.as_slice()),
            Content::Whole => None,
            Content::Owned(_) | Content::Nothing => return None,
        };
        add_sockets(reader, roster, names, &self.target, flows)
    }

    fn count(&self, counter: &mut Counter<'_>) -> Option<Gap> {
        let facts = self.facts.clone();
        let clock = || clock(self.at_ms, self.timeouts.as_ref());
        match &self.content {
            Content::Owned(owner) => counter.add_owned(facts, *owner),
            Content::Nothing => counter.table(facts, clock()).finish(self.facts.count == 0),
            Content::Sample(flows, complete) => {
                let mut table = counter.table(facts, clock());
                for flow in flows {
                    table.add(flow);
                }
                table.finish(*complete);
            }
            Content::Whole => {
                let mut table = counter.table(facts, clock());
                let dump = self.target.open().and_then(|handle| {
                    Conntrack::open_in(&handle)?.dump(&DumpFilter::ALL, |flow| {
                        table.add(flow);
                        ControlFlow::Continue(())
                    })
                });
                table.finish(dump.as_ref().is_ok_and(|dump| dump.complete));
                return dump.err().and_then(|error| gaps::of_sample(&error, self.facts.inode));
            }
        }
        None
    }
}

fn clock(at_ms: u64, timeouts: Option<&Timeouts>) -> Clock {
    let unix_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    Clock::new(at_ms, unix_ms.map(|since| since.as_millis() as u64), timeouts)
}

fn add_rates(tables: &mut [Table], namespaces: &[Namespace]) {
    for table in tables {
        let namespace = namespaces.iter().find(|namespace| namespace.inode == table.inode);
        if let Some(rates) = namespace.and_then(|namespace| namespace.rates.as_ref()) {
            table.refused_per_second = Some(rates.per_second(rates.refused_when_full() as f64));
            table.growth = Some(rates.per_second(rates.count_change as f64));
        }
    }
}
