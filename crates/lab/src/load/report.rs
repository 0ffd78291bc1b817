//! What a load saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ctkeeper_flow::units;
use serde::Serialize;

use super::time;

/// What went wrong with an arrival, or with a connection that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No answer to the SYN in time.
    ConnectTimeout,
    /// A RST to the SYN, or an ICMP port unreachable to a datagram (of which a host sends one a second
    /// after the first six: the others time out).
    Refused,
    /// A RST later on.
    Reset,
    /// No route, or an ICMP unreachable.
    Unreachable,
    /// The packet was dropped on its way out of this namespace (`EPERM`).
    NotPermitted,
    /// No source port was left for this target, or the given one was taken (`EADDRNOTAVAIL`,
    /// `EADDRINUSE`).
    NoPorts,
    /// No descriptor was left (`EMFILE`, `ENFILE`).
    NoDescriptors,
    /// The kernel had no memory, or its queue was full (`ENOMEM`, `ENOBUFS`).
    NoMemory,
    /// No whole answer in time.
    AnswerTimeout,
    /// The peer closed the connection before the answer was whole, or closed a held one.
    ClosedEarly,
    /// The answer came and is an HTTP status of 400 or more.
    BadStatus,
    /// What came is no answer: not HTTP, or a head of over 16 KiB.
    BadAnswer,
    /// More requests waited for a connection than are kept waiting (100,000).
    Overrun,
    /// The load was stopped before the arrival had its answer.
    Stopped,
    /// Anything else that the kernel said.
    Other,
}

impl ErrorKind {
    /// Every kind, in order.
    pub const ALL: [Self; 15] = [
        Self::ConnectTimeout,
        Self::Refused,
        Self::Reset,
        Self::Unreachable,
        Self::NotPermitted,
        Self::NoPorts,
        Self::NoDescriptors,
        Self::NoMemory,
        Self::AnswerTimeout,
        Self::ClosedEarly,
        Self::BadStatus,
        Self::BadAnswer,
        Self::Overrun,
        Self::Stopped,
        Self::Other,
    ];

    /// What reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectTimeout => "connect_timeout",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::NotPermitted => "not_permitted",
            Self::NoPorts => "no_ports",
            Self::NoDescriptors => "no_descriptors",
            Self::NoMemory => "no_memory",
            Self::AnswerTimeout => "answer_timeout",
            Self::ClosedEarly => "closed_early",
            Self::BadStatus => "bad_status",
            Self::BadAnswer => "bad_answer",
            Self::Overrun => "overrun",
            Self::Stopped => "stopped",
            Self::Other => "other",
        }
    }
}

/// How long something took, over everything of its sort that succeeded. Resolution: three
/// significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// How many were measured; with none the times are zero.
    pub count: u64,
    /// Half took at most this.
    #[serde(rename = "p50_seconds", serialize_with = "time::seconds")]
    pub p50: Duration,
    /// 99 of 100 took at most this.
    #[serde(rename = "p99_seconds", serialize_with = "time::seconds")]
    pub p99: Duration,
    /// The longest.
    #[serde(rename = "max_seconds", serialize_with = "time::seconds")]
    pub max: Duration,
}

/// Exchanges on connections that were held already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Probes {
    /// Begun.
    pub sent: u64,
    /// Answered in time.
    pub ok: u64,
    /// Not answered in time; the connection stays. A later probe of a connection that still owes an
    /// answer waits for that one: nothing more is sent meanwhile.
    pub timeout: u64,
    /// Answered in time by an HTTP status of 400 or more.
    pub refused: u64,
    /// The connection broke, or its peer closed it, while a probe waited for its answer.
    pub lost: u64,
    /// From when the probe was due to its whole answer.
    pub latency: Latency,
}

