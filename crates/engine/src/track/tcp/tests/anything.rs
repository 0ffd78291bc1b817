//! Whatever comes, the tracker stands.

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::coverage::Cell;
use crate::packet::flag::PSH;
use crate::track::testing::with_checksum;

fn arbitrary_settings() -> impl Strategy<Value = Settings> {
    let switches = any::<[bool; 3]>();
    (switches, any::<u8>(), any::<[u32; 12]>()).prop_map(|(switches, tcp_max_retrans, tcp)| {
        let mut settings = Settings { tcp_max_retrans, ..Settings::default() };
        [settings.tcp_loose, settings.tcp_be_liberal, settings.tcp_ignore_invalid_rst] = switches;
        settings.timeouts.tcp = tcp;
        settings
    })
}

type Fields = ([u32; 2], u8, u16, u32, Vec<u8>);

fn arbitrary_fields() -> impl Strategy<Value = Fields> {
    let options = prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..=40);
    (any::<[u32; 2]>(), any::<u8>(), any::<u16>(), 0..65_536_u32, options)
}

/// Segments that are often inside the window of an established connection.
fn plausible_fields() -> impl Strategy<Value = Fields> {
    let numbers = [1001..9000_u32, 1001..9000_u32];
    let flags = prop_oneof![20 => Just(ACK), 5 => Just(ACK | PSH), 1 => any::<u8>()];
    let window = prop_oneof![Just(0), Just(WINDOW), any::<u16>()];
    let data = prop_oneof![Just(0), 1..2000_u32];
    let options = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0..20_u8, 12)];
    (numbers, flags, window, data, options)
}

fn arbitrary_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Original), Just(Reply)]
}

proptest! {
    /// Neither a record that nothing but garbage wrote nor any segment makes the tracker panic,
    /// and it leaves a state in every record that it takes a segment into.
    #[test]
    fn no_record_and_no_segment_breaks_it(
        record in any::<[[u8; 32]; 4]>(),
        settings in arbitrary_settings(),
        segments in prop::collection::vec((arbitrary_direction(), arbitrary_fields()), 1..20),
    ) {
        let bytes = record.concat();
        let mut scene = Scene::with(settings);
        scene.entry = Entry::read_from_bytes(&bytes[..64]).unwrap();
        scene.window = TcpWindow::read_from_bytes(&bytes[64..]).unwrap();
        for (direction, (numbers, flags, window, data, options)) in segments {
            let segment = Segment { numbers, flags, window, data, options: &options };
            let judgement = scene.send(direction, segment);
            if let Judgement::Refresh(_) = judgement {
                prop_assert!(TcpState::from_number(scene.entry.state).is_some());
            }
        }
    }

    /// The short way that most segments take comes to what the long one does.
    #[test]
    fn the_short_way_ends_where_the_long_one_does(
        settings in arbitrary_settings(),
        shift in -20..20_i32,
        segments in prop::collection::vec((arbitrary_direction(), plausible_fields()), 1..60),
    ) {
        let mut short = Scene { settings, shift, ..Scene::established() };
        let mut long = short.clone().with_coverage();
        for (direction, (numbers, flags, window, data, options)) in segments {
            let segment = Segment { numbers, flags, window, data, options: &options };
            prop_assert_eq!(short.send(direction, segment), long.send(direction, segment));
            prop_assert_eq!(short.entry.as_bytes(), long.entry.as_bytes());
            prop_assert_eq!(short.window.as_bytes(), long.window.as_bytes());
        }
    }

    /// What is refused leaves state and status as they are.
    #[test]
    fn what_is_refused_changes_neither_state_nor_status(
        segments in prop::collection::vec((arbitrary_direction(), arbitrary_fields()), 1..20),
    ) {
        let mut scene = Scene::established();
        for (direction, (numbers, flags, window, data, options)) in segments {
            let before = (scene.entry.state, scene.entry.status);
            let near = [numbers[0] % 20_000, numbers[1] % 20_000];
            let data = data % 2_000;
            let segment = Segment { numbers: near, flags, window, data, options: &options };
            if let Judgement::Invalid(_) = scene.send(direction, segment) {
                prop_assert_eq!((scene.entry.state, scene.entry.status), before);
                prop_assert!(scene.changes.is_empty());
            }
        }
    }
}

#[test]
fn every_cell_that_is_met_is_counted() {
    let mut scene = Scene::default().with_coverage();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    scene.passes(Original, fin(1001, 5001));
    let coverage = scene.coverage.unwrap();
    let cells = coverage.tcp_cells();
    let cells: Vec<_> =
        cells.map(|(cell, count)| (cell.direction, cell.row, cell.from, count)).collect();
    let expected =
        [(0, 0, TcpState::None, 1), (0, 2, TcpState::SynRecv, 1), (1, 1, TcpState::SynSent, 1)];
    assert_eq!(cells, expected);
}

#[test]
fn what_may_not_begin_a_connection_has_met_its_cell_too() {
    let mut scene = Scene::default().with_coverage();
    scene.refuses(Original, fin(1001, 5001), Reason::TcpNew);
    let cells: Vec<_> = scene.coverage.unwrap().tcp_cells().map(|(cell, _)| cell).collect();
    assert_eq!(cells, [Cell { direction: 0, row: 2, from: TcpState::None }]);
}

#[test]
fn checksums_are_verified_where_that_is_asked_for() {
    let header = syn(1000).header();
    let correct = with_checksum(protocol::TCP, &header, 16, header.len());
    for (verify, bytes, expected) in [
        (true, &correct, Judgement::Refresh(Ticks::from_seconds(120))),
        (true, &header, Judgement::Invalid(Reason::TcpChecksum)),
        (false, &header, Judgement::Refresh(Ticks::from_seconds(120))),
    ] {
        let mut scene = Scene { verify, ..Scene::default() };
        assert_eq!(scene.judge(Original, bytes, 0), expected);
    }
}

#[test]
fn checksums_of_established_connections_are_verified_as_well() {
    let header = ack(1001, 5001).header();
    let correct = with_checksum(protocol::TCP, &header, 16, header.len());
    let mut scene = Scene { verify: true, ..Scene::established() };
    assert_eq!(scene.judge(Original, &header, 0), Judgement::Invalid(Reason::TcpChecksum));
    assert_eq!(
        scene.judge(Original, &correct, 0),
        Judgement::Refresh(Ticks::from_seconds(432_000))
    );
}
