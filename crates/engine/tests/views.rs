//! The views of packets and their translation, against packets that `etherparse` builds and reads,
//! and against bytes that nobody built.

use ctkeeper_engine::nat::End;
use ctkeeper_engine::packet::{
    Datagram, IcmpMessage, SctpPacket, TcpSegment, UdpDatagram, UdpliteDatagram, checksum, flag,
    rewrite,
};
use ctkeeper_engine::tuple::{address_bits, protocol};
use ctkeeper_engine::{Reason, Tuple};
use ctkeeper_flow::Family;
use etherparse::{
    IpNumber, Ipv4Header, Ipv4Options, Ipv6ExtensionSlice, NetSlice, PacketBuilder, SlicedPacket,
    TcpOptionElement, TransportSlice,
};
use proptest::prelude::*;
use proptest::sample::select;

/// All that a packet is built from.
#[derive(Clone, Debug)]
struct Recipe {
    tuple: Tuple,
    /// Words of IPv4 options.
    options: usize,
    syn: bool,
    scale: Option<u8>,
    payload: Vec<u8>,
    /// UDP without a checksum.
    bare: bool,
}

impl Recipe {
    fn build(&self) -> Vec<u8> {
        match self.tuple.protocol {
            protocol::TCP => self.build_tcp(),
            protocol::UDP => self.build_udp(),
            protocol::ICMP | protocol::ICMPV6 => self.build_echo(),
            protocol::SCTP => self.build_sctp(),
            protocol::UDPLITE => self.build_udplite(),
            _ => self.build_around(&self.payload),
        }
    }

    fn network(&self) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        let Tuple { source, destination, protocol, family, .. } = self.tuple;
        match family {
            Family::Ipv4 => {
                let (source, destination) = (source as u32, destination as u32);
                let length = self.payload.len() as u16;
                let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
                let mut header =
                    Ipv4Header::new(length, 64, IpNumber(protocol), source, destination).unwrap();
                header.options = Ipv4Options::try_from(&vec![1; self.options * 4][..]).unwrap();
                PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
                    header,
                    etherparse::Ipv4Extensions::default(),
                ))
            }
            Family::Ipv6 => {
                PacketBuilder::ipv6(source.to_be_bytes(), destination.to_be_bytes(), 64)
            }
        }
    }

    fn build_tcp(&self) -> Vec<u8> {
        let Tuple { source_id, destination_id, .. } = self.tuple;
        let mut step = self.network().tcp(source_id, destination_id, 77, 512);
        step = if self.syn { step.syn() } else { step.ack(99).psh() };
        let scale = self.scale.map(TcpOptionElement::WindowScale);
        let options: Vec<_> = scale.into_iter().chain([TcpOptionElement::Noop]).collect();
        let step = step.options(&options).unwrap();
        let mut bytes = Vec::new();
        step.write(&mut bytes, &self.payload).unwrap();
        bytes
    }

    fn build_udp(&self) -> Vec<u8> {
        let step = self.network().udp(self.tuple.source_id, self.tuple.destination_id);
        let mut bytes = Vec::new();
        step.write(&mut bytes, &self.payload).unwrap();
        if self.bare {
            let header = Datagram::parse(&bytes).unwrap().header;
            bytes[header + 6..header + 8].fill(0);
        }
        bytes
    }

    fn build_echo(&self) -> Vec<u8> {
        let step = self.network();
        let mut bytes = Vec::new();
        let payload = &self.payload;
        match self.tuple.protocol {
            protocol::ICMP => {
                step.icmpv4_echo_request(self.tuple.source_id, 1).write(&mut bytes, payload)
            }
            _ => step.icmpv6_echo_request(self.tuple.source_id, 1).write(&mut bytes, payload),
        }
        .unwrap();
        bytes
    }

    fn build_sctp(&self) -> Vec<u8> {
        let mut packet = self.ports();
        packet.extend([1, 2, 3, 4, 0, 0, 0, 0, 10, 0, 0, 8, 5, 6, 7, 8]);
        let crc = checksum::sctp(&packet).unwrap();
        packet[8..12].copy_from_slice(&crc.to_be_bytes());
        self.build_around(&packet)
    }

    /// Covers its header only.
    fn build_udplite(&self) -> Vec<u8> {
        let mut packet = self.ports();
        packet.extend([0, 8, 0, 0]);
        packet.extend(&self.payload);
        let Tuple { source, destination, protocol, .. } = self.tuple;
        let pseudo = checksum::Sum::pseudo_header(source, destination, protocol, packet.len());
        let sum = match pseudo.bytes(&packet[..8]).checksum() {
            0 => 0xffff,
            sum => sum,
        };
        packet[6..8].copy_from_slice(&sum.to_be_bytes());
        self.build_around(&packet)
    }

    fn ports(&self) -> Vec<u8> {
        [self.tuple.source_id.to_be_bytes(), self.tuple.destination_id.to_be_bytes()].concat()
    }

    fn build_around(&self, packet: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.network().write(&mut bytes, IpNumber(self.tuple.protocol), packet).unwrap();
        bytes
    }
}

