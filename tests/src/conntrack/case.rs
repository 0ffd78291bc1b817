//! Cases as TOML.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// A file of cases about one concern.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What they are about.
    pub about: String,
    /// What is mended in everything that the reference says.
    #[serde(default)]
    pub correction: Vec<Correction>,
    /// Tables that cases of any file may name.
    #[serde(default)]
    pub table: BTreeMap<String, TableSpec>,
    /// Cases, and families of them.
    #[serde(default)]
    pub case: Vec<Case>,
}

/// A fault of the reference that shows in many cases: in its lines with `contains`, some words stand
/// for others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// Why.
    pub reason: String,
    /// Which lines.
    pub contains: String,
    /// What stands for what.
    #[serde(default)]
    pub words: BTreeMap<String, String>,
    /// From where on the line should not be there.
    pub cut_from: Option<String>,
}

impl Correction {
    /// What the reference should have said.
    pub fn correct(&self, text: &str) -> String {
        text.split_inclusive('\n').map(|line| self.line(line)).collect()
    }

    fn line(&self, line: &str) -> String {
        let end = self.cut_from.as_ref().and_then(|from| line.find(from));
        if let Some(end) = end.filter(|_| line.contains(&self.contains)) {
            return format!("{}\n", &line[..end]);
        }
        let word = |(wrong, right): (&String, &String)| {
            let found = line.contains(&self.contains) && line.contains(wrong);
            found.then(|| line.replace(wrong, right))
        };
        self.words.iter().find_map(word).unwrap_or_else(|| line.to_owned())
    }
}

/// How a table comes about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableSpec {
    /// `netfilter/nf_conntrack_acct = "1"`: settings below `/proc/sys/net`.
    pub sysctl: BTreeMap<String, String>,
    /// Rules for `nft`.
    pub rules: String,
    /// What happens, a step a line; see [`super::traffic`].
    pub steps: String,
    /// `/etc/xtables/connlabel.conf` as both programs see it.
    pub labels: Option<String>,
    /// Real sockets stand in namespaces of their own, and this one routes between them.
    pub routed: bool,
}

/// One command line, or several in a row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The table, an empty one if none is named.
    #[serde(default = "empty")]
    pub table: String,
    /// What follows `conntrack`, as in a shell; each line is a call of its own.
    pub run: String,
    /// Standard input of each call.
    #[serde(default)]
    pub stdin: String,
    /// Files in the folder in which it runs.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Who runs it.
    #[serde(default)]
    pub user: User,
    /// What standard output is.
    #[serde(default)]
    pub stdout: Stdout,
    /// Variables of the environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What happens while both listen (`-E`): steps as a table has them.
    #[serde(default)]
    pub load: String,
    /// The order of lines is left out.
    #[serde(default)]
    pub unordered: bool,
    /// Reference counts are left out: the programs themselves hold some.
    #[serde(default)]
    pub use_varies: bool,
    /// Only the words that are options are compared in standard output.
    #[serde(default)]
    pub only_option_words: bool,
    /// Parts that are exchanged: each `{part}` of name, table, call, input and load is replaced, and
    /// every combination is a case. For each part: short names, and what they stand for.
    #[serde(default)]
    pub each: BTreeMap<String, BTreeMap<String, String>>,
    /// Combinations to leave out, by their names.
    #[serde(default)]
    pub without: Vec<String>,
    /// Where a later release's behaviour is right.
    pub differs: Option<Difference>,
}

/// What differs from the reference, and why.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Why.
    pub reason: String,
    /// Where what is not stated here is as the reference has it.
    #[serde(default)]
    pub expected: Expected,
    /// Option words that ours has beyond the reference's.
    #[serde(default)]
    pub more_option_words: Vec<String>,
    /// The calls by which the reference comes to the table that must be left behind; without them
    /// it is the table that the case's own calls leave.
    pub table_by: Option<String>,
}

/// What must come out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    /// Standard output.
    pub stdout: Option<String>,
    /// Standard error.
    pub stderr: Option<String>,
    /// Exit code.
    pub code: Option<i32>,
}

/// Who runs the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// Root.
    #[default]
    Root,
    /// Root without `CAP_NET_ADMIN`.
    WithoutNetAdmin,
    /// Nobody.
    Nobody,
}

