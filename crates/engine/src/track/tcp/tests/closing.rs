//! How connections close.

use super::*;
use crate::track::tcp::window::side;

#[test]
fn a_close_from_both_sides_ends_in_time_wait() {
    let mut scene = Scene::established();
    assert_eq!(scene.passes(Original, fin(1001, 5001)), 120);
    assert_eq!(scene.state(), TcpState::FinWait);
    assert!(scene.side(Original).has(side::CLOSE_BEGUN));
    assert_eq!(scene.passes(Reply, ack(5001, 1002)), 60);
    assert_eq!(scene.state(), TcpState::CloseWait);
    assert_eq!(scene.passes(Reply, fin(5001, 1002)), 30);
    assert_eq!(scene.state(), TcpState::LastAck);
    assert!(!scene.side(Reply).has(side::CLOSE_BEGUN));
    assert_eq!(scene.passes(Original, ack(1002, 5002)), 120);
    assert_eq!(scene.state(), TcpState::TimeWait);
}

#[test]
fn the_answering_side_may_close_first() {
    let mut scene = Scene::established();
    scene.passes(Reply, fin(5001, 1001));
    assert!(scene.side(Reply).has(side::CLOSE_BEGUN));
    assert!(!scene.side(Original).has(side::CLOSE_BEGUN));
    scene.passes(Original, fin(1001, 5002));
    scene.passes(Reply, ack(5002, 1002));
    assert_eq!(scene.state(), TcpState::TimeWait);
}

#[test]
fn the_opener_may_close_before_it_acknowledges() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    scene.passes(Original, fin(1001, 5001));
    assert_eq!(scene.state(), TcpState::FinWait);
    assert!(!scene.is_assured());
}

#[test]
fn repeated_closes_stay_where_they_are() {
    let mut scene = Scene::established();
    scene.passes(Original, fin(1001, 5001));
    scene.passes(Reply, fin(5001, 1002));
    scene.passes(Reply, fin(5001, 1002));
    assert_eq!(scene.state(), TcpState::LastAck);
    scene.passes(Original, ack(1002, 5002));
    scene.passes(Reply, fin(5001, 1002));
    scene.passes(Original, ack(1002, 5002));
    assert_eq!(scene.state(), TcpState::TimeWait);
}

/// A connection whose last acknowledgement is missing, and a SYN from the side that closes.
fn syn_in_last_ack() -> Scene {
    let mut scene = Scene::established();
    scene.passes(Original, fin(1001, 5001));
    scene.passes(Reply, fin(5001, 1002));
    assert_eq!(scene.state(), TcpState::LastAck);
    scene.passes_by(Original, syn(50_000));
    scene
}

#[test]
fn a_challenge_is_not_taken_for_the_last_acknowledgement() {
    let mut scene = syn_in_last_ack();
    scene.passes_by(Reply, ack(5002, 1002));
    assert_eq!(scene.state(), TcpState::LastAck);
    assert_eq!(scene.window.last_flags & side::CHALLENGE, 0);
}

#[test]
fn only_one_challenge_is_expected() {
    let mut scene = syn_in_last_ack();
    scene.passes_by(Reply, ack(5002, 1002));
    scene.passes(Reply, ack(5002, 1002));
    assert_eq!(scene.state(), TcpState::TimeWait);
}

#[test]
fn the_syn_s_own_side_does_not_challenge() {
    let mut scene = syn_in_last_ack();
    scene.passes(Original, ack(1002, 5002));
    assert_eq!(scene.state(), TcpState::TimeWait);
}

#[test]
fn no_challenge_is_expected_in_other_states() {
    let mut scene = Scene::established();
    scene.passes(Original, fin(1001, 5001));
    scene.passes_by(Original, syn(50_000));
    assert_eq!(scene.window.last_flags, 0);
    scene.passes(Reply, ack(5001, 1002));
    assert_eq!(scene.state(), TcpState::CloseWait);
}

/// Closed by both sides outside the window, one after the other.
fn closed_outside(first: Segment<'_>, second: Segment<'_>) -> Scene {
    let mut scene = Scene::established();
    scene.refuses(Original, first, Reason::TcpSequenceAbove);
    scene.refuses(Reply, second, Reason::TcpSequenceAbove);
    scene
}

#[test]
fn closes_outside_the_window_from_both_sides_lower_the_deadline() {
    assert_eq!(closed_outside(fin(901_001, 5001), fin(905_001, 1001)).seconds_left(), 300);
}

#[test]
fn two_from_the_same_side_do_not() {
    let mut scene = Scene::established();
    scene.refuses(Original, fin(901_001, 5001), Reason::TcpSequenceAbove);
    scene.refuses(Original, fin(901_001, 5001), Reason::TcpSequenceAbove);
    assert_eq!(scene.seconds_left(), 432_000);
}

#[test]
fn other_segments_outside_do_not() {
    let outside = closed_outside(ack(901_001, 5001), fin(905_001, 1001));
    assert_eq!(outside.seconds_left(), 432_000);
    let outside = closed_outside(fin(901_001, 5001), ack(905_001, 1001));
    assert_eq!(outside.seconds_left(), 432_000);
}

#[test]
fn a_deadline_that_is_near_stays() {
    let near = |left: u32, lowered| {
        let mut scene = Scene::established();
        scene.refuses(Original, fin(901_001, 5001), Reason::TcpSequenceAbove);
        scene.settings.timeouts.tcp[11] = lowered;
        scene.wait(432_000 - left);
        scene.refuses(Reply, fin(905_001, 1001), Reason::TcpSequenceAbove);
        scene.seconds_left()
    };
    assert_eq!([near(119, 50), near(120, 50), near(121, 50)], [119, 50, 50]);
    assert_eq!([near(500, 499), near(500, 500), near(500, 600)], [499, 500, 500]);
}

#[test]
fn only_assured_connections_without_a_fixed_timeout_are_lowered() {
    for (unset, set) in [(Status::ASSURED.0, 0), (0, Status::FIXED_TIMEOUT.0)] {
        let mut scene = Scene::established();
        scene.entry.status = scene.entry.status & !unset | set;
        scene.refuses(Original, fin(901_001, 5001), Reason::TcpSequenceAbove);
        scene.refuses(Reply, fin(905_001, 1001), Reason::TcpSequenceAbove);
        assert_eq!(scene.seconds_left(), 432_000);
    }
}

#[test]
fn resets_outside_lower_it_likewise() {
    let acknowledging_too_much = reset_ack(5001, 900_000);
    let mut scene = Scene::established();
    scene.refuses(Original, fin(901_001, 5001), Reason::TcpSequenceAbove);
    scene.refuses(Reply, acknowledging_too_much, Reason::TcpAckAbove);
    assert_eq!(scene.seconds_left(), 300);
}
