//! A rule explained in full.

use std::io::{self, Write};

use ctkeeper_diagnosis::Rule;

use super::{Screen, wrap};

/// Draws what there is to know about a rule.
pub(crate) fn draw(out: &mut impl Write, screen: &Screen, rule: &Rule) -> io::Result<()> {
    writeln!(out, "{}: {}", screen.paint(Screen::STRONG, rule.id), rule.title)?;
    let text = rule.explanation;
    let parts = [
        ("WHY", text.why),
        ("EVIDENCE", text.evidence),
        ("REMEDIES", text.remedies),
        ("TRAPS", text.traps),
    ];
    for (heading, body) in parts.into_iter().filter(|(_, body)| !body.is_empty()) {
        writeln!(out, "\n{}", screen.paint(Screen::STRONG, heading))?;
        for line in body.lines().flat_map(|line| folded(line, screen.width().min(100) - 2)) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

/// Indented lines are lines of a file: they stay as they are.
fn folded(line: &str, width: usize) -> Vec<String> {
    if line.starts_with("    ") { vec![line.to_owned()] } else { wrap(line, width) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_stay_whole() {
        assert_eq!(folded("    a  line of a file", 10), ["    a  line of a file"]);
        assert_eq!(folded("words that are folded", 10), ["words that", "are folded"]);
    }
}
