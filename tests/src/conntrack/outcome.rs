//! What came of a case, and how two of them differ.

use std::collections::BTreeSet;

use super::case::{Case, Expected};
use super::mask::{Masked, Moment, Rules, masked};
use super::program::Said;
use super::stage::Look;

/// What came of a case's calls.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Each call.
    pub said: Vec<Said>,
    /// The table left behind.
    pub left: Look,
}

/// How a candidate's outcome differs from the reference's; empty if it does not.
pub fn differences(
    case: &Case,
    reference: &Outcome,
    candidate: &Outcome,
    same_table: bool,
) -> String {
    let rules = Rules { same_table, use_varies: case.use_varies };
    let mut all = String::new();
    for (theirs, ours) in reference.said.iter().zip(&candidate.said) {
        let expected = expected(theirs, case);
        if as_a_shell(&expected.end) != as_a_shell(&ours.end) {
            all += &format!("ended: {} instead of {}\n", ours.end, expected.end);
        }
        let moments = (theirs.moment, ours.moment);
        let text = |what, theirs, ours| texts(what, (theirs, ours), case, rules, moments);
        all += &text("standard output", &expected.stdout, &ours.stdout);
        all += &text("standard error", &expected.stderr, &ours.stderr);
    }
    if let Some(text) = reference.left.difference(&candidate.left) {
        all += &format!("the table left behind:\n{text}");
    }
    all
}

/// A shell tells death by SIGPIPE as 141.
fn as_a_shell(end: &str) -> &str {
    if end == "signal 13" { "exit 141" } else { end }
}

/// What the reference said, but for what must differ.
fn expected(said: &Said, case: &Case) -> Said {
    let Some(difference) = &case.differs else { return said.clone() };
    let Expected { stdout, stderr, code } = &difference.expected;
    let more =
        difference.more_option_words.iter().fold(String::new(), |all, word| all + word + " ");
    Said {
        end: code.map_or_else(|| said.end.clone(), |code| format!("exit {code}")),
        stdout: more + stdout.as_ref().unwrap_or(&said.stdout),
        stderr: stderr.clone().unwrap_or_else(|| said.stderr.clone()),
        moment: said.moment,
    }
}

fn texts(
    what: &str,
    (theirs, ours): (&str, &str),
    case: &Case,
    rules: Rules,
    moments: (Moment, Moment),
) -> String {
    if case.only_option_words && what == "standard output" {
        let (theirs, ours) = (option_words(theirs), option_words(ours));
        if theirs == ours {
            return String::new();
        }
        return format!(
            "option words: missing {:?}, too many {:?}\n",
            theirs.difference(&ours).collect::<Vec<_>>(),
            ours.difference(&theirs).collect::<Vec<_>>()
        );
    }
    let (mut theirs, mut ours) = (masked(theirs, rules), masked(ours, rules));
    if case.unordered {
        (theirs, ours) = (theirs.sorted(), ours.sorted());
    } else if case.names_protocol() && !case.listens() {
        (theirs, ours) = (theirs.by_family(), ours.by_family());
    }
    between(what, &theirs, &ours, moments)
}

fn between(what: &str, theirs: &Masked, ours: &Masked, moments: (Moment, Moment)) -> String {
    if theirs.lines != ours.lines {
        return format!("{what}:\n{}", unified(&theirs.lines, &ours.lines));
    }
    let apart = theirs.apart(ours, moments);
    apart.map_or_else(String::new, |apart| format!("{what}: {apart}"))
}

/// `-p`, `--protonum` and the like.
fn option_words(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    text.split(|letter| !is_part(letter))
        .filter(|word| {
            let name = word.trim_start_matches('-');
            let dashes = word.len() - name.len();
            matches!(dashes, 1 | 2) && name.starts_with(|c: char| c.is_ascii_alphabetic())
        })
        .map(str::to_owned)
        .collect()
}

/// Lines of both, `-` those of the reference, `+` those of the candidate.
pub(super) fn unified(theirs: &[String], ours: &[String]) -> String {
    let table = common(theirs, ours);
    let (mut i, mut j, mut text) = (0, 0, String::new());
    let mut add = |sign: char, line: &str| {
        let line = line.strip_suffix('\n').map_or_else(|| format!("{line}%"), str::to_owned);
        text += &format!("  {sign}{line}\n");
    };
    while i < theirs.len() || j < ours.len() {
        if i < theirs.len() && j < ours.len() && theirs[i] == ours[j] {
            add(' ', &theirs[i]);
            (i, j) = (i + 1, j + 1);
        } else if j == ours.len() || (i < theirs.len() && table[i + 1][j] >= table[i][j + 1]) {
            add('-', &theirs[i]);
            i += 1;
        } else {
            add('+', &ours[j]);
            j += 1;
        }
    }
    text
}

/// How many lines the ends from two places on have in common.
fn common(theirs: &[String], ours: &[String]) -> Vec<Vec<u32>> {
    let mut table = vec![vec![0; ours.len() + 1]; theirs.len() + 1];
    for i in (0..theirs.len()).rev() {
        for j in (0..ours.len()).rev() {
            table[i][j] = if theirs[i] == ours[j] {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_what_is_missing() {
        let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(unified(&lines("a\nb\nc\n"), &lines("a\nc\nd\n")), "   a\n  -b\n   c\n  +d\n");
    }

    #[test]
    fn option_words_are_found_in_a_usage() {
        let words = option_words("  -s, --src, --orig-src ip\t\tsource -- x-y [-p]\n");
        assert_eq!(words.into_iter().collect::<Vec<_>>(), ["--orig-src", "--src", "-p", "-s"]);
    }
}
