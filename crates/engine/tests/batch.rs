//! A batch says what its packets say one by one, and what they say where none takes the short way.

use ctkeeper_engine::{Config, Engine, Mode, Packet, Settings, Ticks, Time};
use proptest::prelude::*;

/// A packet between a few ends, some of it cut off or damaged.
#[derive(Clone, Debug)]
struct Sent {
    from: u8,
    to: u8,
    port: u8,
    wide: bool,
    tcp: Option<u8>,
    sequence: u8,
    damage: Option<(usize, u8)>,
    cut: usize,
}

fn sent() -> impl Strategy<Value = Sent> {
    let flags = prop::sample::select(vec![2u8, 18, 16, 24, 17, 4, 20]);
    let damage = prop::option::weighted(0.1, (0usize..60, any::<u8>()));
    let cut = prop_oneof![9 => Just(100usize), 1 => 0usize..70];
    (0u8..3, 0u8..3, 0u8..3, any::<bool>(), prop::option::of(flags), 0u8..4, damage, cut).prop_map(
        |(from, to, port, wide, tcp, sequence, damage, cut)| Sent {
            from,
            to,
            port,
            wide,
            tcp,
            sequence,
            damage,
            cut,
        },
    )
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let mut layer4 = vec![0, self.port + self.from, 0, self.port + self.to];
        if let Some(flags) = self.tcp {
            layer4.extend([0, 0, 0, self.sequence, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        } else {
            layer4.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        }
        let length = layer4.len() as u8;
        let number = if self.tcp.is_some() { 6 } else { 17 };
        let mut bytes = if self.wide {
            let mut header = vec![0x60, 0, 0, 0, 0, length, number, 64];
            header.extend([0; 32]);
            (header[23], header[39]) = (self.from, self.to);
            header
        } else {
            let mut header = vec![0x45, 0, 0, length + 20, 0, 0, 0, 0, 64, number];
            header.extend([0, 0, 10, 0, 0, self.from, 10, 0, 0, self.to]);
            header
        };
        bytes.extend(layer4);
        if let Some((at, value)) = self.damage
            && let Some(byte) = bytes.get_mut(at)
        {
            *byte = value;
        }
        bytes.truncate(self.cut);
        bytes
    }
}

/// The packets that open a TCP connection, so that others meet an assured one.
fn opening(wide: bool) -> [Sent; 3] {
    let packet = |from, to, flags, sequence| Sent {
        from,
        to,
        port: 1,
        wide,
        tcp: Some(flags),
        sequence,
        damage: None,
        cut: 100,
    };
    [packet(0, 1, 2, 0), packet(1, 0, 18, 0), packet(0, 1, 16, 1)]
}

proptest! {
    #[test]
    fn a_batch_is_its_packets_one_by_one(
        sent in prop::collection::vec(sent(), 0..300),
        sizes in prop::collection::vec((0usize..60, prop::sample::select(vec![1u64, 7, 125])), 1..10),
        exact: bool,
        accounting: bool,
        limit in prop::sample::select(vec![3u32, 100]),
        sweep in prop::sample::select(vec![2, 1000]),
    ) {
        let mode = if exact { Mode::Exact } else { Mode::Fast };
        let sweep = Ticks::from_seconds(sweep);
        let config = Config { mode, limit, sweep, buckets: 4, events: true, ..Config::default() };
        let mut one = Engine::new(config.clone()).unwrap();
        let mut many = Engine::new(config.clone()).unwrap();
        // Who counts cells takes the long way with every packet.
        let mut long = Engine::new(Config { coverage: true, ..config }).unwrap();
        for engine in [&mut one, &mut many, &mut long] {
            engine.add_namespace(Settings { checksum: false, accounting, ..Settings::default() }).unwrap();
        }
        let opening = opening(false).into_iter().chain(opening(true));
        let sent: Vec<_> = opening.chain(sent).collect();
        let bytes: Vec<_> = sent.iter().map(Sent::bytes).collect();
        let packets: Vec<_> = bytes.iter().map(|bytes| Packet::new(bytes)).collect();
        let (mut rest, mut now, mut outcomes) = (&packets[..], 0, Vec::new());
        for (size, seconds) in sizes.iter().cycle() {
            now += seconds;
            let (batch, others) = rest.split_at((*size).min(rest.len()));
            rest = others;
            outcomes.clear();
            many.batch(Time::from_seconds(now), batch, &mut (), &mut outcomes);
            prop_assert_eq!(outcomes.len(), batch.len());
            for (packet, outcome) in batch.iter().zip(&outcomes) {
                let now = Time::from_seconds(now);
                prop_assert_eq!(one.packet(now, packet, &mut ()), *outcome);
                prop_assert_eq!(long.packet(now, packet, &mut ()), *outcome);
            }
            if rest.is_empty() || sizes.iter().all(|&(size, _)| size == 0) {
                break;
            }
        }
        let events = one.events();
        prop_assert_eq!(&events, &many.events());
        prop_assert_eq!(&events, &long.events());
        let now = Time::from_seconds(now);
        prop_assert!(one.connections(now).eq(long.connections(now)));
        prop_assert!(one.connections(now).eq(many.connections(now)));
    }
}
