//! When an entry's last packet came, from what is left of its timeout.

use ctkeeper_flow::{Flow, Protocol, ProtocolState, SctpState, Status, TcpState, Timeouts};

/// `IP_CT_TCP_FLAG_DATA_UNACKNOWLEDGED` (`nf_conntrack_tcp.h`, Linux 6.12): sent in the tracker's
/// flags of a direction.
const DATA_UNACKNOWLEDGED: u8 = 0x10;

/// The time of a look at one namespace's table, and the timeouts that its packets set.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    boottime_ms: u64,
    unix_ms: Option<u64>,
    full: Option<FullTimeouts>,
}

/// How long ago the last packet came, whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// At least.
    pub least: u32,
    /// At most.
    pub most: u32,
}

impl Idle {
    /// The idle time, where it is known to a second.
    pub fn known(self) -> Option<u32> {
        (self.most - self.least <= 1).then_some(self.most)
    }
}

/// Whether somebody who has an address since a moment had the entry's last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// It came after that moment, or nothing says that it did not.
    Possible,
    /// It came before.
    Before,
}

impl Clock {
    /// A look at `boottime_ms` (`CLOCK_BOOTTIME`, as in `Tenant::since_ms`) in a namespace with these
    /// timeouts. The wall clock of the same moment places the entries' timestamps, where there are
    /// any. Without timeouts nothing is known of last packets.
    pub fn new(boottime_ms: u64, unix_ms: Option<u64>, timeouts: Option<&Timeouts>) -> Self {
        Self { boottime_ms, unix_ms, full: timeouts.map(FullTimeouts::of) }
    }

    /// How long ago the flow's last packet came.
    ///
    /// Every packet sets the timeout anew, to one that depends on the protocol's state, so what is
    /// missing of it is how long none has come. `None` where the timeout does not tell: it is fixed,
    /// kept by a flow table, longer than the setting (which has been lowered since, or a policy of
    /// its own applies), or the setting is not known.
    #[inline]
    pub fn idle(&self, flow: &Flow) -> Option<Idle> {
        let full = self.full.as_ref()?;
        let left = flow.timeout?;
        let kept = Status::FIXED_TIMEOUT | Status::OFFLOAD | Status::HW_OFFLOAD;
        if flow.status.intersects(kept) {
            return None;
        }
        full.idle(flow, left)
    }

    /// Whether somebody who came at `since_ms` can have had the flow's last packet. Where nothing is
    /// known of that packet, the answer is in favour of who has the address now.
    pub(crate) fn since(&self, flow: &Flow, idle: Option<Idle>, since_ms: Option<u64>) -> Since {
        let (Some(idle), Some(since_ms)) = (idle, since_ms) else { return Since::Possible };
        let latest = self.boottime_ms.saturating_sub(u64::from(idle.least) * 1000);
        if latest >= since_ms || self.start_ms(flow).is_some_and(|start| start >= since_ms) {
            Since::Possible
        } else {
            Since::Before
        }
    }

    /// When the look is, `CLOCK_BOOTTIME` milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.boottime_ms
    }

    /// The timeouts that a packet which leaves the flow's state as it is may set, seconds; `None` when
    /// they are not all known.
    pub(crate) fn settable(&self, flow: &Flow) -> Option<[u32; 3]> {
        let full = self.full.as_ref()?;
        let settable = match flow.state {
            ProtocolState::Tcp(tcp) => {
                let of_state = full.tcp[usize::from(tcp.state.number())];
                [of_state, full.unacknowledged, full.retransmitted]
            }
            _ => [full.of_stateless(flow)?; 3],
        };
        (!settable.contains(&0)).then_some(settable)
    }

    /// When the flow began, `CLOCK_BOOTTIME` milliseconds.
    pub(crate) fn start_ms(&self, flow: &Flow) -> Option<u64> {
        let start = flow.timestamps?.start / 1_000_000;
        Some(self.boottime_ms.saturating_sub(self.unix_ms?.saturating_sub(start)))
    }
}

/// The timeouts that a packet may set, seconds; 0 where not known.
#[derive(Clone, Debug, Default)]
struct FullTimeouts {
    tcp: [u32; 10],
    unacknowledged: u32,
    retransmitted: u32,
    sctp: [u32; 10],
    /// Not assured, assured.
    udp: [u32; 2],
    gre: [u32; 2],
    icmp: u32,
    icmpv6: u32,
    generic: u32,
}

