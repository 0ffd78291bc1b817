//! The values of terms.

use std::net::IpAddr;

use super::Parser;
use crate::filter::error::FilterError;
use crate::filter::keyword::{Keyword, OTHER_PROTOCOLS, meaning};
use crate::filter::lexer::{Comparison, Kind, Token};
use crate::filter::ranges::Ranges;
use crate::filter::suggestion;
use crate::filter::term::{
    AddressField, MaskedMark, Network, NumberField, ProtocolSet, StateSet, Term, Unit,
};
use crate::{DccpState, Family, Protocol, SctpState, Status, TcpState};

type Values<'a> = [&'a Token<'a>];

pub(super) fn protocol_term(protocol: Protocol) -> Term {
    let mut set = ProtocolSet::default();
    set.insert(protocol);
    Term::Protocol(set)
}

/// The term of a field and its values: any of them.
pub(super) fn term(
    parser: &Parser<'_>,
    field: Keyword,
    values: &Values<'_>,
) -> Result<Term, FilterError> {
    match field {
        Keyword::Address(field) => addresses(parser, field, values),
        Keyword::Number(field) => numbers(parser, field, values),
        Keyword::Mark => {
            let marks: Result<_, _> = values.iter().map(|token| mark(parser, token)).collect();
            Ok(Term::Mark(marks?))
        }
        Keyword::ProtocolField => protocols(parser, values),
        Keyword::FamilyField => family(parser, values),
        Keyword::State => states(parser, values),
        Keyword::StatusField => statuses(parser, values),
        Keyword::Helper => {
            Ok(Term::Helper(values.iter().map(|token| text(token).into()).collect()))
        }
        _ => labels(parser, values),
    }
}

/// The term of a number and `<`, `<=`, `>` or `>=`.
pub(super) fn ordered(
    parser: &Parser<'_>,
    field: NumberField,
    comparison: Comparison,
    sign: &Token<'_>,
    values: &Values<'_>,
) -> Result<Term, FilterError> {
    let [value] = values else {
        return Err(parser.error(sign, "a list has no order", Some("compare with one number")));
    };
    let number = number(parser, field, value, text(value))?;
    let maximum = field.maximum();
    let range = match comparison {
        Comparison::Less => number.checked_sub(1).map(|high| (0, high)),
        Comparison::AtMost => Some((0, number)),
        Comparison::Greater => number.checked_add(1).map(|low| (low, maximum)),
        _ => Some((number, maximum)),
    };
    match range.filter(|(low, high)| low <= high) {
        Some(range) => Ok(Term::Number(field, Ranges::new(vec![range]))),
        None => Err(parser.error(value, "no entry can match this comparison", None)),
    }
}

/// An example of a field's value.
pub(super) fn example(word: &str) -> String {
    let value = match meaning(word) {
        Some(Keyword::Address(_)) => "10.0.0.0/8",
        Some(Keyword::Number(field)) => match field.unit() {
            Unit::Seconds => "< 5m",
            Unit::Bytes => "> 1MiB",
            Unit::Packets => "> 1000",
            Unit::None => "443",
        },
        Some(Keyword::Mark) => "0x10/0xff",
        Some(Keyword::ProtocolField) => "tcp",
        Some(Keyword::FamilyField) => "ipv4",
        Some(Keyword::State) => "ESTABLISHED,TIME_WAIT",
        Some(Keyword::StatusField) => "assured",
        Some(Keyword::Helper) => "ftp",
        _ => "1",
    };
    format!("such as `{word} {value}`")
}

fn addresses(
    parser: &Parser<'_>,
    field: AddressField,
    values: &Values<'_>,
) -> Result<Term, FilterError> {
    let networks: Result<_, _> = values.iter().map(|token| network(parser, token)).collect();
    Ok(Term::Address(field, networks?))
}

fn network(parser: &Parser<'_>, token: &Token<'_>) -> Result<Network, FilterError> {
    let written = text(token);
    let (address, prefix) = match written.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (written, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let hint = address_with_port(written);
        let message = format!("`{written}` is not an address");
        return Err(parser.error(token, &message, hint.as_deref()));
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(digits) => digits.parse().ok(),
        None => Some(longest),
    };
    prefix.and_then(|prefix| Network::new(address, prefix)).ok_or_else(|| {
        let message = format!("the prefix of `{written}` is not a number from 0 to {longest}");
        parser.error(token, &message, None)
    })
}

