//! Errors that point at the column.

use std::fmt;

use crate::hostile::masked;

/// Why an expression is no filter.
///
/// Its text shows the expression with carets under what is wrong, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// The expression.
    pub expression: String,
    /// Where, in characters from 1; one past the end for what is missing.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub length: usize,
    /// What is wrong there.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One character for one, so that the carets stay below what they mean.
        let shown = masked(&self.expression);
        let indent = " ".repeat(self.column.saturating_sub(1));
        let carets = "^".repeat(self.length.max(1));
        writeln!(f, "filter, column {}: {}", self.column, masked(&self.message))?;
        writeln!(f, "  {shown}")?;
        write!(f, "  {indent}{carets}")?;
        match &self.hint {
            Some(hint) => write!(f, " {}", masked(hint)),
            None => Ok(()),
        }
    }
}
