//! The words of the language.

use super::term::{AddressField, NumberField};
use crate::{Family, Protocol, Status};

/// What a word at the beginning of a term says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Address(AddressField),
    Number(NumberField),
    Mark,
    ProtocolField,
    Protocol(Protocol),
    FamilyField,
    Family(Family),
    State,
    Closing,
    StatusField,
    /// Any of these bits.
    Status(Status),
    Unreplied,
    Helper,
    Label,
    And,
    Or,
    Not,
}

/// NAT of either kind.
pub(super) const NAT: Status = Status(Status::SRC_NAT.0 | Status::DST_NAT.0);
/// A flow table of either kind.
pub(super) const OFFLOAD: Status = Status(Status::OFFLOAD.0 | Status::HW_OFFLOAD.0);

/// Protocols that have names here though connection tracking has no tracker for them.
pub(super) const OTHER_PROTOCOLS: [(&str, u8); 6] =
    [("igmp", 2), ("ipip", 4), ("esp", 50), ("ah", 51), ("ospf", 89), ("vrrp", 112)];

/// Every word; of words with one meaning the first is the canonical one.
pub(super) const KEYWORDS: &[(&str, Keyword)] = &[
    ("src", Keyword::Address(AddressField::OriginalSource)),
    ("orig-src", Keyword::Address(AddressField::OriginalSource)),
    ("dst", Keyword::Address(AddressField::OriginalDestination)),
    ("orig-dst", Keyword::Address(AddressField::OriginalDestination)),
    ("reply-src", Keyword::Address(AddressField::ReplySource)),
    ("reply-dst", Keyword::Address(AddressField::ReplyDestination)),
    ("host", Keyword::Address(AddressField::Host)),
    ("addr", Keyword::Address(AddressField::Host)),
    ("sport", Keyword::Number(NumberField::OriginalSourcePort)),
    ("orig-sport", Keyword::Number(NumberField::OriginalSourcePort)),
    ("dport", Keyword::Number(NumberField::OriginalDestinationPort)),
    ("orig-dport", Keyword::Number(NumberField::OriginalDestinationPort)),
    ("reply-sport", Keyword::Number(NumberField::ReplySourcePort)),
    ("reply-dport", Keyword::Number(NumberField::ReplyDestinationPort)),
    ("port", Keyword::Number(NumberField::Port)),
    ("zone", Keyword::Number(NumberField::Zone)),
    ("orig-zone", Keyword::Number(NumberField::OriginalZone)),
    ("reply-zone", Keyword::Number(NumberField::ReplyZone)),
    ("timeout", Keyword::Number(NumberField::Timeout)),
    ("age", Keyword::Number(NumberField::Age)),
    ("bytes", Keyword::Number(NumberField::Bytes)),
    ("orig-bytes", Keyword::Number(NumberField::OriginalBytes)),
    ("reply-bytes", Keyword::Number(NumberField::ReplyBytes)),
    ("packets", Keyword::Number(NumberField::Packets)),
    ("orig-packets", Keyword::Number(NumberField::OriginalPackets)),
    ("reply-packets", Keyword::Number(NumberField::ReplyPackets)),
    ("use", Keyword::Number(NumberField::UseCount)),
    ("id", Keyword::Number(NumberField::Id)),
    ("icmp-type", Keyword::Number(NumberField::IcmpType)),
    ("icmp-code", Keyword::Number(NumberField::IcmpCode)),
    ("icmp-id", Keyword::Number(NumberField::IcmpId)),
    ("mark", Keyword::Mark),
    ("proto", Keyword::ProtocolField),
    ("protocol", Keyword::ProtocolField),
    ("tcp", Keyword::Protocol(Protocol::TCP)),
    ("udp", Keyword::Protocol(Protocol::UDP)),
    ("icmp", Keyword::Protocol(Protocol::ICMP)),
    ("icmpv6", Keyword::Protocol(Protocol::ICMPV6)),
    ("icmp6", Keyword::Protocol(Protocol::ICMPV6)),
    ("sctp", Keyword::Protocol(Protocol::SCTP)),
    ("dccp", Keyword::Protocol(Protocol::DCCP)),
    ("gre", Keyword::Protocol(Protocol::GRE)),
    ("udplite", Keyword::Protocol(Protocol::UDPLITE)),
    ("family", Keyword::FamilyField),
    ("ipv4", Keyword::Family(Family::Ipv4)),
    ("ipv6", Keyword::Family(Family::Ipv6)),
    ("state", Keyword::State),
    ("closing", Keyword::Closing),
    ("status", Keyword::StatusField),
    ("assured", Keyword::Status(Status::ASSURED)),
    ("seen_reply", Keyword::Status(Status::SEEN_REPLY)),
    ("replied", Keyword::Status(Status::SEEN_REPLY)),
    ("unreplied", Keyword::Unreplied),
    ("confirmed", Keyword::Status(Status::CONFIRMED)),
    ("expected", Keyword::Status(Status::EXPECTED)),
    ("dying", Keyword::Status(Status::DYING)),
    ("fixed_timeout", Keyword::Status(Status::FIXED_TIMEOUT)),
    ("offload", Keyword::Status(OFFLOAD)),
    ("nat", Keyword::Status(NAT)),
    ("snat", Keyword::Status(Status::SRC_NAT)),
    ("dnat", Keyword::Status(Status::DST_NAT)),
    ("helper", Keyword::Helper),
    ("label", Keyword::Label),
    ("and", Keyword::And),
    ("or", Keyword::Or),
    ("not", Keyword::Not),
];

/// The meaning of a word, in any case, `-` and `_` being one.
pub(super) fn meaning(word: &str) -> Option<Keyword> {
    KEYWORDS.iter().find(|(name, _)| is_word(word, name)).map(|(_, keyword)| *keyword)
}

/// The canonical word of a meaning.
pub(super) fn name(meaning: Keyword) -> Option<&'static str> {
    KEYWORDS.iter().find(|(_, keyword)| *keyword == meaning).map(|(name, _)| *name)
}

fn is_word(word: &str, name: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    word.bytes().map(plain).eq(name.bytes().map(plain))
}
