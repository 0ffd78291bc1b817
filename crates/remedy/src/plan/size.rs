//! How large: the limit that is wished for, and the limit and buckets that fit.

use std::time::Duration;

use ctkeeper_host::settings;
use ctkeeper_snapshot::{
    EvidenceSource, GapKind, Limit, Limits, ModuleState, Namespace, Origin, SettingKey, Snapshot,
};

use super::persist::wanted_by_files;
use super::proof::{Memory, MemoryProof};
use super::{About, Access, Persist, Reason, Refusal, Request};
use ctkeeper_flow::hostile::masked;
use ctkeeper_flow::units;

/// The highest limit: the kernel's variable is an `int` in most versions.
pub const LIMIT_LARGEST: u64 = i32::MAX as u64;

/// A limit cut down to fit memory is a multiple of this.
const CUT_STEP: u64 = 1024;

/// A table counts as full from here on: there the kernel begins to evict what is closing
/// (`nf_conntrack_max95`, net/netfilter/nf_conntrack_core.c).
const FULL: f64 = 0.95;

/// How many times the limit is wished for when demand above it is unknown.
const TIMES_WHEN_FULL: u64 = 4;

/// The buckets that the kernel makes when asked for `buckets`.
pub fn buckets_in_kernel(buckets: u64) -> u64 {
    let page = settings::round_up(1);
    settings::round_up(buckets.clamp(1, settings::MOST_BUCKETS / page * page))
}

/// The limit and buckets chosen.
pub(super) struct Sizing {
    pub(super) after: Limits,
    pub(super) proof: MemoryProof,
    pub(super) why: Vec<Reason>,
    pub(super) notes: Vec<String>,
    /// A higher limit is needed, and memory does not allow it.
    pub(super) unmet: Option<Refusal>,
}

impl Sizing {
    pub(super) fn choose(snapshot: &Snapshot, request: &Request) -> Result<Self, Refusal> {
        if !(request.memory_share > 0.0 && request.memory_share <= 1.0) {
            return Err(Refusal::ImpossibleShare(request.memory_share * 100.0));
        }
        if snapshot.memory.total == 0 {
            return Err(Refusal::MemoryUnreadable { cause: memory_unreadable_because(snapshot) });
        }
        let memory = Memory::new(snapshot, request.memory_share);
        let running = running_limits(snapshot, request)?;
        if running.is_some() && snapshot.namespaces.is_empty() && request.persist.running() {
            return Err(Refusal::CountsUnreadable { cause: unreadable_because(snapshot) });
        }
        let wish = Wish::of(snapshot, request, running, memory)?;
        let fit = Fit { memory, snapshot, running };
        if running.is_some_and(|running| at_most(wish.limit, running.limit)) {
            Ok(fit.within(wish))
        } else {
            fit.raise(wish)
        }
    }
}

fn at_most(limit: u64, running: Limit) -> bool {
    running.entries().is_none_or(|running| limit <= running)
}

/// What runs; absent only where files alone are asked for and nothing runs.
fn running_limits(snapshot: &Snapshot, request: &Request) -> Result<Option<Limits>, Refusal> {
    match (snapshot.limits, snapshot.module) {
        (Some(limits), _) => Ok(Some(limits)),
        (None, _) if request.persist == Persist::FilesOnly => Ok(None),
        (None, ModuleState::Absent) => Err(Refusal::ModuleAbsent),
        (None, _) => Err(Refusal::LimitsUnreadable { cause: unreadable_because(snapshot) }),
    }
}

fn unreadable_because(snapshot: &Snapshot) -> String {
    let about_access = |kind| matches!(kind, GapKind::Unavailable | GapKind::Privilege);
    let gap = snapshot.gaps.iter().find(|gap| about_access(gap.kind));
    gap.map_or_else(|| "/proc masked?".to_owned(), |gap| masked(&gap.cause))
}

fn memory_unreadable_because(snapshot: &Snapshot) -> String {
    let gap = snapshot.gaps.iter().find(|gap| gap.cause.contains("meminfo"));
    gap.map_or_else(|| "/proc/meminfo says nothing".to_owned(), |gap| masked(&gap.cause))
}

