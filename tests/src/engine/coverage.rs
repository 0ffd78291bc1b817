//! What of the tables of states and of the reasons for refusal has been reached.

use std::collections::BTreeMap;
use std::fmt::Write;

use ctkeeper_engine::{Coverage, Reason};
use ctkeeper_flow::{SctpState, TcpState};

const TCP_ROWS: [&str; 6] = ["syn", "synack", "fin", "ack", "rst", "none"];
const SCTP_ROWS: [&str; 11] = [
    "init",
    "init ack",
    "abort",
    "shutdown",
    "shutdown ack",
    "error",
    "cookie echo",
    "cookie ack",
    "shutdown complete",
    "heartbeat",
    "heartbeat ack",
];
const DIRECTIONS: [&str; 2] = ["original", "reply"];

/// Why no packet can ever reach some cells.
fn unreachable(title: &str, direction: usize, row: u8, state: u8) -> Option<&'static str> {
    match (title, direction, row, state) {
        ("TCP", _, 5, _) => Some("segments without any flag are refused before the table"),
        ("SCTP", 0, 2 | 7 | 8, 0) => {
            Some("chunks that nobody sends first are refused before the table")
        }
        (_, 1, _, 0) => Some("a connection in state NONE has no reply: it is not in the table yet"),
        _ => None,
    }
}

/// The coverage in words: tables of counts, then what no packet has reached.
pub fn coverage(coverage: &Coverage) -> String {
    let tcp: Cells = coverage
        .tcp_cells()
        .map(|(cell, count)| ((cell.direction, cell.row, cell.from.number()), count))
        .collect();
    let sctp: Cells = coverage
        .sctp_cells()
        .map(|(cell, count)| ((cell.direction, cell.row, cell.from.number()), count))
        .collect();
    let mut text = String::new();
    // The last of the names is a state that kernels no longer have.
    let states = SctpState::ALL.get(..9).unwrap_or(SctpState::ALL);
    table(&mut text, "TCP", &TCP_ROWS, &names(TcpState::ALL, TcpState::name), &tcp);
    table(&mut text, "SCTP", &SCTP_ROWS, &names(states, SctpState::name), &sctp);
    reasons(&mut text, coverage);
    text
}

type Cells = BTreeMap<(u8, u8, u8), u64>;

fn names<State: Copy>(all: &[State], name: fn(State) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|state| name(*state)).collect()
}

fn table(text: &mut String, title: &str, rows: &[&str], states: &[&str], cells: &Cells) {
    let all = rows.len() * states.len() * DIRECTIONS.len();
    let _ = writeln!(text, "{title}: {} of {all} cells reached", cells.len());
    let mut unreached = Vec::new();
    let mut never: BTreeMap<&str, u32> = BTreeMap::new();
    for (direction, name) in (0..).zip(DIRECTIONS) {
        let _ =
            writeln!(text, "  {name:18}{}", states.iter().map(|s| short(s)).collect::<String>());
        for (row, kind) in (0..).zip(rows) {
            let _ = write!(text, "  {kind:18}");
            for (state, from) in (0..).zip(states) {
                if let Some(count) = cells.get(&(direction, row, state)) {
                    _ = write!(text, "{count:>9}");
                    continue;
                }
                let why = unreachable(title, usize::from(direction), row, state);
                _ = write!(text, "{:>9}", if why.is_some() { "." } else { "-" });
                match why {
                    Some(why) => *never.entry(why).or_default() += 1,
                    None => unreached.push(format!("{name} {kind} in {from}")),
                }
            }
            text.push('\n');
        }
    }
    for (why, cells) in never {
        let _ = writeln!(text, "  {cells} cells (.) cannot be: {why}");
    }
    if !unreached.is_empty() {
        let _ = writeln!(text, "  not reached: {}", unreached.join(", "));
    }
}

/// Reasons that a forwarding router cannot show, or only on a table of its own.
const NOT_MET: &[(Reason, &str)] = &[
    (Reason::NetworkHeader, "the kernel's IP layer drops such packets before any hook"),
    (Reason::Fragment, "fragments are put together before tracking"),
    (
        Reason::TableFull,
        "the limit is the whole host's; see early_drop_strikes_as_often_as_the_kernels",
    ),
    (Reason::NoMemory, "the kernel allocates, the engine sets aside"),
    (Reason::ChainTooLong, "the buckets are the whole host's"),
    (Reason::Dying, "packets go one after the other, not side by side"),
    (Reason::ExtensionHeader, "the kernel's IP layer drops such packets before any hook"),
];

fn short(name: &str) -> String {
    let name: String = name.replace("SHUTDOWN", "SHUT").chars().take(8).collect();
    format!("{name:>9}")
}

fn reasons(text: &mut String, coverage: &Coverage) {
    let met: BTreeMap<Reason, u64> = coverage.reasons().collect();
    let _ = writeln!(text, "reasons met: {}", met.len());
    for (reason, count) in &met {
        let _ = writeln!(text, "  {count:9} {reason:?}");
    }
    for reason in Reason::ALL.iter().filter(|reason| !met.contains_key(reason)) {
        let why =
            NOT_MET.iter().find(|(known, _)| known == reason).map_or("not met", |(_, why)| why);
        let _ = writeln!(text, "  {:>9} {reason:?}: {why}", "-");
    }
}
