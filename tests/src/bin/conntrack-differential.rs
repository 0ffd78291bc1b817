//! `conntrack-differential [--only PART]… [--candidate PATH] [--list] [--show] [--hasty] [--reference]`: the cases of the
//! suite `conntrack` by hand. `--show` prints what Debian's says, `--hasty` tries once. `--only` takes those whose name contains PART, `--candidate` another
//! program than the ctkeeper built beside this one (one called `ctkeeper` is called in both its
//! ways), `--reference` Debian's against itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use ctkeeper_tests::conntrack::{Case, Judgement, Program, Suite, cases_folder};
use ctkeeper_tests::ctkeeper_path;

const THREADS: usize = 2;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conntrack-differential: {error:#}");
            ExitCode::from(2)
        }
    }
}

struct Wishes {
    only: Vec<String>,
    candidates: Vec<Program>,
    list: bool,
    show: bool,
    hasty: bool,
}

fn wishes() -> anyhow::Result<Wishes> {
    let (mut only, mut list, mut show, mut hasty) = (Vec::new(), false, false, false);
    let (mut path, mut reference) = (None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} takes a value"));
        match argument.as_str() {
            "--only" => only.push(value()?),
            "--candidate" => path = Some(PathBuf::from(value()?)),
            "--list" => list = true,
            "--show" => show = true,
            "--hasty" => hasty = true,
            "--reference" => reference = true,
            _ => bail!(
                "{argument}: --only, --candidate, --reference, --hasty, --list and --show are known"
            ),
        }
    }
    let candidates = match (list || show, reference, path) {
        (true, ..) => Vec::new(),
        (_, true, _) => vec![Program::reference()],
        (_, _, Some(path)) => programs(&path)?,
        (_, _, None) => programs(&ctkeeper_path())?,
    };
    Ok(Wishes { only, candidates, list, show, hasty })
}

fn programs(path: &Path) -> anyhow::Result<Vec<Program>> {
    let mut programs = vec![Program::called_conntrack(path)?];
    if path.file_name().is_some_and(|name| name == "ctkeeper") {
        programs.push(Program::with_subcommand(path));
    }
    Ok(programs)
}

fn run() -> anyhow::Result<bool> {
    let wishes = wishes()?;
    let suite = Suite::read(&cases_folder())?;
    let suite = if wishes.hasty { suite.hasty() } else { suite };
    let wanted =
        |name: &str| wishes.only.is_empty() || wishes.only.iter().any(|part| name.contains(part));
    let cases: Vec<_> = suite.cases().iter().filter(|case| wanted(&case.name)).collect();
    if wishes.list || wishes.show {
        for case in cases {
            let calls = case.run.trim().replace('\n', "; ");
            println!("{}: conntrack {calls}", case.name);
            if wishes.show {
                println!("{}", suite.show(case)?);
            }
        }
        suite.clear();
        return Ok(true);
    }
    let begin = Instant::now();
    let tally = Mutex::new(Tally::default());
    let queue = Mutex::new(cases.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let judged = suite.judge(case, &wishes.candidates);
                    tally.lock().unwrap_or_else(PoisonError::into_inner).take(case, judged);
                }
            });
        }
    });
    suite.clear();
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} the same ({} at the second attempt), {} different, {} skipped, {:.1} s",
        tally.same,
        tally.again,
        tally.different,
        tally.skipped,
        begin.elapsed().as_secs_f64()
    );
    Ok(tally.different == 0)
}

#[derive(Default)]
struct Tally {
    same: u32,
    again: u32,
    skipped: u32,
    different: u32,
}

impl Tally {
    fn take(&mut self, case: &Case, judged: anyhow::Result<Judgement>) {
        let (name, calls) = (&case.name, case.run.trim());
        match judged {
            Ok(Judgement::Same(attempt)) => {
                self.same += 1;
                self.again += u32::from(attempt > 1);
            }
            Ok(Judgement::Skipped) => self.skipped += 1,
            Ok(Judgement::Different(text)) => {
                println!("--- {name}: conntrack {calls}\n{text}");
                self.different += 1;
            }
            Err(error) => {
                println!("--- {name}: cannot be judged: {error:#}");
                self.different += 1;
            }
        }
    }
}
