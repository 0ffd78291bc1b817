//! What the readers of sysctl files write to a value, line by line, in order.
//!
//! Two programs read the same folders and disagree in the details:
//!
//! | | systemd-sysctl (252) | `sysctl --system` (procps 4.0.2) |
//! |---|---|---|
//! | `/etc/sysctl.conf` | only through a link in a folder | always, last |
//! | hidden files | passed over | read |
//! | two lines for one key | the later one alone is written, at its own place; one that repeats the value keeps the earlier place | both are written, in order |
//! | `-key` without a value | takes an earlier line for the key back | does not |
//! | lines end with | LF, CR, NUL | LF; NUL hides the rest |
//!
//! Every row is held against the programs themselves in `tests/suite/host.rs`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ctkeeper_snapshot::{Gap, Reader, SettingKey};

use super::folders::{self, SYSCTL};
use super::glob;
use super::tree::{Content, Tree, is_missing};
use crate::read;

/// The file that procps reads last.
const PROCPS_FILE: &str = "/etc/sysctl.conf";

/// A line that gives a followed value something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The real file, as a path on the host.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// Below `/proc/sys`, the file it is written to: `net/netfilter/nf_conntrack_max`.
    pub path: String,
    /// The value as written.
    pub text: String,
}

/// What sysctl files say about the values at some paths below `/proc/sys`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// What systemd-sysctl writes, in order.
    pub systemd: Vec<Line>,
    /// What `sysctl --system` writes, in order.
    pub procps: Vec<Line>,
    /// Every line that names one of the paths, with the readers that come to it: in the order in
    /// which systemd comes to them, then those that only procps comes to, then those in files that
    /// another file hides.
    pub all: Vec<(Line, Vec<Reader>)>,
}

impl Lines {
    /// What a reader writes, in order.
    pub fn written_by(&self, reader: Reader) -> &[Line] {
        match reader {
            Reader::Systemd => &self.systemd,
            Reader::Procps => &self.procps,
        }
    }
}

/// Reads the sysctl files below `root` for the values at `paths`, names of one and the same thing
/// (`net/netfilter/nf_conntrack_max`, `net/nf_conntrack_max`).
pub fn lines(root: &Path, paths: &[&str]) -> (Lines, Vec<Gap>) {
    let mut gaps = Vec::new();
    let files = SysctlFiles::read(&Tree::new(root), &mut gaps);
    (files.lines(paths), gaps)
}

/// The value after these lines have been written over `before`: lines that `accept` has no number
/// for change nothing.
pub fn outcome(lines: &[Line], before: u64, accept: impl Fn(&str) -> Option<u64>) -> u64 {
    lines.iter().filter_map(|line| accept(&line.text)).next_back().unwrap_or(before)
}

/// Whether a line of a sysctl file gives `value`, as written, to a setting with any reader.
pub fn gives(line: &[u8], key: SettingKey, value: &str) -> bool {
    let content = Content { file: PathBuf::new(), bytes: line.to_vec() };
    let readers = [Reader::Systemd, Reader::Procps].into_iter();
    let mut found = readers
        .flat_map(|reader| statements(std::slice::from_ref(&content), reader, super::paths(key)));
    found.any(|statement| statement.value.as_deref() == Some(value))
}

/// Whether a line names a setting with any reader, be it by a pattern.
pub(super) fn concerns(line: &[u8], key: SettingKey) -> bool {
    let content = [Content { file: PathBuf::new(), bytes: line.to_vec() }];
    let readers = [Reader::Systemd, Reader::Procps];
    readers.into_iter().any(|r| !statements(&content, r, super::paths(key)).is_empty())
}

/// Whether a file of the same syntax has a line for limit or buckets.
pub(super) fn mentions_conntrack(text: &str) -> bool {
    let content = Content { file: PathBuf::new(), bytes: text.as_bytes().to_vec() };
    let paths = [super::paths(SettingKey::Limit), super::paths(SettingKey::Buckets)].concat();
    !statements(&[content], Reader::Procps, &paths).is_empty()
}

/// The files of both readers, read once.
pub(super) struct SysctlFiles {
    systemd: Vec<Content>,
    procps: Vec<Content>,
    hidden_by_others: Vec<Content>,
}

