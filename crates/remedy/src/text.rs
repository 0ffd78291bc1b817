//! Text that others chose.

/// A name without anything that could end a line of a file or steer a terminal.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and the invisible ones that reorder or hide text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_ends_no_line() {
        assert_eq!(printable("a\nnet.x = 1\u{1b}[2J"), "a\u{fffd}net.x = 1\u{fffd}[2J");
    }
}
