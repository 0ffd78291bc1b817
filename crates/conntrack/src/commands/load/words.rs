//! A line's words: separated by blanks, with double quotes around what has blanks in it.

/// Most words of a line, the program's name among them.
const MOST_WORDS: usize = 254;
/// Longest word.
const LONGEST: usize = 1023;

/// Words of a line that `-o save` writes, and some more.
const USUAL_WORDS: usize = 40;

/// The words of one line after the other, in the same memory.
#[derive(Debug, Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    /// Where each word ends.
    ends: Vec<usize>,
}

impl Words {
    /// The words of a line behind the program's name; the error is conntrack's message.
    pub(super) fn of<'w>(
        &'w mut self,
        program: &'w [u8],
        line: &'w [u8],
    ) -> Result<Vec<&'w [u8]>, &'static str> {
        if memchr::memchr(b'"', line).is_none() {
            return unquoted(program, line);
        }
        self.bytes.clear();
        self.ends.clear();
        self.split(line)?;
        let mut words = Vec::with_capacity(self.ends.len() + 1);
        words.push(program);
        let mut start = 0;
        for &end in &self.ends {
            words.push(&self.bytes[start..end]);
            start = end;
        }
        Ok(words)
    }

    /// A quote that closes ends the word, even an empty one; one that opens does not begin one. In
    /// quotes a backslash takes away what the next byte means.
    fn split(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (mut quoted, mut escaped) = (false, false);
        for &byte in line {
            match byte {
                _ if escaped => {
                    escaped = false;
                    self.push(byte)?;
                }
                b'\\' if quoted => escaped = true,
                b'"' if quoted => {
                    quoted = false;
                    self.end_word()?;
                }
                b'"' => quoted = true,
                b' ' | b'\t' | b'\n' if !quoted => {
                    if self.length() > 0 {
                        self.end_word()?;
                    }
                }
                _ => self.push(byte)?,
            }
        }
        if self.length() > 0 { self.end_word() } else { Ok(()) }
    }

    /// The length of the word that has been begun.
    fn length(&self) -> usize {
        self.bytes.len() - self.ends.last().copied().unwrap_or(0)
    }

    fn push(&mut self, byte: u8) -> Result<(), &'static str> {
        self.bytes.push(byte);
        if self.length() > LONGEST { Err("Parameter too long!") } else { Ok(()) }
    }

    fn end_word(&mut self) -> Result<(), &'static str> {
        if self.ends.len() + 1 >= MOST_WORDS {
            return Err("too many arguments");
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

/// The words of a line without quotes, as they stand in it.
fn unquoted<'w>(program: &'w [u8], line: &'w [u8]) -> Result<Vec<&'w [u8]>, &'static str> {
    let mut words = Vec::with_capacity(USUAL_WORDS);
    words.push(program);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n');
    for word in line.split(is_blank).filter(|word| !word.is_empty()) {
        if word.len() > LONGEST {
            return Err("Parameter too long!");
        }
        if words.len() >= MOST_WORDS {
            return Err("too many arguments");
        }
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, &'static str> {
        let mut memory = Words::default();
        let words = memory.of(b"conntrack", line.as_bytes())?;
        Ok(words[1..].iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn blanks_and_quotes() {
        assert_eq!(words(" -A\t-s  1.1.1.1\n").unwrap(), ["-A", "-s", "1.1.1.1"]);
        assert_eq!(words("a\"b c\"d\n").unwrap(), ["ab c", "d"]);
        assert_eq!(words("\"\" x").unwrap(), ["", "x"]);
        assert_eq!(words("\"a\\\"b\\\\\" \\x").unwrap(), ["a\"b\\", "\\x"]);
        assert_eq!(words("x \"open and\n").unwrap(), ["x", "open and\n"]);
        assert_eq!(words("a\r\n").unwrap(), ["a\r"]);
    }

    #[test]
    fn limits() {
        assert_eq!(words(&"x".repeat(1023)).unwrap().len(), 1);
        assert_eq!(words(&"x".repeat(1024)), Err("Parameter too long!"));
        assert_eq!(words(&"x ".repeat(253)).unwrap().len(), 253);
        assert_eq!(words(&"x ".repeat(254)), Err("too many arguments"));
        // With quotes they are counted on another way.
        assert_eq!(words(&format!("\"{}\"", "x".repeat(1023))).unwrap().len(), 1);
        assert_eq!(words(&format!("\"{}\"", "x".repeat(1024))), Err("Parameter too long!"));
        assert_eq!(words(&"\"x\" ".repeat(253)).unwrap().len(), 253);
        assert_eq!(words(&"\"x\" ".repeat(254)), Err("too many arguments"));
    }
}
