//! Which resets are believed.

use super::*;

#[test]
fn a_reset_before_any_answer_ends_the_connection() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    assert_eq!(scene.clone().send(Reply, reset_ack(0, 1001)), Judgement::End);
    assert_eq!(scene.send(Original, reset(1001)), Judgement::End);
}

#[test]
fn a_reset_that_answers_a_syn_must_acknowledge_it() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.refuses(Reply, reset_ack(0, 1003), Reason::TcpAckAbove);
}

#[test]
fn an_exact_reset_closes() {
    let mut scene = Scene::established();
    assert_eq!(scene.passes(Original, reset(1001)), 10);
    assert_eq!(scene.state(), TcpState::Close);
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 500));
    scene.passes(Reply, ack(5001, 1501));
    assert_eq!(scene.passes(Original, reset_ack(1501, 5001)), 10);
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn a_reset_behind_ones_own_data_closes() {
    let mut scene = Scene::established();
    scene.passes(Reply, ack(5001, 1001));
    scene.passes(Original, data(1001, 5001, 500));
    scene.passes(Original, reset(1501));
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn a_reset_behind_anothers_data_does_not() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 500));
    scene.passes(Reply, data(5001, 1001, 100));
    scene.passes(Original, reset(1501));
    assert_eq!(scene.state(), TcpState::Established);
}

#[test]
fn not_even_where_both_count_alike() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(1000, 1001));
    scene.passes(Original, ack(1001, 1001));
    scene.passes(Original, data(1001, 1001, 500));
    scene.passes(Reply, reset(1501));
    assert_eq!(scene.state(), TcpState::Established);
}

#[test]
fn an_old_reset_is_refused() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 500));
    scene.passes(Reply, ack(5001, 1501));
    scene.refuses(Original, reset(1500), Reason::TcpResetOld);
    scene.refuses(Original, reset(0), Reason::TcpResetOld);
}

#[test]
fn an_old_reset_passes_where_that_is_set() {
    let mut scene = Scene::established();
    scene.settings.tcp_ignore_invalid_rst = true;
    scene.passes(Original, data(1001, 5001, 500));
    scene.passes(Reply, ack(5001, 1501));
    scene.passes(Original, reset(1500));
    assert_eq!(scene.state(), TcpState::Established);
}

#[test]
fn a_reset_beyond_the_window_is_refused() {
    let mut scene = Scene::established();
    scene.refuses(Original, reset(901_001), Reason::TcpSequenceAbove);
}

#[test]
fn before_it_is_assured_a_reset_need_not_be_exact() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    assert_eq!(scene.passes(Original, reset(1500)), 10);
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn before_it_is_assured_a_reset_at_zero_is_held_to_the_window() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    scene.refuses(Reply, reset_ack(0, 3000), Reason::TcpAckAbove);
    let mut other = scene.clone();
    scene.passes(Reply, reset_ack(0, 1001));
    assert_eq!(scene.state(), TcpState::Close);
    other.passes(Original, reset(0));
    assert_eq!(other.state(), TcpState::Close, "although 1001 is acknowledged");
}

#[test]
fn what_was_picked_up_is_not_exact_before_it_is_assured() {
    let mut scene = Scene::default();
    scene.passes(Original, ack(1000, 5000));
    scene.passes(Reply, ack(5000, 1000));
    scene.passes(Original, reset(1500));
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn a_closing_connection_believes_any_reset() {
    let mut scene = Scene::established();
    scene.passes(Original, fin(1001, 5001));
    assert_eq!(scene.passes(Reply, reset_ack(900_000, 900_000)), 10);
    assert_eq!(scene.state(), TcpState::Close);
    assert_eq!(scene.passes(Original, reset(77)), 10);
}

#[test]
fn the_answer_to_a_syn_that_passed_closes() {
    let mut scene = Scene::established();
    scene.passes_by(Original, syn(700_000));
    scene.passes(Reply, reset_ack(0, 700_001));
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn the_answer_to_another_syn_is_held_to_the_window() {
    let mut scene = Scene::established();
    scene.passes_by(Original, syn(700_000));
    scene.refuses(Reply, reset_ack(0, 700_002), Reason::TcpAckAbove);
}

#[test]
fn who_sent_the_syn_does_not_answer_it() {
    let mut scene = Scene::established();
    scene.passes_by(Original, syn(700_000));
    scene.refuses(Original, reset_ack(1001, 700_001), Reason::TcpAckAbove);
}

#[test]
fn before_any_answer_no_syn_has_been_let_through() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.refuses(Reply, reset_ack(3000, 9000), Reason::TcpAckAbove);
    scene.refuses(Reply, reset_ack(2_000_000_000, 0), Reason::TcpSequenceAbove);
}

#[test]
fn an_assured_connection_s_own_ack_is_no_excuse() {
    let mut scene = Scene::established();
    scene.passes_by(Original, syn(700_000));
    scene.passes(Reply, syn_ack(900_000, 700_001));
    scene.passes(Reply, ack(900_001, 700_001));
    assert!(scene.is_assured());
    scene.refuses(Reply, reset_ack(900_001, 900_001), Reason::TcpAckAbove);
}

#[test]
fn a_picked_up_connection_ends_with_the_answer_to_its_ack() {
    let mut scene = Scene::default();
    scene.passes(Original, ack(1000, 5000));
    assert_eq!(scene.send(Reply, reset_ack(77, 1000)), Judgement::End);
}

#[test]
fn an_answered_connection_survives_as_closed() {
    let mut scene = Scene::default();
    scene.passes(Original, ack(1000, 5000));
    scene.passes(Reply, ack(5000, 1000));
    assert_eq!(scene.passes(Reply, reset_ack(5000, 1000)), 10);
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn a_broken_reset_that_acknowledges_zero_passes() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(3_000_000_000, 1001));
    scene.refuses(Original, reset_ack(1001, 1), Reason::TcpAckAbove);
    scene.passes(Original, reset_ack(1001, 0));
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn while_opening_a_reset_at_zero_stands_where_its_sender_does() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(4_000_000_000));
    assert_eq!(scene.send(Original, reset(0)), Judgement::End);
}

#[test]
fn nothing_is_too_old_before_the_other_side_has_a_window() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    assert_eq!(scene.send(Original, reset(500)), Judgement::End);
}
