//! The rules.

mod boot;
mod doubles;
mod entries;
mod expectations;
mod log;
mod pace;
mod pairs;
mod room;
mod size;
mod table;
mod traffic;
mod view;
mod walls;

use crate::Finding;
use crate::context::Context;

/// A rule: when it speaks, and what there is to know about it.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its id, stable across versions: `table-full`.
    pub id: &'static str,
    /// What it looks for, in a line.
    pub title: &'static str,
    /// What `ctkeeper explain` prints.
    pub explanation: Explanation,
    pub(crate) judge: fn(&Context<'_>) -> Vec<Finding>,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A finding in full.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// What happens and why it matters.
    pub why: &'static str,
    /// What the rule looks at, and when it speaks.
    pub evidence: &'static str,
    /// What to do, best first.
    pub remedies: &'static str,
    /// What goes wrong with the usual answers.
    pub traps: &'static str,
}

/// Every rule. The order is that of the report within a severity.
pub const RULES: &[Rule] = &[
    view::NOTHING_SEEN,
    view::PRIVILEGE_MISSING,
    view::MODULE_ABSENT,
    table::TABLE_FULL,
    walls::SNAT_PORTS,
    traffic::EARLY_DROP,
    table::NEARLY_FULL,
    size::SECOND_WALL,
    expectations::EXPECTATIONS_FULL,
    walls::CLASH,
    traffic::INVALID_PACKETS,
    room::LOCKED,
    room::SOFT,
    size::MEMORY_AT_LIMIT,
    size::UNLIMITED,
    boot::LOST_AT_BOOT,
    boot::NOT_PERSISTED,
    boot::DIFFERS_FROM_PERSISTED,
    boot::READERS_DISAGREE,
    log::KERNEL_LOG,
    pairs::TWO_ENTRIES,
    doubles::TRACKED_TWICE,
    entries::IDLE_ESTABLISHED,
    entries::WHY_TRACKED,
    view::UNFINISHED_CHANGE,
    view::BROKEN_FILE,
    view::INCOMPLETE_VIEW,
];

/// The rule of an id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}
