//! Command lines as GNU `getopt_long` reads them.
//!
//! Its bookkeeping shows in conntrack's messages, which name the word before the next one to be
//! read, and in which words an option can still take for itself: so the words move here as they
//! move there.

/// A long option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongOption {
    /// Its name, without the dashes.
    pub(super) name: &'static str,
    /// Whether a value belongs to it.
    pub(super) value: Value,
    /// What it means.
    pub(super) code: Code,
}

/// Whether a value belongs to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// None.
    None,
    /// In the same word or the next.
    Required,
    /// In the same word only.
    Optional,
}

/// What an option means: the letter of a general option, or a number that the protocol read last
/// understands, with the place of the `-p` that brought it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// A letter of the short options.
    General(u8),
    /// An option of a protocol.
    Protocol {
        /// Which `-p` made it known, counted from 1.
        origin: usize,
        /// Its number there.
        number: u8,
    },
}

/// What stands next on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// An option, with its value if there is one.
    Option(Code, Option<&'a [u8]>),
    /// An option whose value is missing.
    ValueMissing,
    /// No option that is known, or an ambiguous one, or a value where none belongs.
    Unknown,
}

/// A reader of the words of a command line.
#[derive(Debug)]
pub(super) struct Getopt<'a> {
    words: Vec<&'a [u8]>,
    /// The word to be read next.
    next: usize,
    /// What is left of a word of short options.
    cluster: &'a [u8],
    /// Operands passed over, which are moved behind the options: from here …
    operands_from: usize,
    /// … to here.
    operands_to: usize,
    /// Whether the first operand ends the options.
    posix: bool,
}

impl<'a> Getopt<'a> {
    /// A reader of `words`, of which the first is the program's name; `posix` where
    /// `POSIXLY_CORRECT` is set.
    pub(super) fn new(words: Vec<&'a [u8]>, posix: bool) -> Self {
        Self { words, next: 1, cluster: &[], operands_from: 1, operands_to: 1, posix }
    }

    /// Reads on, knowing the short options of `short`, as getopt describes them, and `long`.
    pub(super) fn step(&mut self, short: &[u8], long: &[LongOption]) -> Option<Step<'a>> {
        if self.words.is_empty() {
            return None;
        }
        if !self.cluster.is_empty() {
            return Some(self.short(short));
        }
        let word = self.next_option_word()?;
        if let Some(name) = word.strip_prefix(b"--") {
            return Some(self.long(name, long));
        }
        self.cluster = &word[1..];
        Some(self.short(short))
    }

    /// The word that follows an option, taken for it unless it looks like another option.
    pub(super) fn take_word(&mut self) -> Option<&'a [u8]> {
        let word = *self.words.get(self.next)?;
        if matches!(word.first(), Some(b'-' | b'!')) {
            return None;
        }
        self.next += 1;
        Some(word)
    }

    /// The word that conntrack names when it complains: the one before the next.
    pub(super) fn culprit(&self) -> &'a [u8] {
        self.words[self.next - 1]
    }

    /// Passes over operands up to the next word with options.
    fn next_option_word(&mut self) -> Option<&'a [u8]> {
        self.operands_to = self.operands_to.min(self.next);
        self.operands_from = self.operands_from.min(self.next);
        if !self.posix {
            self.settle_operands();
            while self.words.get(self.next).is_some_and(|word| is_operand(word)) {
                self.next += 1;
            }
            self.operands_to = self.next;
        }
        if self.words.get(self.next) == Some(&&b"--"[..]) {
            self.end_at_dashes();
        }
        match self.words.get(self.next) {
            None => {
                if self.operands_from != self.operands_to {
                    self.next = self.operands_from;
                }
                None
            }
            Some(word) if is_operand(word) => None,
            Some(word) => Some(word),
        }
    }

    /// Moves operands behind the options that were read since.
    fn settle_operands(&mut self) {
        let (from, to) = (self.operands_from, self.operands_to);
        if to == self.next {
            return;
        }
        if from == to {
            self.operands_from = self.next;
        } else {
            self.words[from..self.next].rotate_left(to - from);
            self.operands_from += self.next - to;
            self.operands_to = self.next;
        }
    }

    fn end_at_dashes(&mut self) {
        self.next += 1;
        self.settle_operands();
        self.operands_to = self.words.len();
        self.next = self.words.len();
    }

    fn long(&mut self, word: &'a [u8], known: &[LongOption]) -> Step<'a> {
        self.next += 1;
        let (name, value) = match word.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&word[..equals], Some(&word[equals + 1..])),
            None => (word, None),
        };
        match (find(name, known), value) {
            (None, _) => Step::Unknown,
            (Some(option), Some(_)) if option.value == Value::None => Step::Unknown,
            (Some(option), None) if option.value == Value::Required => self.next_word(option.code),
            (Some(option), value) => Step::Option(option.code, value),
        }
    }

    fn short(&mut self, known: &[u8]) -> Step<'a> {
        let (letter, rest) = (self.cluster[0], &self.cluster[1..]);
        self.cluster = rest;
        if rest.is_empty() {
            self.next += 1;
        }
        let Some(value) = short_value(letter, known) else {
            return Step::Unknown;
        };
        let code = Code::General(letter);
        if value == Value::None {
            return Step::Option(code, None);
        }
        self.cluster = &[];
        if !rest.is_empty() {
            self.next += 1;
            return Step::Option(code, Some(rest));
        }
        if value == Value::Required { self.next_word(code) } else { Step::Option(code, None) }
    }

    /// The next word is the value, whatever it looks like.
    fn next_word(&mut self, code: Code) -> Step<'a> {
        match self.words.get(self.next) {
            Some(&word) => {
                self.next += 1;
                Step::Option(code, Some(word))
            }
            None => Step::ValueMissing,
        }
    }
}

fn is_operand(word: &[u8]) -> bool {
    word.first() != Some(&b'-') || word.len() == 1
}

/// The option of a name, or of the beginning of one: then all that begin so must mean the same.
fn find(name: &[u8], known: &[LongOption]) -> Option<LongOption> {
    let exact = known.iter().find(|option| option.name.as_bytes() == name);
    if let Some(&option) = exact {
        return Some(option);
    }
    let mut candidates = known.iter().filter(|option| option.name.as_bytes().starts_with(name));
    let first = *candidates.next()?;
    let same = |other: &LongOption| (other.value, other.code) == (first.value, first.code);
    candidates.all(same).then_some(first)
}

fn short_value(letter: u8, known: &[u8]) -> Option<Value> {
    if matches!(letter, b':' | b';') {
        return None;
    }
    let at = known.iter().position(|&byte| byte == letter)?;
    Some(match known[at + 1..] {
        [b':', b':', ..] => Value::Optional,
        [b':', ..] => Value::Required,
        _ => Value::None,
    })
}