fn tuples(protocols: &'static [u8]) -> impl Strategy<Value = Tuple> {
    (any::<[u8; 32]>(), any::<[u16; 2]>(), select(protocols), any::<bool>()).prop_map(
        |(addresses, ids, protocol, wide)| {
            let wide = protocol == protocol::ICMPV6 || wide && protocol != protocol::ICMP;
            let (source, destination) = addresses.split_at(16);
            let address = |bytes: &[u8]| {
                let bits = u128::from_be_bytes(bytes.try_into().unwrap());
                if wide { bits } else { bits & 0xffff_ffff }
            };
            let query = match protocol {
                protocol::ICMP => 0x0800,
                protocol::ICMPV6 => 0x8000,
                _ => ids[1],
            };
            Tuple {
                source: address(source),
                destination: address(destination),
                source_id: ids[0],
                destination_id: query,
                protocol,
                family: if wide { Family::Ipv6 } else { Family::Ipv4 },
            }
        },
    )
}

const KNOWN: &[u8] = &[
    protocol::TCP,
    protocol::UDP,
    protocol::ICMP,
    protocol::ICMPV6,
    protocol::SCTP,
    protocol::UDPLITE,
];

fn recipes(protocols: &'static [u8]) -> impl Strategy<Value = Recipe> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let rest = (0..=10_usize, any::<bool>(), prop::option::of(0_u8..20), payload, any::<bool>());
    (tuples(protocols), rest).prop_map(|(tuple, (options, syn, scale, payload, bare))| Recipe {
        tuple,
        options,
        syn,
        scale,
        payload,
        bare,
    })
}

/// Where a packet's addresses and ids could be translated to.
fn with_target(protocols: &'static [u8]) -> impl Strategy<Value = (Recipe, [u128; 2], [u16; 2])> {
    (recipes(protocols), any::<[u128; 2]>(), any::<[u16; 2]>()).prop_map(
        |(recipe, addresses, mut ids)| {
            let wide = recipe.tuple.family == Family::Ipv6;
            let addresses = addresses.map(|bits| if wide { bits } else { bits & 0xffff_ffff });
            if matches!(recipe.tuple.protocol, protocol::ICMP | protocol::ICMPV6) {
                ids[1] = recipe.tuple.destination_id;
            }
            (recipe, addresses, ids)
        },
    )
}

