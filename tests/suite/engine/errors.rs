//! The errors that the suite makes in copies of the engine.

/// One error.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// File of the engine, below `crates/engine/src`.
    pub(crate) file: &'static str,
    /// What stands there, exactly once.
    pub(crate) text: &'static str,
    /// What stands there instead.
    pub(crate) replacement: &'static str,
}

const fn mutant(
    name: &'static str,
    file: &'static str,
    text: &'static str,
    replacement: &'static str,
) -> Mutant {
    Mutant { name, file, text, replacement }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "tcp: answers to old SYNs are invalid",
        "track/tcp/cells.rs",
        "/* syn+ack */ [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],",
        "/* syn+ack */ [IV, SR, IG, IV, IG, IG, IG, IG, IG, SR],",
    ),
    mutant(
        "tcp: the answering side cannot reopen",
        "track/tcp/cells.rs",
        "/* syn     */ [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2],",
        "/* syn     */ [IV, S2, IV, IV, IV, IV, IV, IV, IV, S2],",
    ),
    mutant(
        "tcp: window off by one above",
        "track/tcp/window.rs",
        "if !before(self.sequence, sender.max_end.wrapping_add(1)) {",
        "if !before(self.sequence, sender.max_end) {",
    ),
    mutant(
        "tcp: window off by one below",
        "track/tcp/window.rs",
        "after(self.end, sender.end.wrapping_sub(receiver.max_window).wrapping_sub(1))",
        "after(self.end, sender.end.wrapping_sub(receiver.max_window))",
    ),
    mutant(
        "tcp: acknowledgement off by one above",
        "track/tcp/window.rs",
        "before(self.selective, receiver.end.wrapping_add(1))",
        "before(self.selective, receiver.end.wrapping_add(2))",
    ),
    mutant(
        "tcp: acknowledgement off by one below",
        "track/tcp/window.rs",
        "after(self.selective, receiver.end.wrapping_sub(window).wrapping_sub(1))",
        "after(self.selective, receiver.end.wrapping_sub(window))",
    ),
    mutant(
        "tcp: one side alone may scale",
        "track/tcp/window.rs",
        "if direction == Direction::Reply && !both_scale {",
        "if direction == Direction::Original && !both_scale {",
    ),
    mutant(
        "tcp: a window scale of 15",
        "packet/tcp.rs",
        "const MAX_SCALE: u8 = 14;",
        "const MAX_SCALE: u8 = 15;",
    ),
    mutant(
        "tcp: picked up connections are checked",
        "track/tcp/window.rs",
        "original.flags = side::SACK_PERMITTED | side::LIBERAL;",
        "original.flags = side::SACK_PERMITTED;",
    ),
    mutant(
        "tcp: a reset need not be exact",
        "track/tcp/reset.rs",
        "Course::Check(Move { from: entry.state, to: entry.state })",
        "Course::Check(close)",
    ),
    mutant(
        "tcp: the challenge closes",
        "track/tcp.rs",
        "if entry.state == state::LAST_ACK {",
        "if entry.state == state::CLOSE {",
    ),
    mutant(
        "tcp: one retransmission more",
        "track/tcp.rs",
        "    let retransmitted = window.retransmissions >= context.settings.tcp_max_retrans;\n    if retransmitted && usual",
        "    let retransmitted = window.retransmissions > context.settings.tcp_max_retrans;\n    if retransmitted && usual",
    ),
    mutant(
        "tcp: a closed window is not looked at",
        "track/tcp.rs",
        "if window.last_window == 0 { usual.min(retransmitting) } else { usual }",
        "if window.last_window == 1 { usual.min(retransmitting) } else { usual }",
    ),
    mutant(
        "tcp: data stays unacknowledged",
        "track/tcp/window.rs",
        "receiver.flags &= !(u8::from(is_all) * side::UNACKNOWLEDGED);",
        "receiver.flags &= !(u8::from(is_all) & side::UNACKNOWLEDGED);",
    ),
    mutant(
        "tcp: repeated SYNs refresh",
        "track/tcp.rs",
        "if kind == Kind::Syn && step.from == state::SYN_SENT {",
        "if kind == Kind::Syn && step.from == state::SYN_SENT2 {",
    ),
    mutant(
        "tcp: assured while picked up one way",
        "track/tcp.rs",
        "    if !entry.has(Status::SEEN_REPLY) {\n        return unanswered",
        "    if !entry.has(Status::SEEN_REPLY) && step.from != state::ESTABLISHED {\n        return unanswered",
    ),
    mutant(
        "udp: a stream a second too early",
        "track/udp.rs",
        "const STREAM_AFTER: Ticks = Ticks::from_seconds(2);",
        "const STREAM_AFTER: Ticks = Ticks::from_seconds(1);",
    ),
    mutant(
        "udp: no refresh before the answer",
        "track/udp.rs",
        "        return Judgement::Refresh(short);",
        "        return if entry.has(Status::CONFIRMED) && !entry.has(Status::SEEN_REPLY) {\n            Judgement::Ignore\n        } else {\n            Judgement::Refresh(short)\n        };",
    ),
    mutant(
        "icmp: errors reach whomever they like",
        "track/error.rs",
        "    datagram.destination == found.destination",
        "    datagram.destination != 0 || found.destination == 0",
    ),
    mutant(
        "icmp: parameter problems are no errors",
        "track/icmp.rs",
        "matches!(kind, 3 | 4 | 5 | 11 | 12)",
        "matches!(kind, 3 | 4 | 5 | 11)",
    ),
    mutant(
        "sctp: assured before the cookie is acknowledged",
        "track/sctp.rs",
        "if next == SctpState::Established.number() && !entry.has(Status::ASSURED) {",
        "if next >= SctpState::CookieEchoed.number() && !entry.has(Status::ASSURED) {",
    ),
    mutant(
        "sctp: the reflected tag is the sender's",
        "track/sctp.rs",
        "if chunk.is_tag_reflected() => {",
        "if !chunk.is_tag_reflected() => {",
    ),
    mutant(
        "sctp: a wrong cell",
        "track/sctp/cells.rs",
        "    [IV, CL, CW, CE, SR, SS, SR, SA, IV],",
        "    [IV, CL, CW, CE, SS, SS, SR, SA, IV],",
    ),
    mutant(
        "the expired are found for half a second",
        "time.rs",
        "        self.after(now) <= 0",
        "        self.after(now) <= -125",
    ),
    mutant(
        "ignored packets are counted",
        "engine.rs",
        "            Judgement::Ignore => {}\n",
        "            Judgement::Ignore => self.count_packet(*tracked, datagram),\n",
    ),
    mutant(
        "a zone of one direction counts in both",
        "entry.rs",
        "if self.flags & not == 0 { self.zone } else { 0 }",
        "if self.flags & not == not { self.zone } else { self.zone }",
    ),
    mutant(
        "udplite: the whole length is summed",
        "packet/checksum.rs",
        "Family::Ipv4 => payload.len() & 0xff,",
        "Family::Ipv4 => payload.len(),",
    ),
];
