//! `conntrack-differential [--only PART]… [--candidate PATH] [--list] [--show] [--reference]`: the cases of the
//! suite `conntrack` by hand. `--show` prints what Debian's says. `--only` takes those whose name contains PART, `--candidate` another
//! program than the ctkeeper built beside this one (one called `ctkeeper` is called in both its
//! ways), `--reference` Debian's against itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use ctkeeper_tests::conntrack::{Judgement, Program, Suite, cases_folder};
use ctkeeper_tests::ctkeeper_path;

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
}

fn wishes() -> anyhow::Result<Wishes> {
    let (mut only, mut list, mut show) = (Vec::new(), false, false);
    let (mut path, mut reference) = (None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} takes a value"));
        match argument.as_str() {
            "--only" => only.push(value()?),
            "--candidate" => path = Some(PathBuf::from(value()?)),
            "--list" => list = true,
            "--show" => show = true,
            "--reference" => reference = true,
            _ => bail!("{argument}: --only, --candidate, --reference, --list and --show are known"),
        }
    }
    let candidates = match (list || show, reference, path) {
        (true, ..) => Vec::new(),
        (_, true, _) => vec![Program::reference()],
        (_, _, Some(path)) => programs(&path)?,
        (_, _, None) => programs(&ctkeeper_path())?,
    };
    Ok(Wishes { only, candidates, list, show })
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
    let (mut same, mut again, mut skipped, mut different) = (0, 0, 0, Vec::new());
    let begin = Instant::now();
    let wanted =
        |name: &str| wishes.only.is_empty() || wishes.only.iter().any(|part| name.contains(part));
    for case in suite.cases().iter().filter(|case| wanted(&case.name)) {
        if wishes.list {
            println!("{}: conntrack {}", case.name, case.run.trim().replace('\n', "; "));
            continue;
        }
        if wishes.show {
            println!("--- {}: conntrack {}\n{}", case.name, case.run.trim(), suite.show(case)?);
            continue;
        }
        match suite.judge(case, &wishes.candidates) {
            Ok(Judgement::Same(attempt)) => {
                same += 1;
                again += u32::from(attempt > 1);
            }
            Ok(Judgement::Skipped) => skipped += 1,
            Ok(Judgement::Different(text)) => {
                println!("--- {}: conntrack {}\n{text}", case.name, case.run.trim());
                different.push(case.name.clone());
            }
            Err(error) => {
                println!("--- {}: cannot be judged: {error:#}", case.name);
                different.push(case.name.clone());
            }
        }
    }
    suite.clear();
    if !wishes.list && !wishes.show {
        println!(
            "{same} the same ({again} at the second attempt), {} different, {skipped} skipped, {:.1} s",
            different.len(),
            begin.elapsed().as_secs_f64()
        );
    }
    Ok(different.is_empty())
}
