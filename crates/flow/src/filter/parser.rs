//! From tokens to the tree.

use super::error::FilterError;
use super::keyword::{Keyword, meaning};
use super::lexer::{Comparison, Kind, Token, tokens};
use super::term::Term;
use super::{Node, suggestion};
use crate::Status;

mod value;

/// Nesting that people do not reach and a stack can bear.
const DEEPEST: usize = 100;

pub(super) fn parse(expression: &str) -> Result<Node, FilterError> {
    let tokens = tokens(expression);
    let mut parser = Parser { expression, tokens: &tokens, position: 0, depth: 0 };
    if tokens.is_empty() {
        return Ok(Node::All(Vec::new()));
    }
    let node = parser.alternatives()?;
    match parser.peek() {
        None => Ok(node),
        Some(token) if token.kind == Kind::Close => {
            Err(parser.error(token, "a `)` that nothing opens", None))
        }
        Some(token) => Err(parser.unexpected(token)),
    }
}

pub(super) struct Parser<'a> {
    expression: &'a str,
    tokens: &'a [Token<'a>],
    position: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn alternatives(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.conjunction()?];
        while self.take_word_or_sign(Keyword::Or, Kind::Or) {
            nodes.push(self.conjunction()?);
        }
        Ok(Node::any(nodes))
    }

    fn conjunction(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.negation()?];
        while self.take_word_or_sign(Keyword::And, Kind::And) || self.begins_term() {
            nodes.push(self.negation()?);
        }
        Ok(Node::all(nodes))
    }

    /// Whether a term without `and` follows.
    fn begins_term(&self) -> bool {
        match self.peek().map(|token| token.kind) {
            Some(Kind::Word(word)) => meaning(word) != Some(Keyword::Or),
            Some(Kind::Open | Kind::Not) => true,
            _ => false,
        }
    }

    fn negation(&mut self) -> Result<Node, FilterError> {
        self.depth += 1;
        let node = self.nested();
        self.depth -= 1;
        node
    }

    fn nested(&mut self) -> Result<Node, FilterError> {
        if self.depth > DEEPEST {
            let message = format!("nested deeper than {DEEPEST} levels");
            return Err(self.error_here(&message, None));
        }
        if self.take_word_or_sign(Keyword::Not, Kind::Not) {
            return self.negation().map(Node::negated);
        }
        let Some(opening) = self.take(Kind::Open) else {
            return self.term();
        };
        let node = self.alternatives()?;
        match self.take(Kind::Close) {
            Some(_) => Ok(node),
            None if self.peek().is_none() => {
                Err(self.error(opening, "a `(` that nothing closes", None))
            }
            None => Err(self.unexpected_here()),
        }
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        let Some(token) = self.next() else {
            return Err(self.error_here("a term is missing", Some("such as `dport 443`")));
        };
        let Kind::Word(word) = token.kind else {
            return Err(self.unexpected(token));
        };
        let Some(keyword) = meaning(word) else {
            let shown: String = word.chars().take(40).collect();
            let hint = suggestion::for_term(word);
            return Err(self.error(token, &format!("unknown term `{shown}`"), hint.as_deref()));
        };
        let term = match keyword {
            Keyword::Protocol(protocol) => value::protocol_term(protocol),
            Keyword::Family(family) => Term::Family(family),
            Keyword::Closing => Term::Closing,
            Keyword::Status(bits) => Term::Status(bits),
            Keyword::Unreplied => {
                return Ok(Node::Term(Term::Status(Status::SEEN_REPLY)).negated());
            }
            Keyword::And | Keyword::Or | Keyword::Not => {
                let message = format!("`{word}` stands where a term should");
                return Err(self.error(token, &message, None));
            }
            field => return self.field(word, field),
        };
        Ok(Node::Term(term))
    }

    /// A word that takes a value: a comparison or nothing, then one value or a list.
    fn field(&mut self, word: &str, field: Keyword) -> Result<Node, FilterError> {
        let comparison = self.comparison();
        let values = self.values(word)?;
        let ordered =
            |(sign, _): &(Comparison, _)| !matches!(sign, Comparison::Equal | Comparison::Unequal);
        if let Some((sign, token)) = comparison.filter(ordered) {
            let Keyword::Number(number) = field else {
                let message = format!("`{word}` has no order");
                return Err(self.error(token, &message, Some("only `=` and `!=` fit")));
            };
            return value::ordered(self, number, sign, token, &values).map(Node::Term);
        }
        let node = Node::Term(value::term(self, field, &values)?);
        let unequal = comparison.is_some_and(|(sign, _)| sign == Comparison::Unequal);
        Ok(if unequal { node.negated() } else { node })
    }

    fn comparison(&mut self) -> Option<(Comparison, &'a Token<'a>)> {
        let token = self.peek()?;
        let comparison = match token.kind {
            Kind::Compare(comparison) => comparison,
            // Words for those that a shell would take for itself.
            Kind::Word(word) => match word {
                "eq" => Comparison::Equal,
                "ne" => Comparison::Unequal,
                "lt" => Comparison::Less,
                "le" => Comparison::AtMost,
                "gt" => Comparison::Greater,
                "ge" => Comparison::AtLeast,
                _ => return None,
            },
            _ => return None,
        };
        self.position += 1;
        Some((comparison, token))
    }

    /// One value, several with commas, or a list in braces.
    fn values(&mut self, word: &str) -> Result<Vec<&'a Token<'a>>, FilterError> {
        let opening = self.take(Kind::OpenList);
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Some(token) if matches!(token.kind, Kind::Word(_) | Kind::Quoted(_)) => {
                    values.push(token);
                    self.position += 1;
                }
                _ => {
                    let example = value::example(word);
                    let message = format!("`{word}` wants a value");
                    return Err(self.error_here(&message, Some(&example)));
                }
            }
            if self.take(Kind::Comma).is_none() {
                break;
            }
        }
        match opening {
            Some(opening) if self.take(Kind::CloseList).is_none() => {
                Err(self.error(opening, "a `{` that nothing closes", None))
            }
            _ => Ok(values),
        }
    }

    fn take_word_or_sign(&mut self, keyword: Keyword, sign: Kind<'_>) -> bool {
        let taken = self.peek().is_some_and(|token| match token.kind {
            Kind::Word(word) => meaning(word) == Some(keyword),
            kind => kind == sign,
        });
        self.position += usize::from(taken);
        taken
    }

    fn take(&mut self, kind: Kind<'_>) -> Option<&'a Token<'a>> {
        let token = self.peek().filter(|token| token.kind == kind)?;
        self.position += 1;
        Some(token)
    }

    fn next(&mut self) -> Option<&'a Token<'a>> {
        let token = self.peek()?;
        self.position += 1;
        Some(token)
    }

    fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.position)
    }

    fn unexpected_here(&self) -> FilterError {
        match self.peek() {
            Some(token) => self.unexpected(token),
            None => self.error_here("the filter ends too early", None),
        }
    }

    fn unexpected(&self, token: &Token<'_>) -> FilterError {
        if let Kind::Wrong(message) = token.kind {
            return self.error(token, message, None);
        }
        let length = token.end - token.start;
        let text: String = self.expression.chars().skip(token.start).take(length).collect();
        let message = format!("`{text}` does not belong here");
        self.error(token, &message, None)
    }

    fn error(&self, token: &Token<'_>, message: &str, hint: Option<&str>) -> FilterError {
        FilterError {
            expression: self.expression.to_owned(),
            column: token.start + 1,
            length: token.end - token.start,
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    /// An error at the next token, or at the end.
    fn error_here(&self, message: &str, hint: Option<&str>) -> FilterError {
        let end = self.expression.trim_end().chars().count();
        let nothing = Token { kind: Kind::Comma, start: end, end: end + 1 };
        self.error(self.peek().unwrap_or(&nothing), message, hint)
    }
}
