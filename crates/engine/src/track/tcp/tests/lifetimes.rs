//! How long connections live on.

use super::*;
use crate::settings::Timeouts;

#[test]
fn unacknowledged_data_lives_300_s() {
    let mut scene = Scene::established();
    assert_eq!(scene.passes(Original, data(1001, 5001, 100)), 300);
    assert_eq!(scene.passes(Original, ack(1101, 5001)), 300);
    assert_eq!(scene.passes(Reply, ack(5001, 1101)), 432_000);
}

#[test]
fn data_acknowledged_in_part_stays_unacknowledged() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 100));
    assert_eq!(scene.passes(Reply, ack(5001, 1100)), 300);
}

#[test]
fn data_of_either_side_counts() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 100));
    assert_eq!(scene.passes(Reply, data(5001, 1101, 100)), 300);
    assert_eq!(scene.passes(Original, ack(1101, 5101)), 432_000);
}

#[test]
fn a_shorter_state_is_not_prolonged_by_what_is_unacknowledged() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 100));
    assert_eq!(scene.passes(Original, fin(1101, 5001)), 120);
}

#[test]
fn the_third_repetition_lowers_the_lifetime() {
    let mut scene = Scene::established();
    scene.settings.timeouts.tcp[10] = 200;
    let lives = [(); 5].map(|()| scene.passes(Original, data(1001, 5001, 100)));
    assert_eq!(lives, [300, 300, 300, 200, 200]);
    assert_eq!(scene.passes(Reply, ack(5001, 1101)), 432_000);
}

#[test]
fn how_many_repetitions_is_a_setting() {
    let mut scene = Scene::established();
    scene.settings.timeouts.tcp[10] = 200;
    scene.settings.tcp_max_retrans = 1;
    assert_eq!(scene.passes(Original, data(1001, 5001, 100)), 300);
    assert_eq!(scene.passes(Original, data(1001, 5001, 100)), 200);
}

#[test]
fn whatever_differs_is_no_repetition() {
    let mut scene = Scene::established();
    scene.settings.timeouts.tcp[10] = 200;
    for _ in 0..3 {
        assert_eq!(scene.passes(Original, data(1001, 5001, 100)), 300);
        let other = Segment { window: 7000, ..data(1001, 5001, 100) };
        assert_eq!(scene.passes(Original, other), 300);
    }
}

#[test]
fn the_same_numbers_from_the_other_side_are_no_repetition() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(1000, 1001));
    for _ in 0..5 {
        assert_eq!(scene.passes(Original, ack(1001, 1001)), 432_000);
        assert_eq!(scene.passes(Reply, ack(1001, 1001)), 432_000);
    }
}

#[test]
fn a_closed_window_lives_300_s() {
    let mut scene = Scene::established();
    assert_eq!(scene.passes(Reply, Segment { window: 0, ..ack(5001, 1001) }), 300);
    assert_eq!(scene.passes(Reply, ack(5001, 1001)), 432_000);
}

#[test]
fn settings_count() {
    let mut tcp = Timeouts::default().tcp;
    tcp[1..4].copy_from_slice(&[11, 12, 13]);
    let timeouts = Timeouts { tcp, ..Timeouts::default() };
    let mut scene = Scene::with(Settings { timeouts, ..Settings::default() });
    assert_eq!(scene.passes(Original, syn(1000)), 11);
    assert_eq!(scene.passes(Reply, syn_ack(5000, 1001)), 12);
    assert_eq!(scene.passes(Original, ack(1001, 5001)), 13);
}

#[test]
fn an_inexact_reset_leaves_300_s() {
    let mut scene = Scene { profile: Profile::Linux6_12, ..Scene::established() };
    assert_eq!(scene.passes(Original, reset(1500)), 300);
    assert_eq!(scene.state(), TcpState::Established);
}

#[test]
fn even_where_nothing_is_unacknowledged() {
    let mut scene = Scene { profile: Profile::Linux6_12, ..Scene::established() };
    scene.settings.tcp_be_liberal = true;
    assert_eq!(scene.passes(Original, reset(900_000_000)), 300);
    assert_eq!(scene.passes(Original, ack(1001, 5001)), 432_000);
}

#[test]
fn linux_6_1_and_6_18_let_any_reset_lower_the_lifetime() {
    for profile in [Profile::Linux6_1, Profile::Linux6_18] {
        let mut scene = Scene { profile, ..Scene::established() };
        assert_eq!(scene.passes(Original, reset(1500)), 10);
        assert_eq!(scene.state(), TcpState::Established);
        assert_eq!(scene.passes(Original, reset(1001)), 10);
        assert_eq!(scene.state(), TcpState::Close);
    }
}
