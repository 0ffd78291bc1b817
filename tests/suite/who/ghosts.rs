//! The ghosts' experiment: labelled entries, all of them looked at twice, ten seconds apart. What
//! lives is never called a ghost; what is dead and can be told is.

mod cases;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_census::Spared;
use ctkeeper_flow::Protocol;

use cases::{CASES, Case, Label, VXLAN};
use stage::Stage;

/// What the kernel itself keeps for a second after a process has gone is over by then.
const SETTLED: Duration = Duration::from_secs(4);

/// What was said of a case's entries.
struct Verdict<'a> {
    case: &'static Case,
    entries: &'a [Result<(), Spared>],
}

impl Verdict<'_> {
    fn ghosts(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_ok()).count()
    }

    fn is_right(&self) -> bool {
        match self.case.label {
            Label::Lives | Label::Spared(_) => self.ghosts() == 0,
            Label::Ghost => self.ghosts() == self.entries.len(),
        }
    }

    fn line(&self) -> String {
        let label = match self.case.label {
            Label::Lives => "lives".to_owned(),
            Label::Ghost => "dead".to_owned(),
            Label::Spared(why) => format!("dead; {why}"),
        };
        let said = match self.entries.first() {
            Some(Ok(())) => "ghost".to_owned(),
            Some(Err(why)) => format!("- ({why:?})"),
            None => "no entry".to_owned(),
        };
        let right = if self.is_right() { "" } else { "WRONG" };
        format!("| {:62} | {label:45} | {said:15} | {right:5} |", self.case.name)
    }
}

pub(crate) fn experiment() -> anyhow::Result<()> {
    let mut stage = Stage::build()?;
    for case in CASES {
        (case.begin)(&mut stage, case.port)
            .with_context(|| format!("beginning `{}`", case.name))?;
    }
    cases::after_all_have_begun(&mut stage)?;
    std::thread::sleep(SETTLED);
    let before = standing(&stage)?;
    let judged = stage.judged(|stage| between_the_looks(stage, &before))?;
    let entries = |case: &Case| judged.get(&(case.protocol, case.port)).map(Vec::as_slice);
    let verdicts = CASES.iter().map(|case| {
        let entries = entries(case).with_context(|| format!("`{}` was not judged", case.name))?;
        Ok(Verdict { case, entries })
    });
    let verdicts: Vec<_> = verdicts.collect::<anyhow::Result<_>>()?;
    let table: Vec<_> = verdicts.iter().map(Verdict::line).collect();
    if std::env::var_os("CTKEEPER_SHOW").is_some() {
        println!("{}", table.join("\n"));
    }
    let wrong = verdicts.iter().filter(|verdict| !verdict.is_right()).count();
    ensure!(wrong == 0, "{wrong} of {} wrong:\n{}", verdicts.len(), table.join("\n"));
    // Nothing else in the table is called one either.
    let ghosts = judged.values().flatten().filter(|entry| entry.is_ok()).count();
    let expected = verdicts.iter().filter(|v| v.case.label == Label::Ghost).count();
    ensure!(ghosts == expected, "{ghosts} ghosts, {expected} expected: {judged:?}");
    Ok(())
}

type Ids = BTreeMap<(Protocol, u16), BTreeSet<Option<u32>>>;

/// The ids of every case's entries. A case without one, or with others', would prove nothing.
fn standing(stage: &Stage) -> anyhow::Result<Ids> {
    let mut standing = BTreeMap::new();
    for case in CASES {
        let entries = stage.entries(case.protocol, case.port)?;
        let so_many = entries.len() == 1 || case.port == VXLAN && !entries.is_empty();
        ensure!(so_many, "`{}` has {} entries: {entries:?}", case.name, entries.len());
        standing.insert((case.protocol, case.port), entries.iter().map(|e| e.id).collect());
    }
    Ok(standing)
}

fn between_the_looks(stage: &mut Stage, before: &Ids) -> anyhow::Result<()> {
    for case in CASES {
        if let Some(act) = case.between {
            act(stage, case.port).with_context(|| format!("going on with `{}`", case.name))?;
        }
    }
    let after = standing(stage)?;
    for case in CASES {
        let key = (case.protocol, case.port);
        let still = before.get(&key).zip(after.get(&key)).is_some_and(|(b, a)| b.is_subset(a));
        ensure!(still, "`{}` has another entry", case.name);
    }
    Ok(())
}