/// All views of some bytes, none of which may panic; whether the tuple was found.
fn look_at(bytes: &[u8]) -> bool {
    let _ = (TcpSegment::parse(bytes), UdpDatagram::parse(bytes), UdpliteDatagram::parse(bytes));
    let _ = checksum::network_header_holds(bytes);
    let Ok(datagram) = Datagram::parse(bytes) else { return false };
    assert!(datagram.length as usize <= bytes.len());
    let payload = datagram.payload;
    if let Ok(tcp) = TcpSegment::parse(payload) {
        let _ = (tcp.syn_options(), tcp.highest_sack(5), tcp.end(), tcp.flags_make_sense());
    }
    if let Ok(sctp) = SctpPacket::parse(payload) {
        assert!(sctp.chunks().count() <= payload.len() / 4);
        sctp.chunks().for_each(|chunk| _ = chunk.initiate_tag());
        let _ = checksum::sctp_holds(payload);
    }
    if let Ok(icmp) = IcmpMessage::parse(payload) {
        let _ = (checksum::icmp_holds(&datagram), rewrite::error_can_pass(&datagram, false));
        let _ = (icmp.inner_tuple(Family::Ipv4), icmp.inner_tuple(Family::Ipv6));
        let _ = icmp.redirected_tuple();
    }
    let _ = checksum::layer4_holds(&datagram, datagram.protocol, payload.len() / 2);
    datagram.tuple().is_ok()
}

fn translate_all(bytes: &[u8], target: &Tuple) {
    for end in [End::Source, End::Destination] {
        let mut copy = bytes.to_vec();
        if rewrite::translate(&mut copy, end, target).is_err() {
            assert_eq!(copy, bytes, "changed although it could not be translated");
        }
        let _ = rewrite::translate_error(&mut copy, end, target);
        assert_eq!(copy.len(), bytes.len());
    }
}

fn options_agree(tcp: &TcpSegment<'_>, theirs: &etherparse::TcpSlice<'_>) {
    let scale = theirs.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::WindowScale(scale)) => Some(scale.min(14)),
        _ => None,
    });
    assert_eq!(tcp.syn_options().scale, scale);
}