fn address_with_port(written: &str) -> Option<String> {
    let (address, port) = written.rsplit_once(':')?;
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let port: u16 = port.parse().ok()?;
    Some(format!("an address and a port are two terms: `host {address} port {port}`"))
}

fn numbers(
    parser: &Parser<'_>,
    field: NumberField,
    values: &Values<'_>,
) -> Result<Term, FilterError> {
    let ranges: Result<_, _> = values.iter().map(|token| range(parser, field, token)).collect();
    Ok(Term::Number(field, Ranges::new(ranges?)))
}

/// `80`, `8000-8100`, `1024-`.
fn range(
    parser: &Parser<'_>,
    field: NumberField,
    token: &Token<'_>,
) -> Result<(u64, u64), FilterError> {
    let Some((low, high)) = text(token).split_once('-') else {
        let number = number(parser, field, token, text(token))?;
        return Ok((number, number));
    };
    let low = number(parser, field, token, low)?;
    let high = match high {
        "" => field.maximum(),
        digits => number(parser, field, token, digits)?,
    };
    if low > high {
        let message = format!("the range `{}` runs backwards", text(token));
        return Err(parser.error(token, &message, Some(&format!("`{high}-{low}`?"))));
    }
    Ok((low, high))
}

fn number(
    parser: &Parser<'_>,
    field: NumberField,
    token: &Token<'_>,
    written: &str,
) -> Result<u64, FilterError> {
    let digits = written.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = written.split_at(digits);
    let wrong = |hint: &str| {
        let message = format!("`{written}` is not a number that fits here");
        parser.error(token, &message, Some(hint))
    };
    let Some(factor) = factor(field.unit(), unit) else {
        return Err(wrong(units(field.unit())));
    };
    let too_large = || wrong(&format!("the highest is {}", field.maximum()));
    if digits.is_empty() {
        return Err(wrong(units(field.unit())));
    }
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.filter(|number| *number <= field.maximum()).ok_or_else(too_large)
}

/// What a unit's letters stand for; none stand for 1.
fn factor(unit: Unit, letters: &str) -> Option<u64> {
    const KIB: u64 = 1024;
    Some(match (unit, letters) {
        (_, "") | (Unit::Seconds, "s") | (Unit::Bytes, "B") => 1,
        (Unit::Seconds, "m" | "min") => 60,
        (Unit::Seconds, "h") => 3600,
        (Unit::Seconds, "d") => 86_400,
        (Unit::Bytes, "KiB" | "Ki") => KIB,
        (Unit::Bytes, "MiB" | "Mi") => KIB * KIB,
        (Unit::Bytes, "GiB" | "Gi") => KIB * KIB * KIB,
        (Unit::Bytes, "TiB" | "Ti") => KIB * KIB * KIB * KIB,
        (Unit::Bytes, "kB" | "KB") | (Unit::Bytes | Unit::Packets, "k" | "K") => 1000,
        (Unit::Bytes, "MB") | (Unit::Bytes | Unit::Packets, "M") => 1_000_000,
        (Unit::Bytes, "GB") | (Unit::Bytes | Unit::Packets, "G") => 1_000_000_000,
        (Unit::Bytes, "TB") | (Unit::Bytes | Unit::Packets, "T") => 1_000_000_000_000,
        _ => return None,
    })
}

const fn units(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "whole numbers, `80`, ranges, `8000-8100`",
        Unit::Seconds => "whole numbers with s, m, h or d: `5m`",
        Unit::Bytes => "whole numbers with k, M, G, or KiB, MiB, GiB: `1MiB`",
        Unit::Packets => "whole numbers with k, M or G: `10k`",
    }
}