/// The limit that would be right if memory did not matter.
struct Wish {
    limit: u64,
    /// Whether the user named it: then it is that or a refusal.
    explicit: bool,
    why: String,
}

impl Wish {
    fn of(
        snapshot: &Snapshot,
        request: &Request,
        running: Option<Limits>,
        memory: Memory<'_>,
    ) -> Result<Self, Refusal> {
        if let Some(target) = request.target {
            return Self::target(snapshot, request, target);
        }
        let Some(running) = running else { return Self::for_later(snapshot) };
        let Some(limit) = running.limit.entries() else {
            return Err(Refusal::Unlimited { suggestion: suggestion(snapshot, memory) });
        };
        let stays = Self::chosen(limit, stays_because(snapshot, limit, request.persist));
        let mut wishes = vec![stays];
        wishes.extend(by_files(snapshot, limit));
        if request.persist.running() {
            wishes.extend(by_refusals(snapshot, request, limit));
            wishes.extend(by_growth(snapshot, request.growth_horizon));
        }
        // The first of equals: what needs no change needs no other reason.
        let highest = wishes.into_iter().rev().max_by_key(|wish| wish.limit);
        Ok(highest.unwrap_or_else(|| Self::chosen(limit, String::new())))
    }

    fn target(snapshot: &Snapshot, request: &Request, target: u64) -> Result<Self, Refusal> {
        if target == 0 || target > LIMIT_LARGEST {
            return Err(Refusal::OutOfRange { target });
        }
        match snapshot.fullest() {
            Some(fullest) if target < fullest.count && request.access != Access::Elsewhere => {
                Err(Refusal::BelowRunningCount {
                    target,
                    namespace: masked(&fullest.label()),
                    count: fullest.count,
                })
            }
            _ => Ok(Self { limit: target, explicit: true, why: "as asked for".to_owned() }),
        }
    }

    /// Nothing runs and no target is named: what the files were meant to give, else the kernel's
    /// own choice.
    fn for_later(snapshot: &Snapshot) -> Result<Self, Refusal> {
        let default = snapshot.settings.kernel_default.and_then(|limits| limits.limit.entries());
        let default = default
            .map(|limit| Self::chosen(limit, "the kernel's own choice for this memory".to_owned()));
        by_files(snapshot, 0).or(default).ok_or_else(|| match snapshot.module {
            ModuleState::Absent => Refusal::ModuleAbsent,
            _ => Refusal::LimitsUnreadable { cause: unreadable_because(snapshot) },
        })
    }

    fn chosen(limit: u64, why: String) -> Self {
        Self { limit: limit.min(LIMIT_LARGEST), explicit: false, why }
    }
}

/// The next power of two from `entries` on.
fn round_up(entries: u64) -> u64 {
    entries.checked_next_power_of_two().unwrap_or(u64::MAX)
}

fn stays_because(snapshot: &Snapshot, limit: u64, persist: Persist) -> String {
    if persist == Persist::FilesOnly {
        return "what runs now; only files change".to_owned();
    }
    match snapshot.fullest() {
        Some(fullest) => format!(
            "enough: the fullest namespace ({}) holds {}, {} of it",
            masked(&fullest.label()),
            units::count(fullest.count),
            units::percent(fullest.count as f64 / limit.max(1) as f64)
        ),
        None => "no namespace tracks anything".to_owned(),
    }
}

/// A file asks for more than what runs: it was lost at boot, or overwritten since.
fn by_files(snapshot: &Snapshot, running: u64) -> Option<Wish> {
    let wanted = wanted_by_files(&snapshot.settings, SettingKey::Limit)?;
    let value = wanted.value.filter(|value| *value > running && *value <= LIMIT_LARGEST)?;
    let why = format!(
        "{} line {} asks for it{}",
        masked(&wanted.file.display().to_string()),
        wanted.line,
        if running > 0 { format!(", and {} runs", units::count(running)) } else { String::new() }
    );
    Some(Wish::chosen(value, why))
}

