//! Sequences made by chance, and how much of each kind.

mod ftp;
mod plain;
mod sctp;
mod tcp;

use ctkeeper_flow::Family;

use crate::dice::Dice;
use crate::sequence::{Host, Sequence, Side, Step, Transport, Treatment};

/// How many systematic probes there are of the two tables of states.
pub const PROBES: [u64; 2] = [tcp::PROBES, sctp::PROBES];

/// What sequences are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TCP connection in some state meets a segment; numbered.
    TcpProbe,
    /// A TCP session.
    TcpSession,
    /// TCP segments by chance.
    TcpWalk,
    /// An SCTP association in some state meets a chunk; numbered.
    SctpProbe,
    /// SCTP chunks by chance.
    SctpWalk,
    /// UDP.
    Udp,
    /// UDP-Lite.
    Udplite,
    /// ICMP and ICMPv6 messages with an id.
    Icmp,
    /// Errors about packets.
    Errors,
    /// GRE.
    Gre,
    /// Protocols without tracker.
    Other,
    /// FTP and what it announces.
    Ftp,
}

impl Kind {
    /// Every one of them but FTP, which needs rules of its own.
    pub const ALL: [Self; 11] = [
        Self::TcpProbe,
        Self::TcpSession,
        Self::TcpWalk,
        Self::SctpProbe,
        Self::SctpWalk,
        Self::Udp,
        Self::Udplite,
        Self::Icmp,
        Self::Errors,
        Self::Gre,
        Self::Other,
    ];
}

/// What is wanted of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What it is about.
    pub kind: Kind,
    /// Whether time passes in it.
    pub timed: bool,
    /// What the rules do with it.
    pub treatment: Treatment,
    /// Number of a probe.
    pub number: u64,
}

/// Makes a sequence.
pub fn sequence(wish: Wish, dice: &mut Dice) -> Sequence {
    let family = if dice.one_in(4) { Family::Ipv6 } else { Family::Ipv4 };
    let timed = wish.timed;
    let (name, mut steps) = match wish.kind {
        Kind::TcpProbe => tcp::probe(wish.number, dice),
        Kind::TcpSession => ("tcp session".to_owned(), tcp::session(dice, timed)),
        Kind::TcpWalk => ("tcp walk".to_owned(), tcp::walk(dice, timed)),
        Kind::SctpProbe => sctp::probe(wish.number, dice),
        Kind::SctpWalk => ("sctp walk".to_owned(), sctp::walk(dice, timed)),
        Kind::Udp => ("udp".to_owned(), plain::datagrams(dice, timed, false)),
        Kind::Udplite => ("udplite".to_owned(), plain::datagrams(dice, timed, true)),
        Kind::Icmp => ("icmp".to_owned(), plain::messages(dice, timed, family)),
        Kind::Errors => ("errors".to_owned(), plain::errors(dice, family)),
        Kind::Gre => ("gre".to_owned(), plain::tunnels(dice, timed)),
        Kind::Ftp => ("ftp".to_owned(), ftp::session(dice, timed, family)),
        Kind::Other => ("other".to_owned(), plain::others(dice, timed)),
    };
    let spoils = !matches!(wish.kind, Kind::TcpProbe | Kind::SctpProbe);
    if spoils && dice.one_in(4) {
        spoil(&mut steps, dice);
    }
    address(&mut steps, wish.treatment);
    if wish.treatment == Treatment::SourceRandom {
        show_ids(&mut steps, family);
    }
    Sequence { name, family, treatment: wish.treatment, steps }
}

/// Some packets are disfigured.
fn spoil(steps: &mut [Step], dice: &mut Dice) {
    for step in steps {
        let Step::Send(packet) = step else { continue };
        if !dice.one_in(4) {
            continue;
        }
        let defects = &mut packet.defects;
        match dice.within(0..=6) {
            0 => defects.checksum = true,
            1 => defects.cut = Some(dice.within(0..=24) as u16),
            2 | 3 => {
                defects.fragments = dice.within(2..=4) as u8;
                defects.reversed = dice.one_in(2);
            }
            4 => defects.extensions = dice.within(1..=2) as u8,
            5 => {
                if let Transport::Tcp(segment) = &mut packet.transport {
                    segment.data_offset = Some(dice.within(0..=15) as u8);
                }
            }
            _ => {}
        }
    }
}

/// What the kernel has drawn is read off the packet, and it writes ids into echoes only: the tuple of
/// a node information query changes, the query does not (`icmpv6_manip_pkt`, `nf_nat_proto.c`, Linux
/// 6.12).
fn show_ids(steps: &mut [Step], family: Family) {
    for step in steps.iter_mut().filter(|_| family == Family::Ipv6) {
        let Step::Send(packet) = step else { continue };
        if let Transport::Icmp(message) = &mut packet.transport {
            message.kind = match message.kind {
                139 => 128,
                140 => 129,
                kind => kind,
            };
        }
    }
}

/// Where destinations are translated, clients speak to the virtual address. What claims to come
/// from the router itself, the router does not take from outside, and it sends no fragments.
fn address(steps: &mut [Step], treatment: Treatment) {
    for step in steps.iter_mut().filter(|_| treatment.is_local()) {
        let Step::Send(packet) = step else { continue };
        if packet.from == Side::Server {
            packet.defects.fragments = 0;
        }
        if let Transport::Error(error) = &mut packet.transport {
            error.source = if packet.from == Side::Client { Host::Router } else { Host::Server };
            error.destination = error.destination.filter(|host| *host == Host::OtherClient);
            error.about.from = packet.from.other();
        }
    }
    if !treatment.is_virtual() {
        return;
    }
    for step in steps {
        let Step::Send(packet) = step else { continue };
        if packet.conversation.server == Host::Server {
            packet.conversation.server = Host::Virtual;
        }
        if let Transport::Error(error) = &mut packet.transport {
            error.about.conversation.server = Host::Virtual;
        }
    }
}