/// What a load saw: since its beginning ([`Load::report`](super::Load::report)), or since the last
/// mark ([`Load::mark`](super::Load::mark)).
///
/// Latencies count from when the arrival was *due*, so what the generator's own delay or a wait for
/// a free connection costs is in them; those of what failed are not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// How long this report's time is.
    #[serde(rename = "elapsed_seconds", serialize_with = "time::seconds")]
    pub elapsed: Duration,
    /// Arrivals that were due in this time.
    pub due: u64,
    /// Arrivals that began.
    pub started: u64,
    /// Arrivals that the generator began over 10 ms after they were due: it, not the target, was
    /// too slow.
    pub late: u64,
    /// How long after it was due each arrival began.
    pub lag: Latency,
    /// Arrivals that did what they were to do.
    pub succeeded: u64,
    /// Arrivals that failed: the sum of `errors`.
    pub failed: u64,
    /// Arrivals that failed, by kind; kinds without any are left out.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// From when the arrival was due until the connection stood.
    pub connect: Latency,
    /// From when the arrival was due until its answer was whole.
    pub answer: Latency,
    /// Exchanges on connections that were held already.
    pub probes: Probes,
    /// Held connections that broke or were closed by the peer after they had stood, by kind. Not
    /// among `errors`: their arrivals had succeeded.
    pub lost: BTreeMap<ErrorKind, u64>,
    /// Connections (or flows) that are open at this moment.
    pub open: u64,
    /// Arrivals that wait for something at this moment: a connect, an answer, a free connection.
    pub waiting: u64,
    /// Packets or datagrams that were sent, where they are what is counted.
    pub packets: u64,
    /// CPU time of the generator's thread (what the kernel did in its name is in it).
    #[serde(rename = "cpu_seconds", serialize_with = "time::seconds")]
    pub cpu: Duration,
}

impl Report {
    /// Failed arrivals among those that came to an end; 0 before any has.
    pub fn failed_share(&self) -> f64 {
        share(self.failed, self.succeeded + self.failed)
    }

    /// Late arrivals among those that began, and those that were due and did not begin at all.
    /// The schedule was kept if this is (nearly) 0; if not, the figures are the generator's.
    pub fn late_share(&self) -> f64 {
        let behind = self.due.saturating_sub(self.started);
        share(self.late + behind, self.started + behind)
    }

    /// Arrivals begun, a second.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.started as f64 / seconds } else { 0.0 }
    }

    /// How many arrivals failed in this way.
    pub fn error(&self, kind: ErrorKind) -> u64 {
        self.errors.get(&kind).copied().unwrap_or(0)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for Report {
    /// Lines for a person: arrivals, errors, latencies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = units::percent(self.failed_share());
        write!(f, "{} in {:.1} s", arrivals(self.started), self.elapsed.as_secs_f64())?;
        write!(f, ", {failed} of those that ended failed{}", listed(&self.errors))?;
        if self.late_share() > 0.0 {
            write!(f, "; {} of them late", units::percent(self.late_share()))?;
        }
        for (name, latency) in [("connect", &self.connect), ("answer", &self.answer)] {
            if latency.count > 0 {
                write!(f, "; {name} {latency}")?;
            }
        }
        if self.probes.sent > 0 {
            let Probes { ok, timeout, lost, latency, .. } = &self.probes;
            write!(f, "; probes {} ok", units::count(*ok))?;
            write!(
                f,
                ", {} timed out, {} lost, {latency}",
                units::count(*timeout),
                units::count(*lost)
            )?;
        }
        if !self.lost.is_empty() {
            write!(f, "; held connections lost{}", listed(&self.lost))?;
        }
        Ok(())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        let (p50, p99) = (milliseconds(self.p50), milliseconds(self.p99));
        write!(f, "p50 {p50}, p99 {p99}, max {}", milliseconds(self.max))
    }
}

fn arrivals(number: u64) -> String {
    units::counted(number, "arrival", "arrivals")
}

fn listed(errors: &BTreeMap<ErrorKind, u64>) -> String {
    let each =
        |(kind, number): (&ErrorKind, &u64)| format!("{} {}", kind.name(), units::count(*number));
    if errors.is_empty() {
        return String::new();
    }
    format!(" ({})", errors.iter().map(each).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_named_as_json_names_it() {
        for kind in ErrorKind::ALL {
            let json = toml::Value::try_from(kind).unwrap();
            assert_eq!(json.as_str(), Some(kind.name()));
        }
    }

    #[test]
    fn shares_count_what_never_began() {
        let report = Report { due: 100, started: 80, late: 10, ..Report::default() };
        assert!((report.late_share() - 0.3).abs() < 1e-9);
        assert!(report.failed_share() < 1e-9);
    }
}
