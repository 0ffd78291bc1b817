//! What is inside the window. Both sides announced [`WINDOW`] bytes.

use super::*;
use crate::track::tcp::window::side;

const W: u32 = WINDOW as u32;

#[test]
fn the_upper_edge_is_the_window_announced() {
    let at = |sequence| Scene::established().send(Original, ack(sequence, 5001));
    assert!(matches!(at(1001 + W), Judgement::Refresh(_)));
    assert_eq!(at(1001 + W + 1), Judgement::Ignore);
    assert_eq!(at(1001 + W + W - 1), Judgement::Ignore);
    assert_eq!(at(1001 + W + W), Judgement::Invalid(Reason::TcpSequenceAbove));
}

#[test]
fn a_segment_that_overshoots_passes_by_and_may_be_acknowledged() {
    let mut scene = Scene::established();
    scene.passes_by(Original, data(1001 + W + 1, 5001, 100));
    assert!(scene.side(Original).has(side::UNACKNOWLEDGED));
    scene.passes(Reply, ack(5001, 1001 + W + 101));
}

#[test]
fn nothing_unsent_can_be_acknowledged() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 100));
    scene.passes(Reply, ack(5001, 1101));
    scene.refuses(Reply, ack(5001, 1102), Reason::TcpAckAbove);
}

#[test]
fn an_old_segment_passes_by() {
    let mut scene = Scene::established();
    for part in 0..4 {
        scene.passes(Original, data(1001 + part * W, 5001, W));
        scene.passes(Reply, ack(5001, 1001 + part * W + W));
    }
    let end = 1001 + 4 * W;
    scene.passes(Original, ack(end - W, 5001));
    scene.passes_by(Original, ack(end - W - 1, 5001));
}

#[test]
fn an_acknowledgement_may_lag_by_66000() {
    let mut scene = Scene::established();
    for part in 0..20 {
        scene.passes(Reply, data(5001 + part * W, 1001, W));
        scene.passes(Original, ack(1001, 5001 + part * W + W));
    }
    let end = 5001 + 20 * W;
    scene.passes(Original, ack(1001, end - 66_000));
    scene.passes_by(Original, ack(1001, end - 66_001));
}

#[test]
fn a_larger_window_lets_acknowledgements_lag_further() {
    let mut scene = Scene::established_with(&SCALE_7_AND_SACK, &SCALE_7_AND_SACK);
    let mut end = 5001;
    for _ in 0..200 {
        scene.passes(Reply, data(end, 1001, W));
        end += W;
        scene.passes(Original, ack(1001, end));
    }
    scene.passes(Original, ack(1001, end - (W << 7)));
    scene.passes_by(Original, ack(1001, end - (W << 7) - 1));
}

#[test]
fn a_window_is_scaled_but_for_syns() {
    let mut scene = Scene::established_with(&SCALE_7_AND_SACK, &SCALE_7_AND_SACK);
    assert_eq!(scene.side(Reply).max_window, W);
    assert_eq!(scene.side(Original).max_window, W << 7);
    scene.passes(Reply, data(5001 + (W << 7), 1001, 10));
    scene.passes(Reply, ack(5001, 1001));
    scene.passes(Original, data(1001 + (W << 7), 5001, 10));
}

#[test]
fn selective_acknowledgements_count_for_whom_they_are_permitted() {
    let mut options = vec![1, 1, 5, 10];
    options.extend([2000_u32, 2100].iter().flat_map(|edge| edge.to_be_bytes()));
    let sack =
        |sequence, acknowledgement| Segment { options: &options, ..ack(sequence, acknowledgement) };
    let mut permitted = Scene::established_with(&SACK_PERMITTED, &SACK_PERMITTED);
    permitted.refuses(Reply, sack(5001, 1001), Reason::TcpAckAbove);
    permitted.passes(Original, data(2000, 5001, 100));
    permitted.passes(Reply, sack(5001, 1001));
    assert_eq!(permitted.side(Reply).max_window, W + 1099);
    assert_eq!(permitted.side(Original).max_end, 2100 + W);

    let mut forbidden = Scene::established();
    forbidden.passes(Reply, sack(5001, 1001));
    assert_eq!(forbidden.side(Original).max_end, 1001 + W);
}

