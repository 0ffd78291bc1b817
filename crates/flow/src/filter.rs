//! The filter language: which entries are meant.
//!
//! ```text
//! tcp dport 443 state ESTABLISHED,TIME_WAIT
//! src 10.0.0.0/8 and not (dport 22 or assured)
//! timeout < 5m or bytes > 1MiB
//! ```
//!
//! Terms stand for properties of an entry and are joined by `and` (or nothing), `or` and `not`.
//! `docs/filter.md` describes the whole language. An expression is compiled once to a small tree
//! that is evaluated without allocating; [`Filter::necessary`] tells which plain properties every
//! match has, so that a kernel can leave out entries that cannot match.

mod display;
mod error;
mod keyword;
mod lexer;
mod naming;
mod necessary;
mod parser;
mod ranges;
mod suggestion;
mod term;

pub use error::FilterError;
pub use naming::{Naming, NamingError};
pub use necessary::{Necessary, NecessaryTuple};

use crate::Flow;
use term::Term;

/// A compiled filter expression. The default one matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    root: Node,
}

impl Filter {
    /// Compiles an expression; an empty one matches everything.
    pub fn parse(expression: &str) -> Result<Self, FilterError> {
        parser::parse(expression).map(|root| Self { root })
    }

    /// Whether an entry is meant. `now`, nanoseconds since the epoch, is what `age` counts from
    /// ([`needs_clock`](Self::needs_clock) tells whether anybody asks).
    pub fn matches(&self, flow: &Flow, now: u64) -> bool {
        self.root.matches(flow, now)
    }

    /// Whether it matches everything because it says nothing.
    pub fn is_everything(&self) -> bool {
        matches!(&self.root, Node::All(nodes) if nodes.is_empty())
    }

    /// Whether the age of entries matters.
    pub fn needs_clock(&self) -> bool {
        self.root.any_term(&Term::needs_clock)
    }

    /// Whether counters matter, which entries carry only with `nf_conntrack_acct` on.
    pub fn needs_accounting(&self) -> bool {
        self.root.any_term(&Term::needs_accounting)
    }

    /// What holds for every entry that matches, as far as it can be said in plain values.
    pub fn necessary(&self) -> Necessary {
        necessary::of(&self.root)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self { root: Node::All(Vec::new()) }
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(expression: &str) -> Result<Self, FilterError> {
        Self::parse(expression)
    }
}

/// A tree of terms. `All` never holds an `All`, `Any` never an `Any`, `Not` never a `Not`, and
/// both lists have at least two members but for the empty `All`, which is everything.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Term(Term),
}

impl Node {
    fn all(nodes: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::All(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        Self::only(flat).unwrap_or_else(Self::All)
    }

    fn any(nodes: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::Any(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        Self::only(flat).unwrap_or_else(Self::Any)
    }

    fn negated(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// The node of a list of one, or the list.
    fn only(mut nodes: Vec<Self>) -> Result<Self, Vec<Self>> {
        match nodes.pop() {
            Some(node) if nodes.is_empty() => Ok(node),
            Some(node) => {
                nodes.push(node);
                Err(nodes)
            }
            None => Err(nodes),
        }
    }

    fn matches(&self, flow: &Flow, now: u64) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(flow, now)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(flow, now)),
            Self::Not(node) => !node.matches(flow, now),
            Self::Term(term) => term.matches(flow, now),
        }
    }

    fn any_term(&self, wanted: &impl Fn(&Term) -> bool) -> bool {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().any(|node| node.any_term(wanted)),
            Self::Not(node) => node.any_term(wanted),
            Self::Term(term) => wanted(term),
        }
    }
}

#[cfg(test)]
mod tests;