impl SysctlFiles {
    pub(super) fn read(tree: &Tree<'_>, gaps: &mut Vec<Gap>) -> Self {
        let mut files =
            Self { systemd: Vec::new(), procps: Vec::new(), hidden_by_others: Vec::new() };
        for file in folders::files(tree, SYSCTL, gaps) {
            if file.masked {
                files.hidden_by_others.push(file.content);
                continue;
            }
            if !file.is_hidden() {
                files.systemd.push(file.content.clone());
            }
            files.procps.push(file.content);
        }
        files.procps.extend(procps_file(tree, gaps));
        files
    }

    pub(super) fn lines(&self, paths: &[&str]) -> Lines {
        let systemd = statements(&self.systemd, Reader::Systemd, paths);
        let procps = statements(&self.procps, Reader::Procps, paths);
        let hidden = statements(&self.hidden_by_others, Reader::Systemd, paths);
        Lines {
            all: all(&systemd, &procps, &hidden, paths),
            systemd: written_by_systemd(&systemd, paths),
            procps: written_by_procps(&procps, paths),
        }
    }
}

fn procps_file(tree: &Tree<'_>, gaps: &mut Vec<Gap>) -> Option<Content> {
    let path = Path::new(PROCPS_FILE);
    match tree.read(path) {
        Ok(content) => Some(content),
        Err(error) => {
            if !is_missing(&error) {
                gaps.push(read::gap("a settings file", path, &error));
            }
            None
        }
    }
}

/// One line that has to do with a followed path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    file: PathBuf,
    line: u32,
    /// Path below `/proc/sys`, or a pattern for it.
    key: String,
    /// The path as the reader spells it where it looks for other lines of the same path.
    spelling: String,
    /// Absent in `-key`, which keeps patterns away from a path.
    value: Option<String>,
}

impl Statement {
    fn is_pattern(&self) -> bool {
        glob::is_pattern(&self.key)
    }

    fn written_to(&self, path: &str) -> Option<Line> {
        let (file, text) = (self.file.clone(), self.value.clone()?);
        Some(Line { file, line: self.line, path: path.to_owned(), text })
    }

    /// The first of `paths` that it names.
    fn named<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.iter().copied().find(|path| names(&self.key, path))
    }
}

fn names(key: &str, path: &str) -> bool {
    if glob::is_pattern(key) { glob::matches(key, path) } else { key == path }
}

fn statements(files: &[Content], reader: Reader, paths: &[&str]) -> Vec<Statement> {
    let concerns = |statement: &Statement| statement.named(paths).is_some();
    files.iter().flat_map(|file| parse(file, reader)).filter(concerns).collect()
}

/// Every statement of a file.
fn parse(content: &Content, reader: Reader) -> Vec<Statement> {
    let text = String::from_utf8_lossy(&content.bytes);
    let lines: Vec<&str> = match reader {
        Reader::Systemd => systemd_lines(&text),
        Reader::Procps => text.split('\n').map(|l| l.split('\0').next().unwrap_or(l)).collect(),
    };
    let parsed = lines.into_iter().zip(1_u32..).filter_map(|(line, number)| {
        let (key, value) = match reader {
            Reader::Systemd => systemd_line(line),
            Reader::Procps => procps_line(line),
        }?;
        let spelling = slashed(key);
        let key = match reader {
            Reader::Systemd => systemd_path(&spelling)?,
            Reader::Procps => procps_path(&spelling)?,
        };
        let value = value.map(str::to_owned);
        Some(Statement { file: content.file.clone(), line: number, key, spelling, value })
    });
    parsed.collect()
}

/// `read_line` of systemd ends a line at LF, CR or NUL; CR LF is one end.
fn systemd_lines(text: &str) -> Vec<&str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split(['\r', '\0']))
        .collect()
}

/// Key and value of a line as systemd takes it apart; no value in `-key`.
fn systemd_line(line: &str) -> Option<(&str, Option<&str>)> {
    const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];
    let line = line.trim_matches(BLANKS);
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => {
            (key.strip_prefix('-').unwrap_or(key), Some(value.trim_matches(BLANKS)))
        }
        None => (line.strip_prefix('-')?, None),
    };
    Some((key.trim_matches(BLANKS), value))
}