impl FullTimeouts {
    fn of(timeouts: &Timeouts) -> Self {
        let of = |name: &str| timeouts.get(name).unwrap_or(0);
        let mut full = Self {
            unacknowledged: of("tcp_timeout_unacknowledged"),
            retransmitted: of("tcp_timeout_max_retrans"),
            udp: [of("udp_timeout"), of("udp_timeout_stream")],
            gre: [of("gre_timeout"), of("gre_timeout_stream")],
            icmp: of("icmp_timeout"),
            icmpv6: of("icmpv6_timeout"),
            generic: of("generic_timeout"),
            ..Self::default()
        };
        for state in TcpState::ALL {
            // Both have one setting (`tcp_timeout_syn_sent`; `nf_conntrack_standalone.c`).
            let named = if *state == TcpState::SynSent2 { TcpState::SynSent } else { *state };
            full.tcp[usize::from(state.number())] =
                of(&format!("tcp_timeout_{}", named.name().to_lowercase()));
        }
        for state in SctpState::ALL {
            full.sctp[usize::from(state.number())] =
                of(&format!("sctp_timeout_{}", state.name().to_lowercase()));
        }
        full
    }

    fn idle(&self, flow: &Flow, left: u32) -> Option<Idle> {
        if let ProtocolState::Tcp(tcp) = flow.state {
            let flags = tcp.flags.map_or(0, |(original, reply)| original.flags | reply.flags);
            return self.tcp_idle(flow, tcp.state, flags, left);
        }
        let full = self.of_stateless(flow)?;
        Idle::between([full], left)
    }

    /// The one timeout that a packet sets where the tracker's state alone decides.
    fn of_stateless(&self, flow: &Flow) -> Option<u32> {
        let assured = usize::from(flow.is_assured());
        let full = match (flow.protocol(), flow.state) {
            // The stream timeout and the assured bit are set by the same packets
            // (`nf_conntrack_udp_packet`, `gre_packet`; Linux 6.12).
            (Protocol::UDP | Protocol::UDPLITE, _) => self.udp[assured],
            (Protocol::GRE, _) => self.gre[assured],
            (Protocol::ICMP, _) => self.icmp,
            (Protocol::ICMPV6, _) => self.icmpv6,
            (_, ProtocolState::Sctp(sctp)) => self.sctp[usize::from(sctp.state.number())],
            (_, ProtocolState::None) => self.generic,
            _ => 0,
        };
        (full != 0).then_some(full)
    }

    /// With data unacknowledged, after repeated retransmissions, with a window of 0, and on a
    /// connection picked up in its middle the kernel sets a shorter one (`nf_conntrack_tcp_packet`,
    /// `nf_conntrack_proto_tcp.c`, Linux 6.12), and only of the first two tells that it did.
    fn tcp_idle(&self, flow: &Flow, state: TcpState, flags: u8, left: u32) -> Option<Idle> {
        let full = self.tcp[usize::from(state.number())];
        let one_sided = state == TcpState::Established && !flow.is_replied();
        let is_short = flags & DATA_UNACKNOWLEDGED != 0 || one_sided;
        let shorter = |other: u32| if other < full { other } else { 0 };
        let (short, shortest) = (shorter(self.unacknowledged), shorter(self.retransmitted));
        let whole = if is_short && short != 0 { 0 } else { full };
        Idle::between([whole, short, shortest], left)
    }
}

