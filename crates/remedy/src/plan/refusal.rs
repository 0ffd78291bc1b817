//! Why no plan is made.

use thiserror::Error;

use ctkeeper_flow::units;

/// Why a change is not planned: what was asked, the numbers, and what to do.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The target is below what a namespace holds now: it would refuse connections at once.
    #[error(
        "a limit of {} is below the {} entries that {namespace} holds now: it would refuse every \
         new connection at once; ask for more (`--target {}`), or free entries first",
        units::count(*.target), units::count(*.count), .count.saturating_mul(2)
    )]
    BelowRunningCount {
        /// The limit asked for.
        target: u64,
        /// The fullest namespace.
        namespace: String,
        /// What it holds.
        count: u64,
    },
    /// The limit needs more memory than the share allows.
    #[error(
        "a limit of {} needs {} (one namespace at the limit, the others at 1.5 times what they \
         hold, the buckets), and {} of the {} free are {}; {}",
        units::count(*.limit), units::mebibytes(*.needed), units::percent(*.share), units::mebibytes(*.free),
        units::mebibytes(*.budget), way_out(*.needed, *.free, *.largest)
    )]
    BeyondMemory {
        /// The limit asked for or needed.
        limit: u64,
        /// What it needs, bytes.
        needed: u64,
        /// What is available and not reserved, bytes.
        free: u64,
        /// The share that may be taken.
        share: f64,
        /// That share of it, bytes.
        budget: u64,
        /// The highest limit that fits in it.
        largest: u64,
    },
    /// The running limit is 0: unlimited. There is nothing to raise.
    #[error(
        "the running limit is 0, which this kernel takes as unlimited: there is nothing to raise, \
         and memory is all that ends it (newer kernels refuse the value); to set a limit, name it: \
         `ctkeeper fix --target {suggestion}`"
    )]
    Unlimited {
        /// A limit that fits.
        suggestion: u64,
    },
    /// The target is no number of entries that the kernel takes.
    #[error(
        "a limit of {target} is outside 1 to {LARGEST}, what the kernel takes (0 would mean \
         unlimited, which leaves the memory without a guard)",
        LARGEST = super::LIMIT_LARGEST
    )]
    OutOfRange {
        /// The limit asked for.
        target: u64,
    },
    /// The memory share is not above 0 and at most 1.
    #[error("a memory share of {0} is not above 0 % and at most 100 %; 10 % is the default")]
    ImpossibleShare(f64),
    /// Connection tracking is not in this kernel.
    #[error(
        "connection tracking is not loaded here: there is no running value to change; to have a \
         limit in files for when it is, `ctkeeper fix --persist --target N`"
    )]
    ModuleAbsent,
    /// Limit and buckets could not be read.
    #[error(
        "the running limit and buckets could not be read ({cause}): nothing can be planned from \
         them; look from the host itself, or name a limit for the files alone: \
         `ctkeeper fix --persist --target N`"
    )]
    LimitsUnreadable {
        /// Why.
        cause: String,
    },
    /// How much memory there is could not be read: no proof can be made.
    #[error(
        "how much memory there is could not be read ({cause}): no limit can be shown to fit; look \
         from the host itself, where /proc is whole"
    )]
    MemoryUnreadable {
        /// Why.
        cause: String,
    },
    /// Something runs, and no namespace's count could be read: no limit can be told to suffice.
    #[error(
        "how many entries there are could not be read ({cause}): nothing can be planned without \
         it; run `sudo ctkeeper fix`"
    )]
    CountsUnreadable {
        /// Why.
        cause: String,
    },
    /// The process stands in a network namespace of its own, where both values are read-only.
    #[error(
        "limit and buckets belong to the host and are read-only in this network namespace; on the \
         host, run: {}", .on_the_host.join(" && ")
    )]
    NotInitialNamespace {
        /// What to run on the host.
        on_the_host: Vec<String>,
    },
    /// `/proc/sys` is mounted read-only.
    #[error(
        "/proc/sys is mounted read-only here (a container?): running values cannot be changed from \
         inside; on the host, run: {}", .on_the_host.join(" && ")
    )]
    ReadOnly {
        /// What to run on the host.
        on_the_host: Vec<String>,
    },
    /// The caller may not change settings.
    #[error("changing limit, buckets and their files takes root; run `sudo ctkeeper fix`")]
    NoPrivilege,
}

fn way_out(needed: u64, free: u64, largest: u64) -> String {
    let lower = match largest {
        0 => "and no limit fits".to_owned(),
        largest => format!("`--target {largest}` fits"),
    };
    match share_that_allows(needed, free) {
        Some(share) => format!("`--memory-share {share}%` allows it, {lower}"),
        None => format!("that is more than there is, {lower}"),
    }
}

/// The whole percentage of `free` that covers `needed`, if 100 % does.
fn share_that_allows(needed: u64, free: u64) -> Option<u64> {
    let share = (needed as f64 / free.max(1) as f64 * 100.0).ceil() as u64;
    (share <= 100).then_some(share)
}

impl Refusal {
    /// The `--memory-share` in whole percents that would allow it, where memory is the reason and
    /// there is enough of it.
    pub fn memory_share_that_allows(&self) -> Option<u64> {
        match self {
            Self::BeyondMemory { needed, free, .. } => share_that_allows(*needed, *free),
            _ => None,
        }
    }
}