/// The table refuses connections: nobody knows how many there would be.
fn by_refusals(snapshot: &Snapshot, request: &Request, limit: u64) -> Option<Wish> {
    let wished = round_up(limit.saturating_mul(TIMES_WHEN_FULL));
    let because = |what: String| {
        format!(
            "{what}, and how many connections there would be is not known: \
             {TIMES_WHEN_FULL} times {}, rounded up to a power of two",
            units::count(limit)
        )
    };
    let full = snapshot.namespaces.iter().find_map(|n| full_because(n, snapshot, request));
    let reason = full.or_else(|| logged_full(snapshot, request))?;
    Some(Wish::chosen(wished, because(reason)))
}

fn full_because(namespace: &Namespace, snapshot: &Snapshot, request: &Request) -> Option<String> {
    let name = masked(&namespace.label());
    let refused = refused(namespace, snapshot, request);
    if refused > 0 {
        return Some(format!(
            "the table of {name} was full: {} packets refused",
            units::count(refused)
        ));
    }
    let share = namespace.share()?;
    (share >= FULL).then(|| {
        format!(
            "the table of {name} is full to {} ({})",
            units::percent(share),
            units::count(namespace.count)
        )
    })
}

/// Packets refused because the table was full, since the limit last changed.
fn refused(namespace: &Namespace, snapshot: &Snapshot, request: &Request) -> u64 {
    let Some(rates) = &namespace.rates else { return 0 };
    let began = snapshot.taken.boottime_ms.saturating_sub(rates.window_ms);
    let before_the_change = rates.since == EvidenceSource::LastRun
        && request.changed_at.is_some_and(|changed| changed > began);
    if before_the_change { 0 } else { rates.refused_when_full() }
}

/// The kernel log says that a table was full under the limit that runs now.
fn logged_full(snapshot: &Snapshot, request: &Request) -> Option<String> {
    is_log_about_this_limit(snapshot, request).then(|| logged(snapshot, request))?
}

/// A limit that somebody set, by hand or in a file, may be the answer to the very lines in the log;
/// one that the kernel chose stood since boot, and of our own changes we know the time.
fn is_log_about_this_limit(snapshot: &Snapshot, request: &Request) -> bool {
    request.changed_at.is_some() || snapshot.settings.limit_origin == Origin::KernelDefault
}

/// When the log last said so since the last change that is known.
fn logged(snapshot: &Snapshot, request: &Request) -> Option<String> {
    // A namespace that has gone needs no larger table.
    let is_there = |inode| snapshot.logged_namespace(inode).is_some();
    let reports = snapshot.log.full.iter().filter(|report| report.namespace.is_none_or(is_there));
    let last = reports.filter_map(|report| report.last_ms).max()?;
    let ago = Duration::from_millis(snapshot.taken.boottime_ms.checked_sub(last)?);
    (last > request.changed_at.unwrap_or(0)).then(|| {
        format!("the kernel log says that the table was full {} ago", units::duration(ago))
    })
}

/// What the log says where it is no reason, as it may be older than the limit.
pub(super) fn log_hint(snapshot: &Snapshot, request: &Request) -> Option<String> {
    let about_this = is_log_about_this_limit(snapshot, request);
    let said = logged(snapshot, request).filter(|_| !about_this && request.target.is_none())?;
    Some(format!(
        "{said}; if that was under the limit that runs now, name a higher one: `--target N`"
    ))
}

/// Where only files change and more is needed now than what runs, that is to be known.
pub(super) fn running_stays_too_small(
    snapshot: &Snapshot,
    request: &Request,
    planned: Limit,
) -> Option<String> {
    if request.persist != Persist::FilesOnly || request.access == Access::Elsewhere {
        return None;
    }
    let running = snapshot.limits?.limit.entries()?;
    let needed = by_refusals(snapshot, request, running)
        .into_iter()
        .chain(by_growth(snapshot, request.growth_horizon))
        .max_by_key(|wish| wish.limit)
        .filter(|wish| wish.limit > running)?;
    let kept = if planned.0 == running { ", and are what the files keep" } else { "" };
    Some(format!(
        "running values stay as they are{kept}, and are too small ({}): `ctkeeper fix` raises them",
        needed.why
    ))
}