#[test]
fn a_closed_window_lets_one_byte_through() {
    let mut scene = Scene::established();
    let closed = Segment { window: 0, ..ack(5001, 1001 + W) };
    scene.passes(Original, data(1001, 5001, W));
    scene.passes(Reply, closed);
    assert_eq!(scene.side(Original).max_end, 1001 + W + 1);
    scene.passes(Original, data(1001 + W, 5001, 1));
}

#[test]
fn data_beyond_the_edge_widens_what_the_receiver_takes() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001 + W - 10, 5001, 100));
    assert_eq!(scene.side(Reply).max_window, W + 90);
}

#[test]
fn a_liberal_namespace_refuses_nothing_and_learns_nothing() {
    let mut scene = Scene::established();
    scene.settings.tcp_be_liberal = true;
    scene.passes(Original, data(3_000_000, 5001, 10));
    scene.passes(Reply, ack(5001, 3_000_010));
    assert_eq!(scene.side(Original).end, 1001);
    scene.passes(Original, fin(4_000_000, 1));
    assert_eq!(scene.state(), TcpState::FinWait);
}

#[test]
fn an_answering_side_seen_first_midway_is_believed() {
    let mut scene = Scene::default();
    scene.passes(Original, ack(1000, 5000));
    scene.passes(Reply, data(5000, 1000, 50));
    let reply = scene.side(Reply);
    assert_eq!((reply.end, reply.max_window, reply.max_end), (5050, W, 5050 + W));
}

#[test]
fn a_record_without_windows_learns_them() {
    let acknowledgement = 0_u32.wrapping_sub(5000);
    for (scale, window, max_window) in [(0, 0, 1), (2, 100, 400)] {
        let mut scene = Scene::default();
        scene.entry.set(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED);
        scene.entry.state = TcpState::Established.number();
        scene.window.seen[0].scale = scale;
        scene.passes(Original, Segment { window, ..data(3_000_000_000, acknowledgement, 10) });
        let (original, reply) = (scene.side(Original), scene.side(Reply));
        assert_eq!((original.end, original.max_window), (3_000_000_010, max_window));
        assert_eq!(original.max_end, 3_000_000_010 + max_window);
        assert_eq!(reply.end, acknowledgement);
        assert_eq!(reply.max_end, acknowledgement + max_window);
    }
}

#[test]
fn the_answer_to_a_keepalive_moves_the_edge_by_one() {
    let mut scene = Scene::default();
    scene.passes(Original, ack(999, 5000));
    scene.passes(Reply, ack(5000, 1000));
    assert_eq!(scene.side(Original).end, 1000);
}

#[test]
fn shifted_numbers_are_taken_back() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 100));
    scene.refuses(Reply, ack(5001, 1106), Reason::TcpAckAbove);
    scene.shift = 5;
    scene.passes(Reply, ack(5001, 1106));
    assert_eq!(scene.side(Reply).max_ack, 1101);
    scene.passes(Original, data(1101, 5006, 100));
    scene.shift = -8;
    scene.passes(Reply, ack(5001, 1193));
    assert_eq!(scene.side(Reply).max_ack, 1201);
}

#[test]
fn windows_wrap_round() {
    let first = 0_u32.wrapping_sub(50);
    let mut scene = Scene::default();
    scene.passes(Original, syn(first));
    scene.passes(Reply, syn_ack(first, first.wrapping_add(1)));
    scene.passes(Original, ack(first.wrapping_add(1), first.wrapping_add(1)));
    scene.passes(Original, data(first.wrapping_add(1), first.wrapping_add(1), 100));
    scene.passes(Reply, ack(first.wrapping_add(1), 51));
    scene.passes(Original, data(51, first.wrapping_add(1), 10));
    assert_eq!(scene.side(Original).end, 61);
    scene.refuses(Reply, ack(first.wrapping_add(1), 62), Reason::TcpAckAbove);
}