proptest! {
    #[test]
    fn views_agree_with_etherparse(recipe in recipes(KNOWN)) {
        let bytes = recipe.build();
        let datagram = Datagram::parse(&bytes).unwrap();
        prop_assert_eq!(datagram.tuple(), Ok(recipe.tuple));
        prop_assert!(checksum::network_header_holds(&bytes));
        let theirs = SlicedPacket::from_ip(&bytes).unwrap();
        match theirs.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                prop_assert_eq!(datagram.header, ip.header().slice().len());
                prop_assert_eq!(datagram.source, address_bits(ip.header().source_addr().into()));
                prop_assert_eq!(datagram.length, u32::from(ip.header().total_len()));
            }
            NetSlice::Ipv6(ip) => {
                prop_assert_eq!(datagram.source, address_bits(ip.header().source_addr().into()));
                prop_assert_eq!(datagram.hop_limit, ip.header().hop_limit());
            }
            NetSlice::Arp(_) => unreachable!("no such packet is built"),
        }
        match theirs.transport {
            Some(TransportSlice::Tcp(theirs)) => {
                let tcp = TcpSegment::parse(datagram.payload).unwrap();
                prop_assert_eq!(tcp.sequence, theirs.sequence_number());
                prop_assert_eq!(tcp.acknowledgement, theirs.acknowledgment_number());
                prop_assert_eq!(tcp.window, theirs.window_size());
                prop_assert_eq!(tcp.has(flag::SYN), theirs.syn());
                prop_assert_eq!(tcp.has(flag::ACK | flag::PSH), theirs.ack() && theirs.psh());
                prop_assert_eq!(tcp.payload as usize, theirs.payload().len());
                prop_assert!(tcp.flags_make_sense());
                options_agree(&tcp, &theirs);
            }
            Some(TransportSlice::Udp(theirs)) => {
                let udp = UdpDatagram::parse(datagram.payload).unwrap();
                prop_assert_eq!(udp.length, theirs.length());
                prop_assert_eq!(udp.checksum, theirs.checksum());
                prop_assert_eq!(udp.checksum == 0, recipe.bare);
            }
            _ => {}
        }
    }

    #[test]
    fn checksums_hold_until_a_bit_changes(recipe in recipes(KNOWN), place: prop::sample::Index) {
        let mut bytes = Recipe { bare: false, ..recipe.clone() }.build();
        let holds = |bytes: &[u8]| {
            let datagram = Datagram::parse(bytes).unwrap();
            match datagram.protocol {
                protocol::SCTP => checksum::sctp_holds(datagram.payload),
                protocol::ICMP | protocol::ICMPV6 => checksum::icmp_holds(&datagram),
                protocol::UDPLITE => checksum::layer4_holds(&datagram, protocol::UDPLITE, 8),
                protocol => checksum::layer4_holds(&datagram, protocol, datagram.payload.len()),
            }
        };
        prop_assert!(holds(&bytes));
        let header = Datagram::parse(&bytes).unwrap().header;
        let covered = match recipe.tuple.protocol {
            protocol::UDPLITE => 8,
            _ => bytes.len() - header,
        };
        bytes[header + place.index(covered)] ^= 0x10;
        prop_assert!(!holds(&bytes));
    }

    #[test]
    fn a_translated_packet_is_as_if_built_so((recipe, addresses, ids) in with_target(KNOWN)) {
        let target = Tuple {
            source: addresses[0],
            destination: addresses[1],
            source_id: ids[0],
            destination_id: ids[1],
            ..recipe.tuple
        };
        let mut bytes = recipe.build();
        rewrite::translate(&mut bytes, End::Source, &target).unwrap();
        rewrite::translate(&mut bytes, End::Destination, &target).unwrap();
        prop_assert_eq!(bytes, Recipe { tuple: target, ..recipe }.build());
    }

    #[test]
    fn an_error_about_a_translated_packet_is_turned_back(
        // SCTP's checksum inside an error is made over what there is, as in the kernel.
        (recipe, addresses, ids) in with_target(&[1, 6, 17, 58, 136]),
        router: u128,
        cut in 0_usize..60,
    ) {
        // TCP's is left alone unless all of its header is there, be it in sight or not.
        let cut = match (recipe.tuple.protocol, cut) {
            (protocol::TCP, 9..12) => 12,
            _ => cut,
        };
        let sent = recipe.tuple;
        let public = Tuple { source: addresses[0], source_id: ids[0], ..sent };
        let error_about = |tuple: Tuple| {
            let mut inside = Recipe { tuple, ..recipe.clone() }.build();
            let header = Datagram::parse(&inside).unwrap().header;
            inside.truncate((header + 8 + cut).min(inside.len()));
            let (protocol, kind) = match tuple.family {
                Family::Ipv4 => (protocol::ICMP, 11),
                Family::Ipv6 => (protocol::ICMPV6, 3),
            };
            let source = if tuple.family == Family::Ipv4 { router & 0xffff_ffff } else { router };
            let outer = Tuple { source, destination: tuple.source, protocol, ..tuple };
            let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            message.extend(&inside);
            let pseudo = match tuple.family {
                Family::Ipv4 => checksum::Sum::default(),
                Family::Ipv6 => {
                    let Tuple { source, destination, .. } = outer;
                    checksum::Sum::pseudo_header(source, destination, protocol, message.len())
                }
            };
            let sum = pseudo.bytes(&message).checksum();
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Recipe { tuple: outer, ..recipe.clone() }.build_around(&message)
        };
        let mut bytes = error_about(public);
        let datagram = Datagram::parse(&bytes).unwrap();
        prop_assert!(rewrite::error_can_pass(&datagram, false));
        let inside = IcmpMessage::parse(datagram.payload).unwrap().inner_tuple(sent.family);
        prop_assert_eq!(inside, Ok(public));
        rewrite::translate_error(&mut bytes, End::Destination, &sent).unwrap();
        prop_assert_eq!(bytes, error_about(sent));
    }

    #[test]
    fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..400), target in tuples(KNOWN)) {
        look_at(&bytes);
        translate_all(&bytes, &target);
    }

    #[test]
    fn packets_with_changed_bytes_are_looked_at(
        recipe in recipes(&[1, 6, 17, 47, 50, 58, 132, 136]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        length: prop::sample::Index,
        target in tuples(KNOWN),
    ) {
        let mut bytes = recipe.build();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(length.index(bytes.len() * 2));
        look_at(&bytes);
        translate_all(&bytes, &target);
    }

    #[test]
    fn chains_of_extension_headers_end_where_etherparse_says(
        chain in prop::collection::vec((select(&[0_u8, 43, 60, 51, 44][..]), 0_u8..4), 0..6),
    ) {
        let mut chain = chain;
        // Only the first may be hop-by-hop options to etherparse.
        chain.iter_mut().skip(1).for_each(|(kind, _)| if *kind == 0 { *kind = 60 });
        let mut headers = Vec::new();
        for (at, &(kind, units)) in chain.iter().enumerate() {
            let next = chain.get(at + 1).map_or(protocol::UDP, |(kind, _)| *kind);
            let units = if kind == 44 { 0 } else { units + u8::from(kind == 51) };
            let length = if kind == 51 { (usize::from(units) + 2) * 4 } else { (usize::from(units) + 1) * 8 };
            let start = headers.len();
            headers.extend([next, units]);
            headers.resize(start + length, 0);
        }
        let extensions = headers.len();
        headers.extend([0, 7, 0, 53, 0, 8, 0, 0]);
        let next = chain.first().map_or(protocol::UDP, |(kind, _)| *kind);
        let mut bytes = vec![0x60, 0, 0, 0, 0, headers.len() as u8, next, 64];
        bytes.extend([1; 32]);
        bytes.extend(&headers);
        let datagram = Datagram::parse(&bytes).unwrap();
        prop_assert_eq!((datagram.protocol, datagram.header), (protocol::UDP, 40 + extensions));
        let theirs = SlicedPacket::from_ip(&bytes).unwrap();
        let Some(NetSlice::Ipv6(ip)) = theirs.net else { panic!("no IPv6") };
        let theirs = ip.extensions().clone().into_iter().map(|header| match header {
            Ipv6ExtensionSlice::HopByHop(raw)
            | Ipv6ExtensionSlice::DestinationOptions(raw)
            | Ipv6ExtensionSlice::Routing(raw) => raw.slice().len(),
            Ipv6ExtensionSlice::Fragment(fragment) => fragment.slice().len(),
            Ipv6ExtensionSlice::Authentication(header) => header.slice().len(),
        });
        prop_assert_eq!(theirs.sum::<usize>(), extensions);
    }
}

