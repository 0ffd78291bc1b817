//! All cases, and the judge.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};

use super::case::{Case, Correction, File, TableSpec};
use super::outcome::{Outcome, differences};
use super::program::Program;
use super::stage::Stage;

/// A neighbour may have the hash table rebuilt, and any dump misses entries then; a second that
/// passes between two looks may be the one too many. Not twice.
const ATTEMPTS: u32 = 2;

/// Cases and their tables.
#[derive(Debug)]
pub struct Suite {
    tables: BTreeMap<String, TableSpec>,
    cases: Vec<Case>,
    corrections: Vec<Correction>,
    attempts: u32,
    /// Tables that stand and are not in use.
    stages: Mutex<BTreeMap<String, Vec<Stage>>>,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The same as the reference, at this attempt.
    Same(u32),
    /// What differs.
    Different(String),
    /// The reference is not held against what a later release does.
    Skipped,
}

/// The folder of the cases.
pub fn cases_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suite/conntrack/cases")
}

impl Suite {
    /// Reads every file of a folder.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .with_context(|| folder.display().to_string())?
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
        paths.sort();
        let mut tables = BTreeMap::from([("empty".to_owned(), TableSpec::default())]);
        let (mut cases, mut corrections) = (Vec::new(), Vec::new());
        let mut names = std::collections::BTreeSet::new();
        for path in paths {
            let file = File::read(&path)?;
            for case in file.cases().with_context(|| path.display().to_string())? {
                ensure!(names.insert(case.name.clone()), "two cases are called {}", case.name);
                cases.push(case);
            }
            corrections.extend(file.correction);
            for (name, table) in file.table {
                ensure!(tables.insert(name.clone(), table).is_none(), "two tables called {name}");
            }
        }
        for case in &cases {
            ensure!(tables.contains_key(&case.table), "{}: no table {}", case.name, case.table);
            case.calls().with_context(|| case.name.clone())?;
        }
        // Cases of one table stand together: it is made once, and again only when one changes it.
        cases.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(Self { tables, cases, corrections, attempts: ATTEMPTS, stages: Mutex::default() })
    }

    /// Every case.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// What is mended in everything that the reference says.
    pub fn corrections(&self) -> &[Correction] {
        &self.corrections
    }

    /// Judges at the first attempt.
    #[must_use]
    pub fn hasty(mut self) -> Self {
        self.attempts = 1;
        self
    }

    /// Runs a case with the reference and with candidates. All of them see tables that were not
    /// changed; where the reference changes the table, only the first candidate runs.
    pub fn judge(&self, case: &Case, candidates: &[Program]) -> anyhow::Result<Judgement> {
        if case.differs.is_some() && candidates.iter().any(Program::has_the_faults) {
            return Ok(Judgement::Skipped);
        }
        let mut found = String::new();
        for attempt in 1..=self.attempts {
            let mut stage = if attempt == 1 { self.stage(case)? } else { self.make(case)? };
            found = self.differs(&mut stage, case, candidates)?;
            self.put_back(case, stage);
            if found.is_empty() {
                return Ok(Judgement::Same(attempt));
            }
        }
        Ok(Judgement::Different(found))
    }

    /// What the reference says, for those who write cases.
    pub fn show(&self, case: &Case) -> anyhow::Result<String> {
        let mut stage = self.stage(case)?;
        stage.ready()?;
        let reference = Program::reference();
        let said = if case.listens() {
            stage.listen(&[&reference], case)?
        } else {
            stage.call(&reference, case)?
        };
        self.put_back(case, stage);
        let each = said.iter().map(|said| format!("{}\n{}{}", said.end, said.stdout, said.stderr));
        Ok(each.collect())
    }

    /// Removes the tables that stand.
    pub fn clear(&self) {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn stage(&self, case: &Case) -> anyhow::Result<Stage> {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let free = stages.get_mut(&case.table).and_then(Vec::pop);
        drop(stages);
        match free {
            Some(stage) => Ok(stage),
            None => self.make(case),
        }
    }

    fn make(&self, case: &Case) -> anyhow::Result<Stage> {
        let spec = self.tables.get(&case.table).context("no such table")?;
        Stage::make(spec).with_context(|| format!("table {}", case.table))
    }

    fn put_back(&self, case: &Case, stage: Stage) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.entry(case.table.clone()).or_default().push(stage);
    }

    /// One attempt: what differs, of the first candidate that does.
    fn differs(
        &self,
        stage: &mut Stage,
        case: &Case,
        candidates: &[Program],
    ) -> anyhow::Result<String> {
        if case.listens() {
            return self.listened(stage, case, candidates);
        }
        let before = stage.ready()?;
        let mut theirs = outcome(stage, &Program::reference(), case)?;
        let same_table = before.difference(&theirs.left).is_none();
        if let Some(instead) = case.differs.as_ref().and_then(|differs| differs.table_by.as_ref()) {
            stage.lay_again()?;
            let instead = Case { run: instead.clone(), ..case.clone() };
            theirs.left = outcome(stage, &Program::reference(), &instead)?.left;
        }
        // The kernel's order of entries is another in another namespace.
        let unordered = case.unordered || (!same_table && stage.has_sockets());
        let judged_as = Case { unordered, ..case.clone() };
        for candidate in candidates.iter().take(if same_table { candidates.len() } else { 1 }) {
            if !same_table {
                stage.lay_again()?;
            }
            let ours = outcome(stage, candidate, case)?;
            let theirs = self.corrected(&theirs, candidate);
            let same_entries = same_table && !case.may_make();
            let found = differences(&judged_as, &theirs, &ours, same_entries);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(String::new())
    }

    fn listened(
        &self,
        stage: &mut Stage,
        case: &Case,
        candidates: &[Program],
    ) -> anyhow::Result<String> {
        stage.lay_again()?;
        let reference = Program::reference();
        let programs: Vec<_> = std::iter::once(&reference).chain(candidates).collect();
        let mut said = stage.listen(&programs, case)?.into_iter();
        let left = stage.look()?;
        let theirs = Outcome { said: said.next().into_iter().collect(), left: left.clone() };
        let each = said.zip(candidates).map(|(said, candidate)| {
            let ours = Outcome { said: vec![said], left: left.clone() };
            differences(case, &self.corrected(&theirs, candidate), &ours, true)
        });
        Ok(each.collect())
    }

    fn corrected(&self, outcome: &Outcome, candidate: &Program) -> Outcome {
        let mut outcome = outcome.clone();
        if candidate.has_the_faults() {
            return outcome;
        }
        for said in &mut outcome.said {
            let mend = |text: String, correction: &Correction| correction.correct(&text);
            said.stdout = self.corrections.iter().fold(std::mem::take(&mut said.stdout), mend);
        }
        outcome
    }
}

fn outcome(stage: &mut Stage, program: &Program, case: &Case) -> anyhow::Result<Outcome> {
    let said = stage.call(program, case)?;
    Ok(Outcome { said, left: stage.look()? })
}
