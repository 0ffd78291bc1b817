//! Packets made by hand.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, TcpOptionElement, UdpHeader,
};

use super::target::Routes;
use super::traffic::{TcpFlag, TcpPackets};

const HOPS: u8 = 64;
/// Source ports that the seed chooses from: all but the well-known ones.
const FIRST_PORT: u64 = 1024;
const PORTS: u64 = 65_536 - FIRST_PORT;
/// Has no divisor in common with [`PORTS`] (2^10 · 3^2 · 7), so that every port has its turn.
const STRIDE: u64 = 30_011;
/// What Ethernet leaves for TCP.
const SEGMENT: u16 = 1460;

/// What every packet of a load has in common.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Datagram { payload: Vec<u8> },
    Segment { header: TcpHeader, packets: TcpPackets, payload: Vec<u8> },
}

/// Makes a load's packets: the same seed, the same packets.
#[derive(Clone, Debug)]
pub(super) struct Maker {
    form: Form,
    routes: Routes,
    /// The source where the profile names none.
    own: IpAddr,
    seed: u64,
}

impl Maker {
    pub(super) const fn new(form: Form, routes: Routes, own: IpAddr, seed: u64) -> Self {
        Self { form, routes, own, seed }
    }

    /// Appends the packet of an arrival, IP header first, and returns where it goes.
    pub(super) fn make(&self, arrival: u64, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        let target = self.routes.target(arrival)?;
        let source = self.routes.source(arrival);
        let address = source.map_or(self.own, |source| source.ip());
        let named = source.map_or(0, |source| source.port());
        let port = if named == 0 { self.port(arrival) } else { named };
        let source = SocketAddr::new(address, port);
        match &self.form {
            Form::Datagram { payload } => datagram(source, target, payload, buffer)?,
            Form::Segment { header, packets, payload } => {
                let mut header = header.clone();
                let number = scattered(self.seed ^ arrival);
                header.sequence_number = packets.sequence.unwrap_or((number >> 32) as u32);
                header.acknowledgment_number = match packets.acknowledgement {
                    Some(given) => given,
                    None if header.ack => number as u32,
                    None => 0,
                };
                segment(source, target, header, packets.wrong_checksum, payload, buffer)?;
            }
        }
        Some(target)
    }

    /// Moves on whenever the addresses come round, over all ports before one comes again.
    fn port(&self, arrival: u64) -> u16 {
        let round = arrival / self.routes.source_count();
        (FIRST_PORT + (scattered(self.seed) % PORTS + round % PORTS * STRIDE) % PORTS) as u16
    }
}

impl Form {
    pub(super) fn datagram(bytes: u32) -> Self {
        Self::Datagram { payload: vec![b'.'; bytes as usize] }
    }

    pub(super) fn segment(packets: TcpPackets) -> Self {
        let has = |flag| packets.flags.contains(&flag);
        let mut header = TcpHeader { window_size: packets.window, ..TcpHeader::default() };
        header.syn = has(TcpFlag::Syn);
        header.ack = has(TcpFlag::Ack);
        header.fin = has(TcpFlag::Fin);
        header.rst = has(TcpFlag::Rst);
        header.psh = has(TcpFlag::Psh);
        header.urg = has(TcpFlag::Urg);
        if header.syn {
            // One option of four bytes always fits.
            let _ = header.set_options(&[TcpOptionElement::MaximumSegmentSize(SEGMENT)]);
        }
        let payload = vec![b'.'; packets.bytes as usize];
        Self::Segment { header, packets, payload }
    }
}

fn segment(
    source: SocketAddr,
    target: SocketAddr,
    mut header: TcpHeader,
    is_wrong: bool,
    payload: &[u8],
    buffer: &mut Vec<u8>,
) -> Option<()> {
    header.source_port = source.port();
    header.destination_port = target.port();
    let checksum = match (source.ip(), target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).ok()?
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).ok()?
        }
        _ => return None,
    };
    header.checksum = if is_wrong { !checksum } else { checksum };
    let length = header.header_len() + payload.len();
    ip_header(source.ip(), target.ip(), IpNumber::TCP, length, buffer)?;
    buffer.extend_from_slice(&header.to_bytes());
    buffer.extend_from_slice(payload);
    Some(())
}

fn datagram(
    source: SocketAddr,
    target: SocketAddr,
    payload: &[u8],
    buffer: &mut Vec<u8>,
) -> Option<()> {
    let length = UdpHeader::LEN + payload.len();
    let mut header = UdpHeader {
        source_port: source.port(),
        destination_port: target.port(),
        length: u16::try_from(length).ok()?,
        checksum: 0,
    };
    header.checksum = match (source.ip(), target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).ok()?
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).ok()?
        }
        _ => return None,
    };
    ip_header(source.ip(), target.ip(), IpNumber::UDP, length, buffer)?;
    buffer.extend_from_slice(&header.to_bytes());
    buffer.extend_from_slice(payload);
    Some(())
}

