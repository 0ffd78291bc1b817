//! Counting entries by what matters for room.

use ctkeeper_flow::{Flow, ProtocolState, TcpState, Timeouts};
use ctkeeper_snapshot::Sample;

use crate::groups::Groups;

/// An established connection counts as idle when its last packet is at least this long ago.
pub const IDLE_SECONDS: u32 = 3600;
/// An assured entry with less to live than this is about to make room by itself.
pub const LOCKED_SECONDS: u32 = 60;

/// Counts flows one by one into a [`Sample`].
#[derive(Clone, Debug, Default)]
pub struct Tally {
    sample: Sample,
    established_timeout: Option<u32>,
    /// Entries with no more than this left may be on a shorter timeout than the established one.
    shortened: u32,
    idle_times: Vec<u32>,
    groups: Groups,
}

impl Tally {
    /// A tally for a namespace with these timeouts; without them idle times are not known.
    pub fn new(timeouts: Option<&Timeouts>) -> Self {
        let established_timeout = timeouts.and_then(Timeouts::established);
        let of = |name| timeouts.and_then(|timeouts| timeouts.get(name)).unwrap_or(0);
        let shortened = of("tcp_timeout_unacknowledged").max(of("tcp_timeout_max_retrans"));
        Self { established_timeout, shortened, ..Self::default() }
    }

    /// Counts one flow.
    pub fn add(&mut self, flow: &Flow) {
        let closing = flow.state.is_closing();
        let lives_on = flow.timeout.is_none_or(|seconds| seconds > LOCKED_SECONDS);
        self.sample.size += 1;
        self.sample.assured += u64::from(flow.is_assured());
        self.sample.locked += u64::from(flow.is_assured() && !closing && lives_on);
        self.sample.closing += u64::from(closing);
        self.sample.unreplied += u64::from(!flow.is_replied());
        self.groups.add(flow);
        if matches!(flow.state, ProtocolState::Tcp(tcp) if tcp.state == TcpState::Established) {
            self.add_established(flow);
        }
    }

    /// The sample of a namespace that holds `count` entries: exact when all of them were seen.
    pub fn finish(mut self, saw_all: bool) -> Sample {
        self.sample.exact = saw_all;
        let known = self.idle_times.len();
        let middle = known / 2;
        // Of a lowered timeout only the newest entries' idle times are known: they speak for no other.
        if known > 0 && known as u64 * 2 >= self.sample.established {
            let (_, median, _) = self.idle_times.select_nth_unstable(middle);
            self.sample.established_idle_median = Some(*median);
        }
        self.groups.finish(&mut self.sample);
        self.sample
    }

    /// Every packet sets the timeout anew, so what is missing of it is how long none has come. With
    /// data unacknowledged, or a window of 0, the kernel sets a shorter one
    /// (`nf_conntrack_tcp_packet`, `nf_conntrack_proto_tcp.c`, Linux 6.12): such an entry's idle
    /// time is not known, nor is that of one which has more to live than the timeout gives, as it
    /// has been lowered since.
    fn add_established(&mut self, flow: &Flow) {
        self.sample.established += 1;
        let left = flow.timeout.filter(|left| *left > self.shortened);
        if let (Some(full), Some(left)) = (self.established_timeout, left) {
            let Some(idle) = full.checked_sub(left) else { return };
            self.sample.established_idle += u64::from(idle >= IDLE_SECONDS);
            self.idle_times.push(idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Status;

    use super::*;

    fn established(timeout: u32) -> Flow {
        Flow {
            status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
            state: ProtocolState::tcp(TcpState::Established),
            timeout: Some(timeout),
            ..Flow::default()
        }
    }

    fn five_days() -> Timeouts {
        let established = ("tcp_timeout_established".to_owned(), Timeouts::DEFAULT_ESTABLISHED);
        Timeouts([established].into())
    }

    #[test]
    fn idle_time_is_what_the_timeout_has_lost() {
        let mut tally = Tally::new(Some(&five_days()));
        for left in [432_000, 431_000, 400_000] {
            tally.add(&established(left));
        }
        let sample = tally.finish(true);
        assert_eq!((sample.established, sample.established_idle), (3, 1));
        assert_eq!(sample.established_idle_median, Some(1000));
        assert_eq!(sample.locked, 3);
    }

    /// The usual wrong fix of a full table: standing entries keep what they have.
    #[test]
    fn nothing_is_known_of_entries_older_than_a_lowered_timeout() {
        let lowered = ("tcp_timeout_established".to_owned(), 600);
        let mut tally = Tally::new(Some(&Timeouts([lowered].into())));
        tally.add(&established(431_000));
        tally.add(&established(430_000));
        tally.add(&established(599));
        let sample = tally.finish(true);
        assert_eq!((sample.established, sample.established_idle_median), (3, None));
    }

    #[test]
    fn a_stalled_connection_is_not_idle() {
        let mut timeouts = five_days();
        timeouts.0.insert("tcp_timeout_unacknowledged".to_owned(), 300);
        let mut tally = Tally::new(Some(&timeouts));
        tally.add(&established(299));
        tally.add(&established(431_000));
        let sample = tally.finish(true);
        assert_eq!((sample.established, sample.established_idle), (2, 0));
        assert_eq!(sample.established_idle_median, Some(1000));
    }

    #[test]
    fn closing_and_half_open_entries_are_not_locked() {
        let mut tally = Tally::new(None);
        let closing = ProtocolState::tcp(TcpState::TimeWait);
        tally.add(&Flow { state: closing, ..established(119) });
        tally.add(&Flow { timeout: Some(100), ..Flow::default() });
        tally.add(&established(30));
        let sample = tally.finish(false);
        assert_eq!((sample.size, sample.assured, sample.locked), (3, 2, 0));
        assert_eq!((sample.closing, sample.unreplied, sample.exact), (1, 1, false));
    }
}
