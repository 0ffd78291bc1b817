//! An expression's tokens.

/// A token with its place, in characters from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Word(&'a str),
    /// A word in quotes: never a keyword.
    Quoted(&'a str),
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    And,
    Or,
    Not,
    Compare(Comparison),
    /// A quote that nothing closes, or a lone `&` or `|`.
    Wrong(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Signs, longest first.
const SIGNS: [(&str, Kind<'static>); 16] = [
    ("==", Kind::Compare(Comparison::Equal)),
    ("!=", Kind::Compare(Comparison::Unequal)),
    ("<=", Kind::Compare(Comparison::AtMost)),
    (">=", Kind::Compare(Comparison::AtLeast)),
    ("&&", Kind::And),
    ("||", Kind::Or),
    ("=", Kind::Compare(Comparison::Equal)),
    ("<", Kind::Compare(Comparison::Less)),
    (">", Kind::Compare(Comparison::Greater)),
    ("!", Kind::Not),
    ("(", Kind::Open),
    (")", Kind::Close),
    ("{", Kind::OpenList),
    ("}", Kind::CloseList),
    (",", Kind::Comma),
    ("&", Kind::Wrong("a single `&`: write `&&` or `and`")),
];

/// The tokens of an expression.
pub(super) fn tokens(expression: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut column) = (expression, 0);
    loop {
        let trimmed = rest.trim_start();
        column += rest[..rest.len() - trimmed.len()].chars().count();
        if trimmed.is_empty() {
            return tokens;
        }
        let (kind, length) = token(trimmed);
        let end = column + trimmed[..length].chars().count();
        tokens.push(Token { kind, start: column, end });
        (rest, column) = (&trimmed[length..], end);
    }
}

/// The first token of `text`, which is not blank, and its length in bytes.
fn token(text: &str) -> (Kind<'_>, usize) {
    if let Some(quote) = text.chars().next().filter(|first| ['"', '\''].contains(first)) {
        return match text[1..].find(quote) {
            Some(length) => (Kind::Quoted(&text[1..=length]), length + 2),
            None => (Kind::Wrong("a quote that nothing closes"), text.len()),
        };
    }
    if let Some((sign, kind)) = SIGNS.iter().find(|(sign, _)| text.starts_with(sign)) {
        return (*kind, sign.len());
    }
    if text.starts_with('|') {
        return (Kind::Wrong("a single `|`: write `||` or `or`"), 1);
    }
    let length = text.find(|c: char| c.is_whitespace() || "=!<>&|(){},\"'".contains(c));
    let word = &text[..length.unwrap_or(text.len())];
    (Kind::Word(word), word.len())
}