/// The kernel fills in the checksum and the identification of an IPv4 header (`raw_send_hdrinc`,
/// net/ipv4/raw.c, Linux 6.1).
fn ip_header(
    source: IpAddr,
    target: IpAddr,
    protocol: IpNumber,
    length: usize,
    buffer: &mut Vec<u8>,
) -> Option<()> {
    let length = u16::try_from(length).ok()?;
    match (source, target) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header =
                Ipv4Header::new(length, HOPS, protocol, from.octets(), to.octets()).ok()?;
            buffer.extend_from_slice(&header.to_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: length,
                next_header: protocol,
                hop_limit: HOPS,
                source: from.octets(),
                destination: to.octets(),
            };
            buffer.extend_from_slice(&header.to_bytes());
        }
        _ => return None,
    }
    Some(())
}

/// A number that looks random and is the same every time (Steele, Lea and Flood's `SplitMix64`,
/// 2014).
const fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use etherparse::{PacketHeaders, TransportHeader};

    use super::*;
    use crate::load::profile::Sources;

    fn maker(form: Form, target: &str, first: &str, count: u32, seed: u64) -> Maker {
        let first = first.parse().unwrap();
        let routes = Routes::new(&[target.parse().unwrap()], Some(Sources::range(first, count)));
        Maker::new(form, routes, first, seed)
    }

    fn syn() -> Form {
        Form::segment(TcpPackets::syn())
    }

    fn made(maker: &Maker, arrival: u64) -> Vec<u8> {
        let mut buffer = Vec::new();
        maker.make(arrival, &mut buffer).unwrap();
        buffer
    }

    fn tcp(packet: &[u8]) -> TcpHeader {
        let read = PacketHeaders::from_ip_slice(packet).unwrap();
        let Some(TransportHeader::Tcp(header)) = read.transport else { panic!("no TCP") };
        header
    }

    #[test]
    fn packets_read_back_and_their_checksums_are_right() {
        let stray = Form::segment(TcpPackets {
            flags: vec![TcpFlag::Ack, TcpFlag::Psh],
            sequence: Some(7),
            bytes: 11,
            ..TcpPackets::default()
        });
        for form in [stray.clone(), syn(), Form::datagram(9)] {
            for (target, first) in [("10.0.0.1:80", "10.9.0.0"), ("[fd00::1]:80", "fd09::")] {
                let packet = made(&maker(form.clone(), target, first, 5, 1), 3);
                let read = PacketHeaders::from_ip_slice(&packet).unwrap();
                let payload = read.payload.slice();
                let net = read.net.unwrap();
                match (read.transport.unwrap(), net.ipv4_ref()) {
                    (TransportHeader::Tcp(tcp), Some((ip, _))) => {
                        assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).unwrap());
                        assert_eq!(ip.source, [10, 9, 0, 3]);
                    }
                    (TransportHeader::Udp(udp), Some((ip, _))) => {
                        assert_eq!(udp.checksum, udp.calc_checksum_ipv4(ip, payload).unwrap());
                    }
                    (TransportHeader::Tcp(tcp), None) => {
                        let (ip, _) = net.ipv6_ref().unwrap();
                        assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).unwrap());
                    }
                    (TransportHeader::Udp(udp), None) => {
                        let (ip, _) = net.ipv6_ref().unwrap();
                        assert_eq!(udp.checksum, udp.calc_checksum_ipv6(ip, payload).unwrap());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let header = tcp(&made(&maker(stray, "10.0.0.1:80", "10.9.0.0", 5, 1), 3));
        assert!(header.ack && header.psh && !header.syn);
        assert_eq!((header.sequence_number, header.destination_port), (7, 80));
    }

    #[test]
    fn a_wrong_checksum_is_wrong() {
        let packets = TcpPackets { wrong_checksum: true, ..TcpPackets::syn() };
        let packet = made(&maker(Form::segment(packets), "10.0.0.1:80", "10.9.0.0", 1, 1), 0);
        let right = made(&maker(syn(), "10.0.0.1:80", "10.9.0.0", 1, 1), 0);
        assert_eq!(tcp(&packet).checksum, !tcp(&right).checksum);
    }

    #[test]
    fn the_same_seed_makes_the_same_packets() {
        let flood = |seed| maker(syn(), "10.0.0.1:80", "10.9.0.0", 9, seed);
        assert_eq!(made(&flood(5), 1234), made(&flood(5), 1234));
        assert_ne!(made(&flood(5), 1234), made(&flood(6), 1234));
    }

    #[test]
    fn no_source_comes_again_before_all_have_come() {
        let flood = maker(syn(), "10.0.0.1:80", "10.9.0.0", 2, 3);
        let ports: HashSet<_> = (0..PORTS).map(|round| flood.port(2 * round)).collect();
        assert_eq!(ports.len() as u64, PORTS);
        assert_eq!(flood.port(0), flood.port(1));
    }
}
