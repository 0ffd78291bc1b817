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
        for line in wrap(body, screen.width().min(100) - 2) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}