/// Key and value of a line as procps takes it apart.
fn procps_line(line: &str) -> Option<(&str, Option<&str>)> {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
    let line = line.trim_start_matches(is_blank);
    if line.len() < 2 || line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => {
            (key.strip_prefix('-').unwrap_or(key), Some(value.trim_matches(is_blank)))
        }
        None => (line.strip_prefix('-')?, None),
    };
    Some((key.trim_end_matches(is_blank), value))
}

/// Dots and slashes change places unless the first of them is a slash: `net.ipv4.conf.eth0/1.x` is
/// `net/ipv4/conf/eth0.1/x`.
fn slashed(key: &str) -> String {
    if key.chars().find(|c| matches!(c, '.' | '/')) != Some('.') {
        return key.to_owned();
    }
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swapped).collect()
}

/// systemd leaves out empty parts and `.`, and writes to no path with `..`.
fn systemd_path(path: &str) -> Option<String> {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// procps leaves the path to the kernel, for which a value with a slash behind it is no folder.
fn procps_path(path: &str) -> Option<String> {
    if path.ends_with('/') {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// systemd keeps one value a key. A new value moves the key to the end, the same one leaves it
/// where it is. Patterns are written in their turn, to the paths that no key names.
fn written_by_systemd(statements: &[Statement], paths: &[&str]) -> Vec<Line> {
    let mut kept: HashMap<&str, usize> = HashMap::new();
    for (index, statement) in statements.iter().enumerate() {
        let earlier = kept.get(statement.key.as_str()).and_then(|index| statements.get(*index));
        if earlier.is_none_or(|earlier| earlier.value != statement.value) {
            kept.insert(&statement.key, index);
        }
    }
    let mut order: Vec<usize> = kept.values().copied().collect();
    order.sort_unstable();
    let in_order = order.into_iter().filter_map(|index| statements.get(index));
    in_order.flat_map(|s| written(s, paths, |path| kept.contains_key(path))).collect()
}

/// procps writes every line in its turn; a pattern passes over paths that any other line names.
fn written_by_procps(statements: &[Statement], paths: &[&str]) -> Vec<Line> {
    let named: HashSet<&str> =
        statements.iter().map(|statement| statement.spelling.as_str()).collect();
    statements.iter().flat_map(|s| written(s, paths, |path| named.contains(path))).collect()
}

fn written(statement: &Statement, paths: &[&str], is_named: impl Fn(&str) -> bool) -> Vec<Line> {
    if !statement.is_pattern() {
        return statement.written_to(&statement.key).into_iter().collect();
    }
    let mut matching: Vec<&str> = paths
        .iter()
        .copied()
        .filter(|path| glob::matches(&statement.key, path) && !is_named(path))
        .collect();
    matching.sort_unstable();
    matching.into_iter().filter_map(|path| statement.written_to(path)).collect()
}

fn all(
    systemd: &[Statement],
    procps: &[Statement],
    hidden: &[Statement],
    paths: &[&str],
) -> Vec<(Line, Vec<Reader>)> {
    let mut all: Vec<(Line, Vec<Reader>)> = Vec::new();
    let mut places: HashMap<(PathBuf, u32), usize> = HashMap::new();
    let sources =
        [(systemd, Some(Reader::Systemd)), (procps, Some(Reader::Procps)), (hidden, None)];
    for (statements, reader) in sources {
        for statement in statements {
            let path = statement.named(paths).unwrap_or_default();
            let Some(line) = statement.written_to(path) else { continue };
            let place = (line.file.clone(), line.line);
            let index = *places.entry(place).or_insert(all.len());
            match all.get_mut(index) {
                Some((_, readers)) => readers.extend(reader.filter(|r| !readers.contains(r))),
                None => all.push((line, reader.into_iter().collect())),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATHS: [&str; 2] = ["net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"];

    fn file(name: &str, text: &str) -> Content {
        Content { file: PathBuf::from(name), bytes: text.as_bytes().to_vec() }
    }

    fn written(reader: Reader, texts: &[&str]) -> Vec<String> {
        let names = ["1", "2", "3", "4"];
        let files: Vec<_> = names.iter().zip(texts).map(|(n, t)| file(n, t)).collect();
        let files =
            SysctlFiles { systemd: files.clone(), procps: files, hidden_by_others: Vec::new() };
        let lines = files.lines(&PATHS);
        let show = |line: &Line| format!("{}:{} {}", line.file.display(), line.line, line.text);
        lines.written_by(reader).iter().map(show).collect()
    }

    #[test]
    fn systemd_writes_each_key_once_where_it_last_changed() {
        let texts = [
            "net.netfilter.nf_conntrack_max = 5\n",
            "net.nf_conntrack_max = 6\n",
            "net.netfilter.nf_conntrack_max = 5\n",
        ];
        assert_eq!(written(Reader::Systemd, &texts), ["1:1 5", "2:1 6"]);
        assert_eq!(written(Reader::Procps, &texts), ["1:1 5", "2:1 6", "3:1 5"]);
    }

    #[test]
    fn a_key_without_value_takes_back_in_systemd_only() {
        let texts = ["net/netfilter/nf_conntrack_max=5\n-net/netfilter/nf_conntrack_max\n"];
        assert_eq!(written(Reader::Systemd, &texts), [""; 0]);
        assert_eq!(written(Reader::Procps, &texts), ["1:1 5"]);
    }

    #[test]
    fn a_pattern_passes_over_named_paths() {
        let texts = ["net.netfilter.nf_conntrack_max=5\nnet.*nf_conntrack_max=7\nnet.*.nf_c*=8"];
        for reader in [Reader::Systemd, Reader::Procps] {
            assert_eq!(written(reader, &texts), ["1:1 5", "1:2 7"]);
        }
    }

    #[test]
    fn keys_are_spelled_in_many_ways() {
        for key in [
            "net.netfilter.nf_conntrack_max",
            "net/netfilter/nf_conntrack_max",
            "/net/netfilter/nf_conntrack_max",
            "net/./netfilter//nf_conntrack_max",
            "-net.netfilter.nf_conntrack_max",
            "\tnet.netfilter.nf_conntrack_max ",
        ] {
            let text = format!("{key}=5\r\n");
            assert_eq!(written(Reader::Systemd, &[&text]), ["1:1 5"], "{key:?}");
            assert_eq!(written(Reader::Procps, &[&text]), ["1:1 5"], "{key:?}");
        }
        for key in
            ["net.netfilter/nf_conntrack_max", "# net.nf_conntrack_max", "Net.nf_conntrack_max"]
        {
            let text = format!("{key}=5\n");
            assert_eq!(written(Reader::Systemd, &[&text]), [""; 0], "{key:?}");
        }
    }

    #[test]
    fn a_file_read_twice_is_one_line_of_two_readers() {
        let conf = file("/etc/sysctl.conf", "net.nf_conntrack_max=5\n");
        let files = SysctlFiles {
            systemd: vec![conf.clone()],
            procps: vec![conf.clone(), conf],
            hidden_by_others: vec![file("/lib/sysctl.d/x", "net.nf_conntrack_max=9\n")],
        };
        let lines = files.lines(&PATHS);
        let readers: Vec<_> = lines.all.iter().map(|(_, readers)| readers.clone()).collect();
        assert_eq!(readers, [vec![Reader::Systemd, Reader::Procps], vec![]]);
        assert_eq!(lines.procps.len(), 2);
    }

    proptest! {
        #[test]
        fn hostile_files_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let content = Content { file: PathBuf::from("x"), bytes };
            let files = SysctlFiles {
                systemd: vec![content.clone()],
                procps: vec![content.clone()],
                hidden_by_others: vec![content],
            };
            let _ = files.lines(&PATHS);
        }

        #[test]
        fn lines_like_settings_do_no_harm(
            text in "([-#; ]{0,2}(net|\\*)[./]{1,2}(nf_conntrack_max|netfilter|[*?\\[])[ =]{0,3}[0-9x]{0,4}[\r\n\0]){0,12}",
        ) {
            let _ = written(Reader::Systemd, &[&text]);
            let _ = written(Reader::Procps, &[&text]);
        }
    }
}
