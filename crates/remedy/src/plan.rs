//! What to change, why each number, and the proof that it fits.

mod persist;
mod proof;
mod refusal;
mod size;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use ctkeeper_snapshot::{GapKind, Limit, Limits, SettingKey, Snapshot};
use serde::{Deserialize, Serialize};

pub use persist::{MODPROBE_FILE, MODULES_LOAD_FILE, SYSCTL_FILE};
pub(crate) use persist::{MODULE, module_option_text, sysctl_text, unsettled};
pub use proof::MemoryProof;
pub use refusal::Refusal;
pub use size::{LIMIT_LARGEST, buckets_in_kernel};

use ctkeeper_flow::units;
use size::Sizing;

/// Name and version of a plan's serialised form.
pub const PLAN_SCHEMA: &str = "ctkeeper.plan/1";

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The limit wanted, in entries; without it the plan chooses.
    pub target: Option<u64>,
    /// The share of free memory that connection tracking may take, above 0 and at most 1.
    pub memory_share: f64,
    /// What is to be changed.
    pub persist: Persist,
    /// How far growth is extrapolated.
    pub growth_horizon: Duration,
    /// When limit or buckets were last changed in this boot (`CLOCK_BOOTTIME`, milliseconds), as
    /// far as known: refused packets from before it say nothing about the limit that runs now.
    pub changed_at: Option<u64>,
    /// Whether this process may change running values here.
    pub access: Access,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            target: None,
            memory_share: 0.10,
            persist: Persist::Both,
            growth_horizon: Duration::from_secs(3600),
            changed_at: None,
            access: Access::Writable,
        }
    }
}

/// Which of the two places a change goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Persist {
    /// Running values only; a reboot forgets them.
    Running,
    /// Running values, and the files that keep them.
    Both,
    /// Files only; running values stay.
    FilesOnly,
}

impl Persist {
    /// Whether running values change.
    pub const fn running(self) -> bool {
        matches!(self, Self::Running | Self::Both)
    }

    /// Whether files change.
    pub const fn files(self) -> bool {
        matches!(self, Self::FilesOnly | Self::Both)
    }
}

/// What this process may do with the running values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may write them.
    Writable,
    /// `/proc/sys` is mounted read-only, as in most containers.
    ReadOnly,
    /// It lacks the privilege.
    Denied,
    /// The plan is for another place (files under a root, or to be printed): nothing of this host
    /// is changed.
    Elsewhere,
}

/// A change of limit and buckets, with the reason of every number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: String,
    /// What runs now; absent when the module is.
    pub before: Option<Limits>,
    /// What is to hold afterwards: running, after a reboot, or both.
    pub after: Limits,
    /// Running values to write, in this order.
    pub running: Vec<RunningStep>,
    /// Files to change, in this order, after the running values.
    pub files: Vec<FileStep>,
    /// The memory that `after` needs, and what there is.
    pub memory: MemoryProof,
    /// Why each number is what it is.
    pub why: Vec<Reason>,
    /// What to know beside it.
    pub notes: Vec<String>,
    /// Why the size may be chosen from a part of the host's connections alone; absent where all
    /// could be seen, or where the user chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_view: Option<String>,
}

impl Plan {
    /// Whether there is nothing to do; `why` says why.
    pub fn is_nothing(&self) -> bool {
        self.running.is_empty() && self.files.is_empty()
    }

    /// The reasons about one thing.
    pub fn why(&self, about: About) -> impl Iterator<Item = &str> {
        self.why.iter().filter(move |reason| reason.about == about).map(|r| r.text.as_str())
    }
}

/// One running value to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStep {
    /// Which.
    pub key: SettingKey,
    /// What it is now.
    pub from: u64,
    /// What it becomes.
    pub to: u64,
}

/// One file to change. Paths are the host's, without any root prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum FileStep {
    /// Write one of our own files as a whole.
    Write {
        /// The file.
        path: PathBuf,
        /// Its lines, below the header.
        lines: Vec<String>,
        /// Why it is needed.
        why: String,
    },
    /// Comment one line of somebody's file out, as it would win over ours.
    CommentOut {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
        /// The setting that it sets.
        key: SettingKey,
        /// The value that it gives, as written there.
        value: String,
        /// Whether it is a module option (modprobe.d) rather than a sysctl line.
        module_option: bool,
        /// Why it has to go.
        why: String,
    },
}

impl FileStep {
    /// The file it changes.
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::Write { path, .. } | Self::CommentOut { path, .. } => path,
        }
    }

    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Self::Write { why, .. } | Self::CommentOut { why, .. } => why,
        }
    }
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it explains.
    pub about: About,
    /// The explanation: whole sentences, safe for a terminal.
    pub text: String,
}

