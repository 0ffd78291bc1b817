//! What was probably meant.

use std::net::IpAddr;

use super::keyword::{KEYWORDS, OTHER_PROTOCOLS};
use crate::{DccpState, SctpState, TcpState};

/// What to write in place of a word that begins no term.
pub(super) fn for_term(word: &str) -> Option<String> {
    if state_names().any(|state| state.eq_ignore_ascii_case(word)) {
        return Some(format!("did you mean `state {word}`?"));
    }
    if OTHER_PROTOCOLS.iter().any(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Some(format!("did you mean `proto {word}`?"));
    }
    if is_address(word) {
        return Some(format!("did you mean `host {word}`?"));
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(
            "lists take commas, `dport 80,443`; shells expand {80,443}, so quote it".to_owned(),
        );
    }
    did_you_mean(word, KEYWORDS.iter().map(|(name, _)| *name))
}

/// The nearest state's name, else all that there are.
pub(super) fn for_state(word: &str) -> String {
    did_you_mean(word, state_names()).unwrap_or_else(|| {
        let tcp: Vec<_> = TcpState::ALL.iter().map(|state| state.name()).collect();
        let sctp: Vec<_> = SctpState::ALL.iter().map(|state| state.name()).collect();
        format!("TCP: {}; SCTP: {}", tcp.join(", "), sctp.join(", "))
    })
}

/// `did you mean …?` with the nearest of some names, if one is near.
pub(super) fn did_you_mean<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let word = word.to_lowercase();
    let near = |name: &'a str| (distance(&word, &name.to_lowercase()), name);
    let (distance, name) = names.map(near).min_by_key(|(distance, _)| *distance)?;
    let tolerated = word.chars().count().div_ceil(3).min(3);
    (distance <= tolerated).then(|| format!("did you mean `{name}`?"))
}

pub(super) fn state_names() -> impl Iterator<Item = &'static str> {
    let tcp = TcpState::ALL.iter().map(|state| state.name());
    let sctp = SctpState::ALL.iter().map(|state| state.name());
    tcp.chain(sctp).chain(DccpState::ALL.iter().map(|state| state.name()))
}

fn is_address(word: &str) -> bool {
    let address = word.split_once('/').map_or(word, |(address, _)| address);
    address.parse::<IpAddr>().is_ok()
}

/// Letters to add, drop, replace, or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 32;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swapped = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                replaced.min(swapped).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}
