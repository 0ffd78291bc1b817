//! What the comparison stands on: that packets come out of the router with the class they have.

use anyhow::{Context, ensure};
use ctkeeper_differential::ground::{CLASSES, Ground, REPLY};
use ctkeeper_differential::sequence::{
    Conversation, Datagram, Defects, Packet, Segment, Sequence, Side, Step, Transport, Treatment,
    flag,
};
use ctkeeper_differential::transcript::{Sent, Transcript, What};
use ctkeeper_differential::wire;
use ctkeeper_flow::Family;
use ctkeeper_tests::engine::{Detail, Router};

const DATAGRAM: Transport =
    Transport::Udp(Datagram { payload: 64, length: None, without_checksum: false, as_udp: false });

fn exchange(family: Family, treatment: Treatment, sides: &[Side]) -> Sequence {
    let conversation = Conversation::ports(4000, 53);
    let packet = |from: &Side| Packet::new(conversation, *from, DATAGRAM);
    let steps = sides.iter().map(packet).map(Step::Send).collect();
    Sequence { name: "datagrams".to_owned(), family, treatment, steps }
}

/// Codes of the packets that came out, 0 where none did.
fn codes(transcript: &Transcript, sequence: u32) -> Vec<u8> {
    let sent = transcript.events.iter().filter_map(|event| match &event.what {
        What::Packet(sent) if sent.sequence == sequence => Some(sent),
        _ => None,
    });
    sent.map(code).collect()
}

fn code(sent: &Sent) -> u8 {
    sent.out.first().and_then(|out| wire::read(&out.bytes)).map_or(0, |seen| seen.code)
}

pub(crate) fn every_packet_tells_its_class() -> anyhow::Result<()> {
    let mut router =
        Router::create(&Ground { treatments: Treatment::ALL.to_vec(), ..Ground::default() })?;
    let (client, server) = (Side::Client, Side::Server);
    let stray = Segment { flags: flag::FIN, window: 1000, ..Segment::default() };
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut cut = exchange(family, Treatment::Plain, &[client, client, server]);
        let Step::Send(packet) = &mut cut.steps[0] else { unreachable!("a packet is sent") };
        packet.transport = Transport::Tcp(stray.clone());
        let mut parts = exchange(family, Treatment::Plain, &[client, server]);
        for step in &mut parts.steps {
            if let Step::Send(packet) = step {
                packet.defects = Defects { fragments: 3, reversed: true, ..Defects::default() };
            }
        }
        let sequences = [
            exchange(family, Treatment::Plain, &[client, client, server, client, server]),
            exchange(family, Treatment::Untracked, &[client, server]),
            exchange(family, Treatment::DropNew, &[client, server]),
            cut,
            parts,
            exchange(family, Treatment::SourceNat, &[client, server, client]),
            exchange(family, Treatment::BothNat, &[client, server, client]),
        ];
        let transcript = router.play(&sequences, Detail::Packets)?;
        let reply = |class: u8| class + REPLY;
        let expected: [&[u8]; 7] = [
            &[1, 1, reply(2), 2, reply(2)],
            &[5, 5],
            &[0, 0],
            &[4, 1, reply(2)],
            &[1, reply(2)],
            &[1, reply(2), 2],
            &[1, reply(2), 2],
        ];
        for (number, expected) in (0..).zip(expected) {
            let codes = codes(&transcript, number);
            ensure!(codes == expected, "{family} {number}: {codes:?} ({CLASSES:?})");
        }
        let tables = transcript.events.iter().filter_map(|event| match &event.what {
            What::Table(flows) => Some(flows.len()),
            _ => None,
        });
        ensure!(
            tables.max().context("no table")? == 5,
            "{family}: one connection each, but of two"
        );
    }
    Ok(())
}
