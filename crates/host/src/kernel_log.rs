//! What the kernel log says about a full table.
//!
//! The message has two forms: `nf_conntrack: table full, dropping packet`, and on newer kernels (6.18
//! has it, 6.12 has not) `nf_conntrack: table full in netns 4026532465, dropping packet` for
//! namespaces other than the initial one; the prefix is often doubled. At most ten in five seconds are printed for the
//! whole host; what the limit held back shows up later as `net_ratelimit: 59 callbacks suppressed`,
//! for messages of all kinds together. A full table of expectations is logged as
//! `nf_conntrack: expectation table full` under the same limit (`net/netfilter/nf_conntrack_expect.c`,
//! seen so on 6.18).

mod kmsg;

use std::collections::BTreeMap;

use ctkeeper_snapshot::{FullReports, KernelLog};

pub use kmsg::{excerpt, read};

/// Counts what a pasted log says: `dmesg` in any of its forms, syslog, `journalctl -k`. Lines that
/// say nothing about the table are passed over.
///
/// Times are taken where they are seconds since boot (`[12345.678901]`); wall-clock times are not,
/// as they cannot be held against the host's clock.
pub fn parse(text: &str) -> KernelLog {
    let mut tally = Tally::default();
    for line in text.lines() {
        if let Some((message, at)) = find(line) {
            tally.add(&message, seconds_since_boot(line.get(..at).unwrap_or_default()));
        }
    }
    tally.finish()
}

/// A message about the table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    /// A packet was dropped in this namespace; the older form names none.
    Full { namespace: Option<u64> },
    /// A helper's expectation was refused.
    ExpectationsFull { namespace: Option<u64> },
    /// So many messages were held back.
    Suppressed(u64),
}

#[derive(Debug, Default)]
struct Tally {
    full: Reports,
    expectations_full: Reports,
    suppressed: u64,
}

type Reports = BTreeMap<Option<u64>, FullReports>;

impl Tally {
    fn add(&mut self, message: &Message, at_ms: Option<u64>) {
        match *message {
            Message::Suppressed(count) => self.suppressed = self.suppressed.saturating_add(count),
            Message::Full { namespace } => add(&mut self.full, namespace, at_ms),
            Message::ExpectationsFull { namespace } => {
                add(&mut self.expectations_full, namespace, at_ms);
            }
        }
    }

    fn finish(self) -> KernelLog {
        KernelLog {
            readable: true,
            full: worst_first(self.full),
            expectations_full: worst_first(self.expectations_full),
            suppressed: self.suppressed,
        }
    }
}

fn add(reports: &mut Reports, namespace: Option<u64>, at_ms: Option<u64>) {
    let none = || FullReports { namespace, lines: 0, first_ms: None, last_ms: None };
    let reports = reports.entry(namespace).or_insert_with(none);
    reports.lines += 1;
    reports.first_ms = reports.first_ms.into_iter().chain(at_ms).min();
    reports.last_ms = reports.last_ms.max(at_ms);
}

fn worst_first(reports: Reports) -> Vec<FullReports> {
    let mut reports: Vec<_> = reports.into_values().collect();
    reports.sort_by_key(|reports| std::cmp::Reverse(reports.lines));
    reports
}

/// The message in a line, and where it begins.
fn find(line: &str) -> Option<(Message, usize)> {
    let full = |namespace| Message::Full { namespace };
    let expectations = |namespace| Message::ExpectationsFull { namespace };
    find_full(line, "_conntrack: table full", full)
        .or_else(|| find_full(line, "_conntrack: expectation table full", expectations))
        .or_else(|| find_suppressed(line))
}

fn find_full(
    line: &str,
    saying: &str,
    message: impl Fn(Option<u64>) -> Message,
) -> Option<(Message, usize)> {
    let at = line.find(saying)?;
    let rest = line.get(at + saying.len()..)?;
    let namespace = match rest.strip_prefix(" in netns ") {
        Some(named) => Some(leading_number(named)?),
        None => None,
    };
    Some((message(namespace), at))
}

fn find_suppressed(line: &str) -> Option<(Message, usize)> {
    let at = line.find(" callbacks suppressed").or_else(|| line.find(" messages suppressed"))?;
    let mut words = line.get(..at)?.rsplit(' ');
    let count = words.next()?.parse().ok()?;
    let limiter = words.next()?.strip_suffix(':')?;
    is_of_the_network(limiter).then_some((Message::Suppressed(count), at))
}

/// The limit that conntrack's message is under is called `net_ratelimit`; older kernels put the
/// calling function there, and before 2.6.32 `__ratelimit` or `printk`.
fn is_of_the_network(limiter: &str) -> bool {
    matches!(limiter, "net_ratelimit" | "__ratelimit" | "printk")
        || limiter.starts_with("nf_conntrack")
        || limiter.starts_with("__nf_conntrack")
        || limiter.starts_with("ip_conntrack")
}

fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// Milliseconds of the last `[SECONDS.MICROSECONDS]` before a message.
fn seconds_since_boot(prefix: &str) -> Option<u64> {
    let mut brackets = prefix.rsplit('[').filter_map(|rest| rest.split_once(']'));
    brackets.find_map(|(inside, _)| milliseconds(inside.trim()))
}

fn milliseconds(time: &str) -> Option<u64> {
    let (seconds, fraction) = time.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").get(..3)?.parse::<u64>().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reports(namespace: Option<u64>, lines: u64, times: Option<(u64, u64)>) -> FullReports {
        let (first_ms, last_ms) = (times.map(|t| t.0), times.map(|t| t.1));
        FullReports { namespace, lines, first_ms, last_ms }
    }

    /// The listing of the document that this program answers to (`dmesg -T`).
    #[test]
    fn the_seeds_listing_is_counted() {
        let full = |second| {
            format!(
                "[Thu May 11 12:38:{second} 2023] nf_conntrack: nf_conntrack: table full, dropping packet\n"
            )
        };
        let suppressed = |second, n| {
            format!("[Thu May 11 12:38:{second} 2023] net_ratelimit: {n} callbacks suppressed\n")
        };
        let text = [
            suppressed(28, 59),
            full(28).repeat(10),
            suppressed(33, 66),
            full(33).repeat(9),
            full(34),
        ];
        let log = parse(&text.concat());
        assert_eq!(log.full, [reports(None, 20, None)]);
        assert_eq!((log.suppressed, log.readable), (125, true));
    }

    #[test]
    fn every_form_is_recognised() {
        let message = "nf_conntrack: nf_conntrack: table full in netns 4026532465, dropping packet";
        for prefix in [
            "[ 1234.567890] ",
            "<4>[ 1234.567890] ",
            "kern  :warn  : [ 1234.567890] ",
            "Nov 22 17:00:01 web-3 kernel: [ 1234.567890] ",
            "[ 1234.567890] web-3 kernel: ",
            "[ 1234.567890] [    C1] ",
        ] {
            let log = parse(&format!("{prefix}{message}\n"));
            let expected = reports(Some(4_026_532_465), 1, Some((1_234_567, 1_234_567)));
            assert_eq!(log.full, [expected], "{prefix}");
        }
        for prefix in [
            "",
            "Nov 22 17:00:01 web-3 kernel: ",
            "2026-11-22T17:00:01,123456+00:00 ",
            "2026-11-22T17:00:01+0000 web-3 kernel: ",
            "[So Nov 22 17:00:01 2026] ",
            "[  +0,000003] ",
        ] {
            let log = parse(&format!("{prefix}{message}"));
            assert_eq!(log.full, [reports(Some(4_026_532_465), 1, None)], "{prefix}");
        }
    }

    #[test]
    fn namespaces_are_counted_apart_and_the_worst_comes_first() {
        let text = "[1.5] nf_conntrack: table full in netns 7, dropping packet\n\
            [2.25] ip_conntrack: table full, dropping packet.\n\
            [4.0] nf_conntrack: table full in netns 9, dropping packet\r\n\
            [3.000001] nf_conntrack: table full in netns 9, dropping packet\n\
            [5.0] nf_conntrack: table full in netns x, dropping packet\n";
        let expected = [
            reports(Some(9), 2, Some((3000, 4000))),
            reports(None, 1, Some((2250, 2250))),
            reports(Some(7), 1, Some((1500, 1500))),
        ];
        assert_eq!(parse(text).full, expected);
    }

    #[test]
    fn expectations_are_counted_apart() {
        let text = "[1.5] nf_conntrack: expectation table full\n\
            [2.5] nf_conntrack: nf_conntrack: expectation table full\n\
            [3.5] nf_conntrack: expectation table full in netns 7\n";
        let log = parse(text);
        let expected =
            [reports(None, 2, Some((1500, 2500))), reports(Some(7), 1, Some((3500, 3500)))];
        assert_eq!(log.expectations_full, expected);
        assert_eq!(log.full, []);
    }

    #[test]
    fn other_limits_are_not_counted() {
        let text = "net_ratelimit: 5 callbacks suppressed\nnf_conntrack: 59 callbacks suppressed\n\
            __ratelimit: 7 messages suppressed\naudit: 100 callbacks suppressed\n\
            net_ratelimit: many callbacks suppressed\n100 callbacks suppressed\n";
        assert_eq!(parse(text).suppressed, 71);
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "(.{0,40}(table full| in netns|_conntrack:|callbacks suppressed|\\[[0-9.]{0,30}\\]|\n)?){0,8}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