fn mark(parser: &Parser<'_>, token: &Token<'_>) -> Result<MaskedMark, FilterError> {
    let written = text(token);
    let (value, mask) = match written.split_once('/') {
        Some((value, mask)) => (value, plain_number(mask)),
        None => (written, Some(u32::MAX)),
    };
    let (Some(value), Some(mask)) = (plain_number(value), mask) else {
        let message = format!("`{written}` is not a mark");
        return Err(parser.error(token, &message, Some("decimal or 0x…, with /MASK if wanted")));
    };
    if value & mask != value {
        let message = format!("`{written}` can never match: the value has bits outside the mask");
        return Err(parser.error(token, &message, None));
    }
    Ok(MaskedMark { value, mask })
}

fn plain_number(digits: &str) -> Option<u32> {
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn protocols(parser: &Parser<'_>, values: &Values<'_>) -> Result<Term, FilterError> {
    let mut set = ProtocolSet::default();
    for token in values {
        let written = text(token);
        let protocol = match meaning(written) {
            Some(Keyword::Protocol(protocol)) => Some(protocol),
            _ => other_protocol(written),
        };
        set.insert(protocol.ok_or_else(|| {
            let message = format!("`{written}` is not a protocol");
            parser.error(token, &message, Some("a name such as `tcp` or a number from 0 to 255"))
        })?);
    }
    Ok(Term::Protocol(set))
}

fn other_protocol(written: &str) -> Option<Protocol> {
    let named = OTHER_PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(written));
    named.map(|(_, number)| *number).or_else(|| written.parse().ok()).map(Protocol)
}

fn family(parser: &Parser<'_>, values: &Values<'_>) -> Result<Term, FilterError> {
    let [token] = values else {
        return Err(parser.error_here("`family` wants one value", Some("`ipv4` or `ipv6`")));
    };
    let of_name = |family: &Family| family.name().eq_ignore_ascii_case(text(token));
    let family = [Family::Ipv4, Family::Ipv6].into_iter().find(of_name);
    family.map(Term::Family).ok_or_else(|| {
        let message = format!("`{}` is not a family", text(token));
        parser.error(token, &message, Some("`ipv4` or `ipv6`"))
    })
}

fn states(parser: &Parser<'_>, values: &Values<'_>) -> Result<Term, FilterError> {
    let mut set = StateSet::default();
    for token in values {
        let name = text(token);
        let bit = |number: Option<u8>| number.map_or(0, |number| 1 << number);
        let tcp = if name.eq_ignore_ascii_case("LISTEN") {
            Some(TcpState::SynSent2)
        } else {
            TcpState::from_name(name)
        };
        let named = StateSet {
            tcp: bit(tcp.map(TcpState::number)),
            sctp: bit(SctpState::from_name(name).map(SctpState::number)),
            dccp: bit(DccpState::from_name(name).map(DccpState::number)),
        };
        if named == StateSet::default() {
            let message = format!("`{name}` is not a state");
            return Err(parser.error(token, &message, Some(&suggestion::for_state(name))));
        }
        set.tcp |= named.tcp;
        set.sctp |= named.sctp;
        set.dccp |= named.dccp;
    }
    Ok(Term::State(set))
}

fn statuses(parser: &Parser<'_>, values: &Values<'_>) -> Result<Term, FilterError> {
    let mut bits = Status::default();
    for token in values {
        let name = text(token);
        bits |= match meaning(name) {
            Some(Keyword::Status(bits)) => bits,
            _ => Status::from_name(&name.replace('-', "_")).ok_or_else(|| {
                let names = Status::NAMES.into_iter().map(|(_, name)| name);
                let hint = suggestion::did_you_mean(name, names);
                let message = format!("`{name}` is not a status bit");
                parser.error(token, &message, hint.as_deref())
            })?,
        };
    }
    Ok(Term::Status(bits))
}

fn labels(parser: &Parser<'_>, values: &Values<'_>) -> Result<Term, FilterError> {
    let mut bits = 0;
    for token in values {
        let bit = text(token).parse::<u32>().ok().filter(|bit| *bit < u128::BITS);
        bits |= 1
            << bit.ok_or_else(|| {
                let message = format!("`{}` is not a label", text(token));
                parser.error(token, &message, Some("labels are bits from 0 to 127"))
            })?;
    }
    Ok(Term::Label(bits))
}

fn text<'a>(token: &Token<'a>) -> &'a str {
    match token.kind {
        Kind::Word(text) | Kind::Quoted(text) => text,
        _ => "",
    }
}