impl Idle {
    /// The idle time when the last packet set one of these timeouts. What is left is rounded down.
    fn between<const N: usize>(full: [u32; N], left: u32) -> Option<Self> {
        let mut idle = None;
        for seconds in full {
            if seconds == 0 || seconds < left {
                continue;
            }
            let most = seconds - left;
            let found = Self { least: most.saturating_sub(1), most };
            idle = Some(idle.map_or(found, |idle: Self| Self {
                least: idle.least.min(found.least),
                most: idle.most.max(found.most),
            }));
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::{TcpFlags, TcpTracking, Timestamps, Tuple};

    use super::*;

    fn timeouts() -> Timeouts {
        let named = [
            ("tcp_timeout_established", 432_000),
            ("tcp_timeout_unacknowledged", 300),
            ("tcp_timeout_max_retrans", 300),
            ("tcp_timeout_syn_sent", 120),
            ("tcp_timeout_time_wait", 120),
            ("udp_timeout", 30),
            ("udp_timeout_stream", 120),
            ("icmp_timeout", 30),
            ("generic_timeout", 600),
        ];
        Timeouts(named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn clock() -> Clock {
        Clock::new(1_000_000_000, Some(2_000_000_000), Some(&timeouts()))
    }

    fn tcp(state: TcpState, left: u32) -> Flow {
        Flow {
            original: Tuple { protocol: Protocol::TCP, ..Tuple::default() },
            status: Status::SEEN_REPLY | Status::ASSURED,
            state: ProtocolState::tcp(state),
            timeout: Some(left),
            ..Flow::default()
        }
    }

    fn known(flow: &Flow) -> Option<u32> {
        clock().idle(flow)?.known()
    }

    #[test]
    fn what_is_missing_of_the_timeout_is_idle_time() {
        assert_eq!(known(&tcp(TcpState::Established, 431_000)), Some(1000));
        assert_eq!(known(&tcp(TcpState::TimeWait, 20)), Some(100));
        assert_eq!(known(&tcp(TcpState::SynSent2, 100)), Some(20));
        assert_eq!(known(&tcp(TcpState::LastAck, 10)), None, "a timeout that is not known");
        assert_eq!(known(&tcp(TcpState::TimeWait, 121)), None, "lowered since");
    }

    #[test]
    fn a_short_rest_of_a_long_timeout_has_two_meanings() {
        let idle = clock().idle(&tcp(TcpState::Established, 200)).unwrap();
        assert_eq!(idle, Idle { least: 99, most: 431_800 });
        let mut stalled = tcp(TcpState::Established, 200);
        let flags = TcpFlags { flags: DATA_UNACKNOWLEDGED, mask: 0 };
        stalled.state = ProtocolState::Tcp(TcpTracking {
            state: TcpState::Established,
            window_scale: None,
            flags: Some((TcpFlags::default(), flags)),
        });
        assert_eq!(known(&stalled), Some(100));
        let picked_up = Flow { status: Status::default(), ..tcp(TcpState::Established, 200) };
        assert_eq!(known(&picked_up), Some(100));
    }

    #[test]
    fn datagrams_are_streams_once_assured() {
        let original = Tuple { protocol: Protocol::UDP, ..Tuple::default() };
        let udp = |status| Flow { original, status, timeout: Some(20), ..Flow::default() };
        assert_eq!(known(&udp(Status::SEEN_REPLY)), Some(10));
        assert_eq!(known(&udp(Status::SEEN_REPLY | Status::ASSURED)), Some(100));
    }

    #[test]
    fn other_protocols_have_their_own() {
        let of = |protocol| Flow {
            original: Tuple { protocol, ..Tuple::default() },
            timeout: Some(20),
            ..Flow::default()
        };
        assert_eq!(known(&of(Protocol::ICMP)), Some(10));
        assert_eq!(known(&of(Protocol(50))), Some(580));
        assert_eq!(known(&of(Protocol::ICMPV6)), None);
        let fixed = Flow { status: Status::FIXED_TIMEOUT, ..of(Protocol::ICMP) };
        assert_eq!(known(&fixed), None);
    }

    #[test]
    fn who_came_after_the_last_packet_did_not_have_it() {
        let (clock, flow) = (clock(), tcp(TcpState::TimeWait, 20));
        let since = |flow: &Flow, ago: u64| {
            clock.since(flow, clock.idle(flow), Some(1_000_000_000 - ago * 1000))
        };
        assert_eq!(since(&flow, 50), Since::Before);
        assert_eq!(since(&flow, 99), Since::Possible, "the last second is rounded away");
        assert_eq!(since(&flow, 200), Since::Possible);
        assert_eq!(since(&tcp(TcpState::LastAck, 20), 1), Since::Possible, "nothing is known");
        let start = (2_000_000_000 - 40_000) * 1_000_000;
        let young = Flow { timestamps: Some(Timestamps { start, stop: 0 }), ..flow };
        assert_eq!(since(&young, 50), Since::Possible, "it began after");
    }
}