/// The namespace that will hold most is to stay under half of the limit.
fn by_growth(snapshot: &Snapshot, horizon: Duration) -> Option<Wish> {
    let expected = |namespace: &Namespace| expected_count(namespace, horizon);
    let most = snapshot.namespaces.iter().max_by_key(|namespace| expected(namespace).0)?;
    let (count, far) = expected(most);
    let name = masked(&most.label());
    let grown = if count > most.count {
        format!(
            "{name} holds {} and grows: {} in {}",
            units::count(most.count),
            units::count(count),
            units::duration(far)
        )
    } else {
        format!("{name} holds {}", units::count(count))
    };
    let why = format!("{grown}; kept under half, rounded up to a power of two");
    Some(Wish::chosen(round_up(count.saturating_mul(2)), why))
}

/// What a namespace will hold, and how far ahead that looks. A short look does not speak for a
/// long time: growth is carried at most sixty times as far as it was watched.
fn expected_count(namespace: &Namespace, horizon: Duration) -> (u64, Duration) {
    let Some(rates) = namespace.rates.as_ref().filter(|rates| rates.count_change > 0) else {
        return (namespace.count, Duration::ZERO);
    };
    let far = horizon.min(Duration::from_millis(rates.window_ms.saturating_mul(60)));
    let growth = rates.per_second(rates.count_change as f64) * far.as_secs_f64();
    (namespace.count.saturating_add(growth as u64), far)
}

/// A limit for a host that has none.
fn suggestion(snapshot: &Snapshot, memory: Memory<'_>) -> u64 {
    let fullest = snapshot.fullest().map_or(0, |namespace| namespace.count);
    let wanted = round_up(fullest.saturating_mul(2)).clamp(262_144, LIMIT_LARGEST);
    cut(memory.highest(wanted, buckets_in_kernel)).max(fullest)
}

fn cut(limit: u64) -> u64 {
    if limit > 8 * CUT_STEP { limit / CUT_STEP * CUT_STEP } else { limit }
}

/// Brings a wish down to what memory allows.
struct Fit<'a> {
    memory: Memory<'a>,
    snapshot: &'a Snapshot,
    running: Option<Limits>,
}

