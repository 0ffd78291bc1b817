//! Text that others chose: names of namespaces, processes and rules, values of files, filters.
//!
//! Some characters steer a terminal, end a line of a file, or reorder and hide what stands beside
//! them. Every face passes such text through here before it draws or writes it.

/// `text` with every character that steers shown as `\u{…}`.
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if steers(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
        shown
    })
}

/// `text` with every character that steers replaced by U+FFFD: one for one, so that columns stay.
pub fn masked(text: &str) -> String {
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Control characters, and the invisible ones that reorder or hide text (bidirectional controls,
/// zero-width characters, tags).
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
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
    fn escape_sequences_lose_their_teeth() {
        assert_eq!(escaped("web\x1b[2J"), "web\\u{1b}[2J");
        assert_eq!(escaped("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(escaped("größe"), "größe");
    }

    #[test]
    fn a_masked_text_keeps_its_columns_and_its_line() {
        assert_eq!(masked("a\nnet.x = 1\u{1b}[2J"), "a\u{fffd}net.x = 1\u{fffd}[2J");
    }
}