/// What standard output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdout {
    /// A file.
    #[default]
    File,
    /// Closed.
    Closed,
    /// A pipe that nobody reads.
    Broken,
    /// `/dev/full`.
    Full,
}

fn empty() -> String {
    "empty".to_owned()
}

impl File {
    /// Reads one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Every case, families expanded.
    pub fn cases(&self) -> anyhow::Result<Vec<Case>> {
        let mut all = Vec::new();
        for case in &self.case {
            all.extend(case.each_of_them()?);
        }
        Ok(all)
    }
}

impl Case {
    /// Itself, or every member of the family.
    fn each_of_them(&self) -> anyhow::Result<Vec<Self>> {
        let mut made = vec![self.clone()];
        for (part, choices) in &self.each {
            let hole = format!("{{{part}}}");
            ensure!(self.name.contains(&hole), "{}: no {hole} in it", self.name);
            made = made
                .iter()
                .flat_map(|case| choices.iter().map(|choice| filled(case, &hole, choice)))
                .collect();
        }
        for name in &self.without {
            let before = made.len();
            made.retain(|case| case.name != *name);
            ensure!(made.len() < before, "{name} is not of the family {}", self.name);
        }
        Ok(made)
    }
}

fn filled(case: &Case, hole: &str, (name, text): (&String, &String)) -> Case {
    let mut case = case.clone();
    case.name = case.name.replace(hole, name);
    for field in [&mut case.run, &mut case.stdin, &mut case.table, &mut case.load] {
        *field = field.replace(hole, text);
    }
    case
}

impl Case {
    /// The calls, each as its words.
    pub fn calls(&self) -> anyhow::Result<Vec<Vec<String>>> {
        calls(&self.run)
    }

    /// A call without input, or with some, of nobody's interest.
    pub(super) fn silent(stdin: &str) -> Self {
        Self {
            name: String::new(),
            table: empty(),
            run: String::new(),
            stdin: stdin.to_owned(),
            files: BTreeMap::new(),
            user: User::Root,
            stdout: Stdout::File,
            environment: BTreeMap::new(),
            load: String::new(),
            unordered: false,
            use_varies: false,
            only_option_words: false,
            each: BTreeMap::new(),
            without: Vec::new(),
            differs: None,
        }
    }

    /// Whether a protocol is named: without a family then, the kernel is asked for one family after
    /// the other.
    pub fn names_protocol(&self) -> bool {
        self.run.contains("-p ") || self.run.contains("--proto")
    }

    /// Whether it may make entries, which are others each time, also where none of them stays.
    pub fn may_make(&self) -> bool {
        let words = ["-R", "--load-file", "-I", "--create", "-A", "--add"];
        self.run.split_whitespace().any(|given| words.iter().any(|word| given.starts_with(word)))
    }

    /// Whether it listens.
    pub fn listens(&self) -> bool {
        !self.load.is_empty()
    }
}

/// Lines of words.
pub(super) fn calls(lines: &str) -> anyhow::Result<Vec<Vec<String>>> {
    if lines.trim().is_empty() {
        return Ok(vec![Vec::new()]);
    }
    lines.trim().lines().map(words).collect()
}

/// A line's words as a shell has them: single and double quotes keep blanks together.
pub fn words(line: &str) -> anyhow::Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        bail!("a quote is left open: {line}");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells() {
        assert_eq!(words(r#"-L  -p 'a b' """#).unwrap(), ["-L", "-p", "a b", ""]);
        assert_eq!(words(r#"--src="1 2"x"#).unwrap(), ["--src=1 2x"]);
        assert!(words("it's").is_err());
    }

    #[test]
    fn a_family_is_every_combination() {
        let file: File = toml::from_str(
            "about = ''\n[[case]]\nname = 'x-{a}-{b}'\nrun = '{a} {b}'\n\
             without = ['x-one-l']\neach.a = { one = '1', two = '2' }\neach.b = { l = '-L', d = '-D' }",
        )
        .unwrap();
        let cases = file.cases().unwrap();
        let named: Vec<_> = cases.iter().map(|c| (c.name.as_str(), c.run.as_str())).collect();
        assert_eq!(named, [("x-one-d", "1 -D"), ("x-two-d", "2 -D"), ("x-two-l", "2 -L")]);
    }
}
