//! The live reader: assembles a [`Snapshot`] of this host.
//!
//! Looking never changes the host: no module is loaded, no table made, no entry deleted. The only
//! thing written is, if asked for, a note of the counters for the next look ([`Options::note`]), so
//! that rates are known without waiting. The caller's thread is never moved between namespaces.

mod deep;
mod doubles;
mod gaps;
mod ghosts;
mod note;
mod pairs;
mod pulse;
mod targets;
mod who;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ctkeeper_flow::Limits;
use ctkeeper_host::{kernel_log, machine, memory, module, settings, sysctl};
use ctkeeper_netlink::netns::NamespaceSelector;
use ctkeeper_snapshot::{
    EvidenceSource, Gap, GapKind, ModuleState, Namespace, SCHEMA, Snapshot, Taken,
};
use thiserror::Error;

pub use ghosts::{GhostSearch, Judged};
pub use note::DEFAULT_NOTE;
use pulse::{Look, Pulse};
pub use who::{Watcher, WhoOptions};

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which namespaces.
    pub namespaces: Selection,
    /// Look twice, this far apart, to see what moves.
    pub window: Option<Duration>,
    /// Where the counters of this look are kept for the next one; absent: nowhere, and the last
    /// look's are not read.
    pub note: Option<PathBuf>,
    /// Whether this look leaves its counters in the note; else the last look's stay there.
    pub leave_note: bool,
    /// Entries to sample of a namespace that is worth it.
    pub sample: u64,
    /// Where the files of the host stand: `/`, or a copy of them.
    pub root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespaces: Selection::All,
            window: None,
            note: None,
            leave_note: true,
            sample: 5000,
            root: PathBuf::from("/"),
        }
    }
}

/// Which namespaces to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every one that can be found.
    All,
    /// One.
    One(NamespaceSelector),
}

/// Why there is no snapshot at all; whatever else is missing stands in its gaps.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The namespace that was asked for cannot be found or entered.
    #[error(transparent)]
    Namespace(#[from] ctkeeper_netlink::Error),
}

/// Takes snapshots, one after the other; each knows how the numbers moved since the one before.
#[derive(Debug)]
pub struct Observer {
    options: Options,
    before: Option<(Pulse, EvidenceSource)>,
}

impl Observer {
    /// An observer that remembers the last look's note, if there is one.
    pub fn new(options: Options) -> Self {
        let noted = options.note.as_deref().and_then(note::read);
        let before = noted.map(|pulse| (pulse, EvidenceSource::LastRun));
        Self { options, before }
    }

    /// Looks at the host, after a first look and a wait if a window was asked for.
    pub fn snapshot(&mut self) -> Result<Snapshot, ObserveError> {
        let module = module::state();
        if !module.is_present() {
            return Ok(self.without_tracking(module));
        }
        if let Some(window) = self.options.window {
            let first = pulse::take(&self.options.namespaces)?.pulse;
            self.before = Some((first, EvidenceSource::Window));
            thread::sleep(window);
        }
        self.look(module)
    }

    fn look(&mut self, module: ModuleState) -> Result<Snapshot, ObserveError> {
        let Look { pulse, targets, mut gaps } = pulse::take(&self.options.namespaces)?;
        let mut namespaces = pulse.namespaces(&targets, self.before.as_ref());
        let (limits, gap) = running_limits();
        gaps.extend(gap);
        gaps.extend(deep::look(&mut namespaces, &targets, self.options.sample));
        self.remember(pulse);
        Ok(self.assemble(module, limits, namespaces, gaps))
    }

    /// The next look is held against this one; a note that cannot be written is no failure of
    /// looking.
    fn remember(&mut self, mut pulse: Pulse) {
        // A look at all namespaces has seen who has gone: their numbers would be held against
        // those of whoever gets their inode next.
        if let (Some((earlier, _)), Selection::One(_)) = (&self.before, &self.options.namespaces) {
            pulse.keep_unseen(earlier);
        }
        if let (Some(path), true) = (&self.options.note, self.options.leave_note) {
            note::write(path, &pulse);
        }
        self.before = Some((pulse, EvidenceSource::Window));
    }

    fn without_tracking(&self, module: ModuleState) -> Snapshot {
        let unknown = (module == ModuleState::Unknown).then(|| Gap {
            kind: GapKind::Unavailable,
            what: "whether this kernel tracks connections".to_owned(),
            cause: "/proc and /sys do not show it".to_owned(),
            remedy: "mount /proc and /sys, or look from the host".to_owned(),
        });
        self.assemble(module, None, Vec::new(), unknown.into_iter().collect())
    }

    fn assemble(
        &self,
        module: ModuleState,
        limits: Option<Limits>,
        namespaces: Vec<Namespace>,
        mut gaps: Vec<Gap>,
    ) -> Snapshot {
        let (memory, memory_gaps) = memory::read();
        let taken = taken();
        let running = settings::RunningValues {
            limits,
            module,
            memory_total: memory.total,
            kernel_release: taken.kernel.clone(),
        };
        let (settings, settings_gaps) = settings::read(&self.options.root, &running);
        let (log, log_gaps) = kernel_log::read();
        gaps.extend(memory_gaps);
        gaps.extend(settings_gaps);
        gaps.extend(log_gaps);
        Snapshot {
            schema: SCHEMA.to_owned(),
            taken,
            module,
            limits,
            memory,
            namespaces,
            settings,
            log,
            unfinished_change: None,
            gaps,
        }
    }
}

fn running_limits() -> (Option<Limits>, Option<Gap>) {
    match sysctl::limits() {
        Ok(limits) => (Some(limits), None),
        Err(error) => (None, Some(error.gap("limit and buckets"))),
    }
}

fn taken() -> Taken {
    Taken {
        ctkeeper: env!("CARGO_PKG_VERSION").to_owned(),
        in_initial_namespace: sysctl::in_initial_namespace().unwrap_or(false),
        ..machine::taken()
    }
}