impl Fit<'_> {
    /// The limit stays or falls: memory is asked for buckets alone.
    fn within(&self, wish: Wish) -> Sizing {
        let buckets = self.best_buckets(wish.limit).unwrap_or_else(|| {
            // Two entries a bucket will do, and never more than the budget for buckets alone.
            let fewest = self.buckets_at_load(wish.limit, 2);
            let alone = self.memory.proof(Limits { limit: Limit(1), buckets: fewest });
            if alone.bucket_bytes <= alone.budget { fewest } else { self.buckets_now() }
        });
        self.sizing(wish.limit, buckets, wish.why, None)
    }

    /// The limit rises: with one entry a bucket, else with two, else less high.
    fn raise(&self, wish: Wish) -> Result<Sizing, Refusal> {
        if let Some(buckets) = self.best_buckets(wish.limit) {
            return Ok(self.sizing(wish.limit, buckets, wish.why, None));
        }
        let refusal = self.beyond_memory(wish.limit);
        if wish.explicit {
            return Err(refusal);
        }
        self.cut_down(&wish, refusal)
    }

    fn cut_down(&self, wish: &Wish, refusal: Refusal) -> Result<Sizing, Refusal> {
        let largest = self.largest(wish.limit);
        match self.running.and_then(|running| running.limit.entries()) {
            // A limit that is still below what a namespace holds would help nobody.
            Some(running) if largest <= running || largest < self.fullest_count() => {
                let wish = Wish::chosen(running, "stays: memory allows no more".to_owned());
                Ok(Sizing { unmet: Some(refusal), ..self.within(wish) })
            }
            None if largest == 0 => Err(refusal),
            _ => {
                let allows = refusal.memory_share_that_allows();
                let why = format!(
                    "cut down to the memory budget from {} ({}){}",
                    units::count(wish.limit),
                    wish.why,
                    allows.map_or_else(String::new, |share| format!(
                        "; `--memory-share {share}%` allows that"
                    ))
                );
                let buckets = self.best_buckets(largest);
                let buckets = buckets.unwrap_or_else(|| self.buckets_at_load(largest, 2));
                Ok(self.sizing(largest, buckets, why, None))
            }
        }
    }

    /// The buckets to wish for with a limit, of those that memory allows.
    fn best_buckets(&self, limit: u64) -> Option<u64> {
        let limits = |buckets| Limits { limit: Limit(limit), buckets };
        let holds = |buckets: &u64| self.memory.proof(limits(*buckets)).holds();
        self.bucket_choices(limit).into_iter().find(holds)
    }

    fn fullest_count(&self) -> u64 {
        self.snapshot.fullest().map_or(0, |namespace| namespace.count)
    }

    fn beyond_memory(&self, limit: u64) -> Refusal {
        let buckets = self.buckets_at_load(limit, 2);
        let proof = self.memory.proof(Limits { limit: Limit(limit), buckets });
        Refusal::BeyondMemory {
            limit,
            needed: proof.needed,
            free: proof.free(),
            share: proof.share,
            budget: proof.budget,
            largest: self.largest(limit),
        }
    }

    /// The highest limit that fits, at most `up_to`.
    fn largest(&self, up_to: u64) -> u64 {
        cut(self.memory.highest(up_to, |limit| self.buckets_at_load(limit, 2)))
    }

    /// Numbers of buckets to try, best first: never fewer than run.
    fn bucket_choices(&self, limit: u64) -> [u64; 3] {
        let wanted = wanted_by_files(&self.snapshot.settings, SettingKey::Buckets);
        let wanted = wanted.and_then(|wanted| wanted.value).map_or(0, buckets_in_kernel);
        let healthy = self.buckets_at_load(limit, 1);
        [healthy.max(wanted), healthy, self.buckets_at_load(limit, 2)]
    }

    fn buckets_at_load(&self, limit: u64, entries: u64) -> u64 {
        buckets_in_kernel(limit.div_ceil(entries)).max(self.buckets_now())
    }

    fn buckets_now(&self) -> u64 {
        self.running.map_or(0, |running| running.buckets)
    }

    fn sizing(&self, limit: u64, buckets: u64, why: String, unmet: Option<Refusal>) -> Sizing {
        let after = Limits { limit: Limit(limit), buckets };
        let proof = self.memory.proof(after);
        let reason = |about, text| Reason { about, text };
        let why_buckets = self.why_buckets(after);
        let mut notes = Vec::new();
        if !proof.holds() {
            let raised = if buckets > self.buckets_now() {
                format!(
                    "only buckets are raised: they take {}, which fits by itself, and a table with \
                     too few refuses connections before its limit",
                    units::mebibytes(proof.bucket_bytes)
                )
            } else {
                "nothing is raised".to_owned()
            };
            notes.push(format!(
                "{} entries may take {}, over {} of the {} free; {raised}",
                units::count(limit),
                units::mebibytes(proof.needed),
                units::percent(proof.share),
                units::mebibytes(proof.free())
            ));
        }
        let why = vec![reason(About::Limit, why), reason(About::Buckets, why_buckets)];
        Sizing { after, proof, why, notes, unmet }
    }

    fn why_buckets(&self, after: Limits) -> String {
        let load = after.load_at_limit().unwrap_or(0.0);
        let at_limit = format!("{load:.1} entries a bucket at the limit");
        if self.buckets_now() == after.buckets {
            let verdict = if load <= 2.0 { "enough" } else { "memory allows no more" };
            return format!("{verdict}: {at_limit}");
        }
        let before = Limits { buckets: self.buckets_now(), ..after }.load_at_limit();
        let trap = match before.filter(|_| self.buckets_now() > 0) {
            Some(before) if before > 2.0 => format!(
                "; with {} it would be {before:.0}, and from 16 to 40 on new connections fail \
                 without a log line",
                units::count(self.buckets_now())
            ),
            _ => String::new(),
        };
        let short = if load > 1.0 { ", as memory is short" } else { "" };
        format!(
            "{at_limit}{short}, in whole pages of {} as the kernel makes them{trap}",
            units::count(settings::round_up(1))
        )
    }
}