/// What a reason explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// The limit.
    Limit,
    /// The buckets.
    Buckets,
    /// The files.
    Files,
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Limit => "limit",
            Self::Buckets => "buckets",
            Self::Files => "files",
        })
    }
}

/// Plans a change. A plan that [is nothing](Plan::is_nothing) is an answer, not a refusal.
pub fn plan(snapshot: &Snapshot, request: &Request) -> Result<Plan, Refusal> {
    let sizing = Sizing::choose(snapshot, request)?;
    let mut plan = Plan {
        schema: PLAN_SCHEMA.to_owned(),
        before: snapshot.limits,
        after: sizing.after,
        running: Vec::new(),
        files: Vec::new(),
        memory: sizing.proof,
        why: sizing.why,
        notes: sizing.notes,
        partial_view: partial_view(snapshot).filter(|_| request.target.is_none()),
    };
    if let (true, Some(before)) = (request.persist.running(), snapshot.limits) {
        plan.running = running_steps(before, plan.after);
    }
    if request.persist.files() {
        persist::add_files(&mut plan, snapshot);
    } else if !plan.running.is_empty() {
        plan.notes.push("nothing is written to files: a reboot forgets this change".to_owned());
    }
    plan.notes.extend(size::log_hint(snapshot, request));
    plan.notes.extend(size::running_stays_too_small(snapshot, request, plan.after.limit));
    add_notes(&mut plan, snapshot);
    match sizing.unmet {
        Some(refusal) if plan.is_nothing() => return Err(refusal),
        Some(refusal) => plan.notes.push(refusal.to_string()),
        None => {}
    }
    check_access(&plan, snapshot, request)?;
    Ok(plan)
}

/// Buckets go before a higher limit, so that no moment has more entries than the table is made
/// for; a lower limit goes first, for the same reason.
fn running_steps(before: Limits, after: Limits) -> Vec<RunningStep> {
    let step = |key, from, to| (from != to).then_some(RunningStep { key, from, to });
    let limit = step(SettingKey::Limit, before.limit.0, after.limit.0);
    let buckets = step(SettingKey::Buckets, before.buckets, after.buckets);
    if is_lower(after.limit, before.limit) {
        limit.into_iter().chain(buckets).collect()
    } else {
        buckets.into_iter().chain(limit).collect()
    }
}

fn is_lower(limit: Limit, than: Limit) -> bool {
    limit.entries().unwrap_or(u64::MAX) < than.entries().unwrap_or(u64::MAX)
}

/// A plan that would change running values must be able to.
fn check_access(plan: &Plan, snapshot: &Snapshot, request: &Request) -> Result<(), Refusal> {
    if plan.is_nothing() || request.access == Access::Elsewhere {
        return Ok(());
    }
    if !snapshot.taken.in_initial_namespace {
        return Err(Refusal::NotInitialNamespace { on_the_host: on_the_host(plan) });
    }
    match request.access {
        Access::ReadOnly if !plan.running.is_empty() => {
            Err(Refusal::ReadOnly { on_the_host: on_the_host(plan) })
        }
        Access::Denied => Err(Refusal::NoPrivilege),
        _ => Ok(()),
    }
}

/// What to run where it can be run.
fn on_the_host(plan: &Plan) -> Vec<String> {
    vec![format!("ctkeeper fix --target {}", plan.after.limit.0)]
}

fn partial_view(snapshot: &Snapshot) -> Option<String> {
    if !snapshot.taken.in_initial_namespace {
        Some("this is not the host's initial network namespace (a container?)".to_owned())
    } else if snapshot.gaps.iter().any(|gap| gap.kind == GapKind::Privilege) {
        Some("not every namespace could be seen (not root, or hidden processes)".to_owned())
    } else {
        None
    }
}

fn add_notes(plan: &mut Plan, snapshot: &Snapshot) {
    for writer in &snapshot.settings.other_writers {
        let writer = ctkeeper_flow::hostile::masked(writer);
        plan.notes.push(format!(
            "{writer} runs here and is known to write these settings: it may overwrite this{}",
            if writer.contains("kube-proxy") {
                "; `ctkeeper fix --emit kube-proxy` shows its configuration"
            } else {
                ""
            }
        ));
    }
    if let Some(part) = partial_view(snapshot) {
        plan.notes.push(format!("size and memory are reckoned from a partial view: {part}"));
    }
    if !plan.memory.entry_measured {
        plan.notes.push(format!(
            "the size of an entry could not be read here (/proc/slabinfo wants root); reckoned \
             with {} bytes",
            units::count(plan.memory.entry_bytes)
        ));
    }
}
