//! Words on standard error.

use std::io::{self, IsTerminal, Write};

use super::wrap;

/// Writes a line to standard error, folded to the terminal's width if it is one. Unlike `eprintln!`
/// it does not panic when nobody reads it any more (`ctkeeper list 2>&1 | head`).
macro_rules! say {
    ($($words:tt)*) => {
        $crate::ui::notice(&format!($($words)*))
    };
}

pub(crate) use say;

/// What [`say!`] does.
pub(crate) fn notice(text: &str) {
    let stderr = io::stderr();
    let size = if stderr.is_terminal() { terminal_size::terminal_size_of(&stderr) } else { None };
    let text = match size {
        Some((width, _)) => folded(text, usize::from(width.0)),
        None => text.to_owned(),
    };
    // Whoever closed the stream does not want to know.
    let _ = writeln!(stderr.lock(), "{text}");
}

/// Indented lines stay as they are: carets point into them.
fn folded(text: &str, width: usize) -> String {
    let fold = |line: &str| {
        if line.starts_with(' ') { line.to_owned() } else { wrap(line, width).join("\n") }
    };
    text.lines().map(fold).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stay_below_what_they_mean() {
        let text = "filter: unknown term\n  tcp dprot 80\n      ^^^^^ did you mean `dport`?";
        let expected = "filter:\nunknown\nterm\n  tcp dprot 80\n      ^^^^^ did you mean `dport`?";
        assert_eq!(folded(text, 10), expected);
    }
}
