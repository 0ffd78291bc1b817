//! Words on standard error.

/// Writes a line to standard error. Unlike `eprintln!` it does not panic when nobody reads it any
/// more (`ctkeeper list 2>&1 | head`).
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        // Whoever closed the stream does not want to know.
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

pub(crate) use say;
