//! The canonical text of an expression, which parses back to the same.

use std::fmt;

use super::keyword::{Keyword, name};
use super::term::{MaskedMark, Network, NumberField, StateSet, Term};
use super::{Filter, Node};
use crate::{DccpState, SctpState, Status, TcpState};

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.root, f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(nodes) => joined(f, nodes, " and ", |f, node| match node {
                Self::Any(_) => write!(f, "({node})"),
                _ => fmt::Display::fmt(node, f),
            }),
            Self::Any(nodes) => joined(f, nodes, " or ", |f, node| fmt::Display::fmt(node, f)),
            Self::Not(node) => match &**node {
                Self::Term(Term::Status(Status::SEEN_REPLY)) => f.write_str("unreplied"),
                Self::Term(term) => write!(f, "not {term}"),
                node => write!(f, "not ({node})"),
            },
            Self::Term(term) => fmt::Display::fmt(term, f),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(field, networks) => {
                word(f, Keyword::Address(*field))?;
                joined(f, networks, ",", |f, network| network.fmt(f))
            }
            Self::Number(field, ranges) => {
                word(f, Keyword::Number(*field))?;
                match ranges.only() {
                    Some(range) => comparison(f, *field, range),
                    None => joined(f, ranges.iter(), ",", range),
                }
            }
            Self::Mark(marks) => {
                word(f, Keyword::Mark)?;
                joined(f, marks, ",", |f, mark| mark.fmt(f))
            }
            Self::Protocol(protocols) => {
                let mut members = protocols.iter();
                if let (Some(only), None) = (members.next(), members.next())
                    && let Some(name) = only.name()
                {
                    return f.write_str(name);
                }
                word(f, Keyword::ProtocolField)?;
                joined(f, protocols.iter(), ",", |f, protocol| fmt::Display::fmt(&protocol, f))
            }
            Self::Family(family) => fmt::Display::fmt(family, f),
            Self::State(states) => {
                word(f, Keyword::State)?;
                states.fmt(f)
            }
            Self::Closing => f.write_str("closing"),
            Self::Status(bits) => match name(Keyword::Status(*bits)) {
                Some(name) => f.write_str(name),
                None => write!(f, "status {}", bits.to_string().to_lowercase()),
            },
            Self::Helper(names) => {
                word(f, Keyword::Helper)?;
                joined(f, names, ",", |f, name| quoted(f, name))
            }
            Self::Label(bits) => {
                word(f, Keyword::Label)?;
                let set = (0..u128::BITS).filter(|bit| bits >> bit & 1 == 1);
                joined(f, set, ",", |f, bit| fmt::Display::fmt(&bit, f))
            }
        }
    }
}

impl Network {
    fn fmt(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address, f)?;
        if self.is_single() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl MaskedMark {
    fn fmt(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mask == u32::MAX {
            write!(f, "{:#x}", self.value)
        } else {
            write!(f, "{:#x}/{:#x}", self.value, self.mask)
        }
    }
}

impl StateSet {
    fn fmt(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |bits: u16, number: u8| bits >> number & 1 == 1;
        let tcp = TcpState::ALL.iter().filter(|s| set(self.tcp, s.number())).map(|s| s.name());
        // A name that several trackers share is said once.
        let sctp = SctpState::ALL
            .iter()
            .filter(|s| set(self.sctp, s.number()))
            .map(|s| s.name())
            .filter(|name| TcpState::from_name(name).is_none());
        let dccp = DccpState::ALL
            .iter()
            .filter(|s| set(self.dccp, s.number()))
            .map(|s| s.name())
            .filter(|n| TcpState::from_name(n).is_none() && SctpState::from_name(n).is_none());
        joined(f, tcp.chain(sctp).chain(dccp), ",", |f, name| fmt::Display::fmt(name, f))
    }
}

fn comparison(f: &mut fmt::Formatter<'_>, field: NumberField, ends: (u64, u64)) -> fmt::Result {
    match ends {
        (low, high) if low == high => write!(f, "{low}"),
        (0, high) if high < field.maximum() => write!(f, "<= {high}"),
        (low, high) if high == field.maximum() => write!(f, ">= {low}"),
        _ => range(f, ends),
    }
}

fn range(f: &mut fmt::Formatter<'_>, (low, high): (u64, u64)) -> fmt::Result {
    if low == high { write!(f, "{low}") } else { write!(f, "{low}-{high}") }
}

fn word(f: &mut fmt::Formatter<'_>, keyword: Keyword) -> fmt::Result {
    write!(f, "{} ", name(keyword).unwrap_or_default())
}

fn quoted(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return f.write_str(name);
    }
    // A name holds at most one kind of quote, for it was written in the other.
    let quote = if name.contains('"') { '\'' } else { '"' };
    write!(f, "{quote}{name}{quote}")
}

fn joined<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    separator: &str,
    mut write: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write(f, item)?;
    }
    Ok(())
}