#[test]
fn a_udp_checksum_of_0_stays_0_and_becomes_none() {
    let tuple = Tuple {
        source: 1,
        destination: 2,
        source_id: 3,
        destination_id: 4,
        protocol: protocol::UDP,
        family: Family::Ipv4,
    };
    let (payload, syn, scale, options) = (vec![], false, None, 0);
    let recipe = Recipe { tuple, options, syn, scale, payload, bare: true };
    let mut bytes = recipe.build();
    let target = Tuple { source_id: 99, ..tuple };
    rewrite::translate(&mut bytes, End::Source, &target).unwrap();
    assert_eq!(bytes[26..28], [0, 0]);
    // Some port makes the sum 0, which is written as its other representation.
    let recipe = Recipe { bare: false, ..recipe };
    let odd = (0..=u16::MAX).filter(|&source_id| {
        let mut bytes = recipe.build();
        rewrite::translate(&mut bytes, End::Source, &Tuple { source_id, ..tuple }).unwrap();
        assert_ne!(bytes[26..28], [0, 0]);
        bytes[26..28] == [0xff, 0xff]
    });
    assert_eq!(odd.count(), 1);
}

#[test]
fn headers_cut_short_are_not_translated() {
    for (protocol, payload) in [(protocol::TCP, &[0; 7][..]), (protocol::GRE, &[0; 7])] {
        let mut bytes = vec![0x45, 0, 0, 27, 0, 0, 0, 0, 64, protocol, 0, 0];
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(payload);
        let tuple = Tuple {
            source: 1,
            destination: 2,
            source_id: 3,
            destination_id: 4,
            protocol,
            family: Family::Ipv4,
        };
        let result = rewrite::translate(&mut bytes, End::Destination, &tuple);
        assert_eq!(result, Err(Reason::Untranslatable));
    }
}
