use ctkeeper_flow::Direction::{Original, Reply};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::testing::Track;
use super::*;
use crate::packet::checksum;
use crate::tuple::protocol;

/// The state table as the specification writes it, by rows of chunks; columns are the states
/// NO CL CW CE ES SS SR SA HS.
const ORIGINAL: [(u8, &str); 11] = [
    (kind::INIT, "CL CL CW CE ES CL CL SA CW"),
    (kind::INIT_ACK, "CL CL CW CE ES SS SR SA CL"),
    (kind::ABORT, "CL CL CL CL CL CL CL CL CL"),
    (kind::SHUTDOWN, "CL CL CW CE SS SS SR SA CL"),
    (kind::SHUTDOWN_ACK, "SA CL CW CE ES SA SA SA SA"),
    (kind::ERROR, "CL CL CW CE ES SS SR SA CL"),
    (kind::COOKIE_ECHO, "CL CL CE CE ES SS SR SA CL"),
    (kind::COOKIE_ACK, "CL CL CW ES ES SS SR SA CL"),
    (kind::SHUTDOWN_COMPLETE, "CL CL CW CE ES SS SR CL CL"),
    (kind::HEARTBEAT, "HS CL CW CE ES SS SR SA HS"),
    (kind::HEARTBEAT_ACK, "CL CL CW CE ES SS SR SA HS"),
];
const REPLY: [(u8, &str); 11] = [
    (kind::INIT, "IV CL CW CE ES SS SR SA IV"),
    (kind::INIT_ACK, "IV CW CW CE ES SS SR SA IV"),
    (kind::ABORT, "IV CL CL CL CL CL CL CL IV"),
    (kind::SHUTDOWN, "IV CL CW CE SR SS SR SA IV"),
    (kind::SHUTDOWN_ACK, "IV CL CW CE ES SA SA SA IV"),
    (kind::ERROR, "IV CL CW CL ES SS SR SA IV"),
    (kind::COOKIE_ECHO, "IV CL CE CE ES SS SR SA IV"),
    (kind::COOKIE_ACK, "IV CL CW ES ES SS SR SA IV"),
    (kind::SHUTDOWN_COMPLETE, "IV CL CW CE ES SS SR CL IV"),
    (kind::HEARTBEAT, "IV CL CW CE ES SS SR SA HS"),
    (kind::HEARTBEAT_ACK, "IV CL CW CE ES SS SR SA ES"),
];
const STATES: [&str; 9] = ["NO", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"];

const CLIENT_TAG: u32 = 0x1111_1111;
const SERVER_TAG: u32 = 0x2222_2222;

fn track() -> Track {
    Track::new(protocol::SCTP, packet)
}

fn state(track: &Track) -> SctpState {
    SctpState::from_number(track.entry.state).unwrap()
}

fn seconds(seconds: u32) -> Judgement {
    Judgement::Refresh(Ticks::from_seconds(seconds))
}

const WRONG_TAG: Judgement = Judgement::Invalid(Reason::SctpVerificationTag);

/// A packet of chunks; each with its kind, flags and body.
fn chunks(tag: u32, chunks: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0x10, 0x00, 0x00, 0x35];
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    for (kind, flags, body) in chunks {
        bytes.extend([*kind, *flags]);
        bytes.extend((4 + body.len() as u16).to_be_bytes());
        bytes.extend(*body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn chunk(tag: u32, kind: u8) -> Vec<u8> {
    chunks(tag, &[(kind, 0, &[])])
}

/// INIT or INIT ACK that tells a tag.
fn initiation(tag: u32, kind: u8, told: u32) -> Vec<u8> {
    let mut body = [0; 16];
    body[..4].copy_from_slice(&told.to_be_bytes());
    chunks(tag, &[(kind, 0, &body)])
}

/// An association after its handshake.
fn established() -> Track {
    let mut track = track();
    let steps = [
        (Original, initiation(0, kind::INIT, CLIENT_TAG), 10, SctpState::Closed),
        (Reply, initiation(CLIENT_TAG, kind::INIT_ACK, SERVER_TAG), 3, SctpState::CookieWait),
        (Original, chunk(SERVER_TAG, kind::COOKIE_ECHO), 3, SctpState::CookieEchoed),
        (Reply, chunk(CLIENT_TAG, kind::COOKIE_ACK), 210, SctpState::Established),
    ];
    for (direction, bytes, timeout, expected) in steps {
        assert!(!track.entry.has(Status::ASSURED));
        assert_eq!(track.packet(direction, &bytes), seconds(timeout));
        assert_eq!(state(&track), expected);
    }
    track
}

/// An association in a state, in the table, both tags known.
fn in_state(state: u8) -> Track {
    let mut track = track();
    track.entry.set(Status::CONFIRMED);
    track.entry.state = state;
    track.entry.small = [SERVER_TAG, CLIENT_TAG, 0];
    track
}

#[test]
fn every_cell_of_the_table() {
    for (direction, table) in [(Original, ORIGINAL), (Reply, REPLY)] {
        for (kind, row) in table {
            for (from, expected) in (0..).zip(row.split(' ')) {
                let mut track = in_state(from);
                let tags = [SERVER_TAG, CLIENT_TAG];
                let tag = tags[direction as usize];
                let peer = tags[1 - direction as usize];
                let bytes = match kind {
                    kind::INIT => initiation(0, kind, peer),
                    kind::INIT_ACK => initiation(tag, kind, peer),
                    _ => chunk(tag, kind),
                };
                let judgement = track.packet(direction, &bytes);
                let met = track.coverage.sctp_cells().count();
                assert_eq!(met, 1, "{direction:?} chunk {kind} in {from}");
                if expected == "IV" {
                    assert_eq!(judgement, Judgement::Invalid(Reason::SctpState));
                    assert_eq!(track.entry.state, from);
                } else {
                    let reached = STATES[usize::from(track.entry.state)];
                    assert_eq!(reached, expected, "{direction:?} chunk {kind} in {from}");
                }
            }
        }
    }
}

#[test]
fn a_handshake_assures_and_data_flows() {
    let mut track = established();
    assert!(track.entry.has(Status::ASSURED));
    assert!(track.changes.contains(Changes::ASSURED) && track.changes.contains(Changes::PROTOCOL));
    track.changes = Changes::default();
    let data = chunks(SERVER_TAG, &[(kind::DATA, 3, b"some data")]);
    assert_eq!(track.packet(Original, &data), seconds(210));
    assert!(track.changes.is_empty());
    assert_eq!(track.packet(Reply, &data), WRONG_TAG);
    let cut = &data[..18];
    assert_eq!(track.packet(Original, cut), seconds(210), "a chunk may be cut short");
}

#[test]
fn is_shut_down() {
    let mut track = established();
    let steps = [
        (Original, chunk(SERVER_TAG, kind::SHUTDOWN), 3, SctpState::ShutdownSent),
        (Reply, chunk(CLIENT_TAG, kind::SHUTDOWN_ACK), 3, SctpState::ShutdownAckSent),
        (Original, chunk(SERVER_TAG, kind::SHUTDOWN_COMPLETE), 10, SctpState::Closed),
    ];
    for (direction, bytes, timeout, expected) in steps {
        assert_eq!(track.packet(direction, &bytes), seconds(timeout));
        assert_eq!(state(&track), expected);
    }
}

#[test]
fn what_may_begin_an_association() {
    let new = Judgement::Invalid(Reason::SctpNew);
    for (bytes, expected) in [
        (initiation(1, kind::INIT, CLIENT_TAG), new),
        (initiation(0, kind::INIT, CLIENT_TAG)[..31].to_vec(), new),
        (chunk(0, kind::DATA), new),
        (chunks(9, &[(kind::HEARTBEAT, 0, &[]), (kind::DATA, 0, &[])]), new),
        (chunk(0, kind::ABORT), new),
        (chunk(0, kind::SHUTDOWN_COMPLETE), new),
        (chunk(0, kind::COOKIE_ACK), new),
        (chunk(9, kind::SHUTDOWN), WRONG_TAG),
        (chunk(9, kind::COOKIE_ECHO), WRONG_TAG),
        (chunk(0, kind::COOKIE_ECHO), seconds(10)),
        (chunk(9, kind::HEARTBEAT), seconds(30)),
        (chunk(9, kind::HEARTBEAT_ACK), seconds(10)),
        (chunk(9, kind::SHUTDOWN_ACK), seconds(3)),
    ] {
        assert_eq!(track().packet(Original, &bytes), expected, "{bytes:?}");
    }
}

#[test]
fn chunks_keep_their_company() {
    let mut track = established();
    let judge = |track: &mut Track, kinds: &[u8]| {
        let list: Vec<(u8, u8, &[u8])> = kinds.iter().map(|&kind| (kind, 0, &[][..])).collect();
        track.packet(Original, &chunks(SERVER_TAG, &list))
    };
    let company = Judgement::Invalid(Reason::SctpChunks);
    for kinds in [
        &[][..],
        &[kind::DATA, kind::COOKIE_ECHO],
        &[kind::DATA, kind::COOKIE_ACK],
        &[kind::INIT, kind::DATA],
        &[kind::DATA, kind::INIT_ACK],
        &[kind::SHUTDOWN_COMPLETE, kind::DATA],
    ] {
        assert_eq!(judge(&mut track, kinds), company, "{kinds:?}");
    }
    assert_eq!(judge(&mut track, &[kind::COOKIE_ECHO, kind::DATA]), seconds(210));
    let mut zero = chunk(SERVER_TAG, kind::DATA);
    zero[15] = 0;
    assert_eq!(track.packet(Original, &zero), company);
    assert_eq!(track.packet(Original, &zero[..11]), Judgement::Invalid(Reason::SctpHeader));
}

#[test]
fn an_init_sent_again_keeps_nothing_alive() {
    let mut track = track();
    let init = initiation(0, kind::INIT, CLIENT_TAG);
    assert_eq!(track.packet(Original, &init), seconds(10));
    assert_eq!(track.packet(Original, &init), Judgement::Ignore);
    let mut closing = in_state(SctpState::ShutdownSent.number());
    assert_eq!(closing.packet(Original, &init), seconds(10), "it comes from another state");
    assert_eq!(closing.packet(Original, &init), Judgement::Ignore);
}

#[test]
fn abort_and_shutdown_complete_may_reflect_the_tag() {
    for kind in [kind::ABORT, kind::SHUTDOWN_COMPLETE] {
        for (flags, tag, fits) in [
            (0, SERVER_TAG, true),
            (0, CLIENT_TAG, false),
            (1, SERVER_TAG, false),
            (1, CLIENT_TAG, true),
        ] {
            let judgement = established().packet(Original, &chunks(tag, &[(kind, flags, &[])]));
            assert_eq!(judgement != WRONG_TAG, fits, "chunk {kind} flags {flags}");
        }
    }
}

#[test]
fn two_initiations_that_meet() {
    let mut track = track();
    assert_eq!(track.packet(Original, &initiation(0, kind::INIT, CLIENT_TAG)), seconds(10));
    track.packet(Reply, &initiation(CLIENT_TAG, kind::INIT_ACK, SERVER_TAG));
    // The server begins too, with a tag of its own choice.
    assert_eq!(track.packet(Reply, &initiation(0, kind::INIT, 0x3333)), seconds(3));
    let stranger = initiation(CLIENT_TAG, kind::INIT_ACK, 0x4444);
    assert_eq!(track.packet(Reply, &stranger), WRONG_TAG);
    let answer = initiation(0x3333, kind::INIT_ACK, CLIENT_TAG);
    assert_eq!(track.packet(Original, &answer), seconds(3));
    assert_eq!(track.packet(Original, &chunk(0x3333, kind::COOKIE_ECHO)), seconds(3));
    assert_eq!(track.packet(Reply, &chunk(CLIENT_TAG, kind::COOKIE_ACK)), seconds(210));
    assert_eq!(track.entry.small, [0x3333, CLIENT_TAG, 0], "no initiation is under way any more");
}

#[test]
fn an_answer_to_no_initiation_changes_no_tag() {
    let mut track = established();
    let answer = initiation(CLIENT_TAG, kind::INIT_ACK, 0x5555);
    assert_eq!(track.packet(Reply, &answer), WRONG_TAG);
    assert_eq!(track.entry.small[..2], [SERVER_TAG, CLIENT_TAG]);
}

#[test]
fn an_answer_may_tell_the_first_tag_of_all() {
    let mut track = track();
    assert_eq!(track.packet(Original, &initiation(0, kind::INIT_ACK, CLIENT_TAG)), seconds(10));
    assert_eq!(track.entry.small[..2], [0, CLIENT_TAG]);
}

#[test]
fn a_third_initiation_takes_the_place_of_the_other_sides() {
    let mut track = track();
    track.packet(Original, &initiation(0, kind::INIT, CLIENT_TAG));
    track.packet(Reply, &initiation(0, kind::INIT, SERVER_TAG));
    let stranger = initiation(0x3333, kind::INIT_ACK, 0x4444);
    assert_eq!(track.packet(Reply, &stranger), WRONG_TAG);
    track.packet(Original, &initiation(0, kind::INIT, 0x3333));
    assert!(matches!(track.packet(Reply, &stranger), Judgement::Refresh(_)));
    assert_eq!(track.entry.small[..2], [0x4444, 0x3333]);
}

#[test]
fn an_old_init_is_no_collision() {
    let mut track = track();
    track.packet(Original, &initiation(0, kind::INIT, CLIENT_TAG));
    track.packet(Reply, &initiation(CLIENT_TAG, kind::INIT_ACK, SERVER_TAG));
    assert_eq!(track.packet(Reply, &initiation(0, kind::INIT, SERVER_TAG)), seconds(3));
    let other = initiation(CLIENT_TAG, kind::INIT_ACK, 0x6666);
    assert_eq!(track.packet(Reply, &other), seconds(3), "only one side has begun");
}

#[test]
fn a_second_path_is_learnt_from_heartbeats() {
    let mut track = track();
    assert_eq!(track.packet(Original, &chunk(SERVER_TAG, kind::HEARTBEAT)), seconds(30));
    assert_eq!(state(&track), SctpState::HeartbeatSent);
    assert_eq!(track.packet(Reply, &chunk(CLIENT_TAG, kind::HEARTBEAT_ACK)), seconds(210));
    assert_eq!(state(&track), SctpState::Established);
    assert!(track.entry.has(Status::ASSURED));
    assert_eq!(track.entry.small[..2], [SERVER_TAG, CLIENT_TAG]);
}

#[test]
fn a_restarted_path_is_learnt_from_the_answer() {
    let mut track = established();
    let restarted = chunk(0x7777, kind::HEARTBEAT_ACK);
    assert_eq!(track.packet(Reply, &restarted), WRONG_TAG, "nobody asked");
    assert_eq!(track.packet(Original, &chunk(0x8888, kind::HEARTBEAT)), Judgement::Ignore);
    assert_eq!(track.packet(Original, &chunk(0x9999, kind::HEARTBEAT_ACK)), WRONG_TAG);
    assert_eq!(track.packet(Reply, &restarted), seconds(210));
    assert_eq!(track.entry.small, [0, 0x7777, 0]);
}

#[test]
fn a_failed_heartbeat_is_forgotten_by_a_good_one() {
    let mut track = established();
    assert_eq!(track.packet(Original, &chunk(0x8888, kind::HEARTBEAT)), Judgement::Ignore);
    assert_eq!(track.packet(Original, &chunk(SERVER_TAG, kind::HEARTBEAT)), seconds(210));
    assert_eq!(track.packet(Reply, &chunk(0x7777, kind::HEARTBEAT_ACK)), WRONG_TAG);
}

#[test]
fn a_heartbeat_with_a_wrong_tag_carries_no_data_and_no_second_one() {
    let heartbeat: (u8, u8, &[u8]) = (kind::HEARTBEAT, 0, &[]);
    for second in [heartbeat, (kind::DATA, 0, &[])] {
        let bytes = chunks(0x8888, &[heartbeat, second]);
        assert_eq!(established().packet(Original, &bytes), WRONG_TAG);
    }
}

#[test]
fn what_came_before_a_wrong_chunk_has_happened() {
    let mut track = established();
    let bytes = chunks(SERVER_TAG, &[(kind::SHUTDOWN, 0, &[]), (kind::ABORT, 1, &[])]);
    assert_eq!(track.packet(Original, &bytes), WRONG_TAG);
    assert_eq!(state(&track), SctpState::ShutdownSent);
}

#[test]
fn the_last_state_gives_the_timeout() {
    let mut track = in_state(SctpState::CookieEchoed.number());
    let bytes = chunks(CLIENT_TAG, &[(kind::COOKIE_ACK, 0, &[]), (kind::SHUTDOWN, 0, &[])]);
    assert_eq!(track.packet(Reply, &bytes), seconds(3));
    assert_eq!(state(&track), SctpState::ShutdownRecd);
}

#[test]
fn checksum_counts_where_it_is_verified() {
    let mut track = track();
    track.verify = true;
    let mut init = initiation(0, kind::INIT, CLIENT_TAG);
    assert_eq!(track.packet(Original, &init), Judgement::Invalid(Reason::SctpChecksum));
    let crc = checksum::sctp(&init).unwrap();
    init[8..12].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(track.packet(Original, &init), seconds(10));
}

proptest! {
    #[test]
    fn takes_any_packets(
        packets in vec(
            (any::<bool>(), 0..4_u32, vec((0..20_u8, 0..24_u8), 0..4), 0..3_usize),
            1..12,
        ),
    ) {
        let mut track = track();
        for (reply, tag, list, cut) in packets {
            let body = [1; 24];
            let list: Vec<(u8, u8, &[u8])> =
                list.iter().map(|&(kind, size)| (kind, size & 1, &body[..size.into()])).collect();
            let bytes = chunks(tag, &list);
            let bytes = &bytes[..bytes.len() - cut];
            let confirmed = track.entry.has(Status::CONFIRMED);
            let direction = if reply && confirmed { Reply } else { Original };
            let judgement = track.packet(direction, bytes);
            if !matches!(judgement, Judgement::Invalid(_)) {
                prop_assert!((1..9).contains(&track.entry.state), "a state that has a timeout");
            }
        }
    }
}
