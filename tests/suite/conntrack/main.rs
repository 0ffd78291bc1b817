//! The `conntrack` face beside Debian's `conntrack`, case by case (`cases/*.toml`); Debian's against
//! itself, which must never differ; and programs that are wrong on purpose, which must.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{anyhow, bail};
use ctkeeper_tests::conntrack::{Case, Judgement, Program, Suite, cases_folder};
use ctkeeper_tests::{Need, ctkeeper_path, named_trial};
use libtest_mimic::Arguments;

mod mutants;
mod ours;

const PEER: &[Need] = &[
    Need::Root,
    Need::Conntrack,
    Need::Program("ip", "iproute2"),
    Need::Program("conntrack", "conntrack"),
    Need::Program("nft", "nftables"),
    Need::Program("setpriv", "util-linux"),
];

type Test = fn() -> anyhow::Result<()>;

const OURS: [(&str, Test); 4] = [
    ("stalled", ours::a_stalled_listener_can_be_ended),
    ("full disk", ours::a_full_disk_stops_no_deletion),
    ("stamps", ours::stamps_are_of_their_moment),
    ("without privilege", ours::many_requests_are_refused_at_once),
];

fn main() -> ExitCode {
    let _ = ctkeeper_lab::clean();
    let suite = match Suite::read(&cases_folder()) {
        Ok(suite) => Arc::new(suite),
        Err(error) => {
            eprintln!("the cases do not read: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let tally = Arc::new(Tally::default());
    let mut trials = Vec::new();
    for index in 0..suite.cases().len() {
        let name = format!("case/{}", suite.cases()[index].name);
        let (suite, tally) = (Arc::clone(&suite), Arc::clone(&tally));
        trials.push(named_trial(name, PEER, move || {
            let both = candidates()?;
            // The second way leads to the same code: now and then is enough.
            let ways = if index % EVERY == 0 { &both[..] } else { &both[..1] };
            tally.take(&suite, &suite.cases()[index], ways)
        }));
    }
    for index in (0..suite.cases().len()).filter(|index| index % EVERY == 0) {
        let name = format!("reference/{}", suite.cases()[index].name);
        let suite = Arc::clone(&suite);
        trials.push(named_trial(name, PEER, move || {
            same(&suite, &suite.cases()[index], &[Program::reference()]).map(drop)
        }));
    }
    for mutant in mutants::ALL {
        let suite = Arc::clone(&suite);
        let name = format!("mutant/{}", mutant.name);
        trials.push(named_trial(name, PEER, move || mutant.is_caught(&suite)));
    }
    for (name, test) in OURS {
        trials.push(named_trial(format!("ours/{name}"), PEER, test));
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    suite.clear();
    tally.say(&suite);
    conclusion.exit_code()
}

/// Debian's against itself, and `ctkeeper conntrack`, run with every so many case here; with all of
/// them by `conntrack-differential --reference`, and without.
const EVERY: usize = 5;

#[derive(Default)]
struct Tally {
    same: AtomicU32,
    again: AtomicU32,
    different: AtomicU32,
}

impl Tally {
    fn take(&self, suite: &Suite, case: &Case, candidates: &[Program]) -> anyhow::Result<()> {
        let judged = same(suite, case, candidates);
        match &judged {
            Ok(attempt) => {
                self.same.fetch_add(1, Ordering::Relaxed);
                self.again.fetch_add(u32::from(*attempt > 1), Ordering::Relaxed);
            }
            Err(_) => _ = self.different.fetch_add(1, Ordering::Relaxed),
        }
        judged.map(drop)
    }

    /// What was compared, and where ours is not the reference's on purpose.
    fn say(&self, suite: &Suite) {
        let count = |of: &AtomicU32| of.load(Ordering::Relaxed);
        let (same, different) = (count(&self.same), count(&self.different));
        if same + different == 0 {
            return;
        }
        println!(
            "conntrack beside Debian's: {same} of {} cases, {} of them at the second attempt",
            same + different,
            count(&self.again)
        );
        for correction in suite.corrections() {
            println!("differs on purpose, everywhere: {}", correction.reason);
        }
        let differs = suite.cases().iter().filter_map(|case| Some((case, case.differs.as_ref()?)));
        for (case, difference) in differs {
            println!("differs on purpose: {}: {}", case.name, difference.reason);
        }
    }
}

/// At which attempt nothing differed.
fn same(suite: &Suite, case: &Case, candidates: &[Program]) -> anyhow::Result<u32> {
    match suite.judge(case, candidates)? {
        Judgement::Same(attempt) => Ok(attempt),
        Judgement::Skipped => Ok(1),
        Judgement::Different(text) => bail!("conntrack {}\n{text}", case.run.trim()),
    }
}

/// Ours, in both ways that it is called.
fn candidates() -> anyhow::Result<[Program; 2]> {
    static BOTH: OnceLock<Result<[Program; 2], String>> = OnceLock::new();
    let make = || -> anyhow::Result<_> {
        let path = ctkeeper_path();
        Ok([Program::called_conntrack(&path)?, Program::with_subcommand(&path)])
    };
    let both = BOTH.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    both.clone().map_err(|error| anyhow!(error))
}
