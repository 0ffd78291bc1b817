//! How connections begin: handshakes, pick-up, and beginning anew.

use super::*;
use crate::track::tcp::window::side;

#[test]
fn a_handshake_is_assured_by_its_third_segment() {
    let mut scene = Scene::default();
    assert_eq!(scene.passes(Original, syn(1000)), 120);
    assert_eq!(scene.state(), TcpState::SynSent);
    assert_eq!(scene.passes(Reply, syn_ack(5000, 1001)), 60);
    assert_eq!(scene.state(), TcpState::SynRecv);
    assert!(!scene.is_assured());
    assert_eq!(scene.changes, Changes::PROTOCOL);
    assert_eq!(scene.passes(Original, ack(1001, 5001)), 432_000);
    assert_eq!(scene.state(), TcpState::Established);
    assert!(scene.is_assured());
    assert!(scene.changes.contains(Changes::ASSURED) && scene.changes.contains(Changes::PROTOCOL));
}

#[test]
fn later_segments_change_nothing_to_tell_of() {
    let mut scene = Scene::established();
    scene.passes(Original, data(1001, 5001, 100));
    assert!(scene.changes.is_empty());
}

#[test]
fn a_refused_combination_of_flags_begins_nothing() {
    for flags in [0, FIN, SYN | FIN, SYN | RST, SYN | ACK | RST, FIN | RST, SYN | ACK | FIN] {
        let mut scene = Scene::default();
        scene.refuses(Original, segment([1, 1], flags, 0), Reason::TcpFlags);
    }
}

#[test]
fn only_syn_and_ack_begin_a_connection() {
    for refused in [syn_ack(5000, 1001), fin(1000, 5000), reset(1000), reset_ack(1000, 1)] {
        Scene::default().refuses(Original, refused, Reason::TcpNew);
    }
}

#[test]
fn picking_up_can_be_off() {
    let mut scene = Scene::with(Settings { tcp_loose: false, ..Settings::default() });
    scene.refuses(Original, ack(1001, 5001), Reason::TcpNotLoose);
    scene.passes(Original, syn(1000));
}

#[test]
fn a_picked_up_connection_lives_300_s_until_answered() {
    let mut scene = Scene::default();
    assert_eq!(scene.passes(Original, data(1000, 5000, 10)), 300);
    assert_eq!(scene.state(), TcpState::Established);
    assert_eq!(scene.passes(Original, data(1010, 5000, 10)), 300);
    assert!(!scene.is_assured());
}

#[test]
fn a_picked_up_connection_is_assured_by_what_follows_the_answer() {
    let mut scene = Scene::default();
    scene.passes(Original, ack(1000, 5000));
    assert_eq!(scene.passes(Reply, ack(5000, 1000)), 300);
    assert!(!scene.is_assured());
    assert_eq!(scene.passes(Original, ack(1000, 5000)), 432_000);
    assert!(scene.is_assured());
}

#[test]
fn a_picked_up_connection_has_no_window() {
    let mut scene = Scene::default();
    scene.passes(Original, ack(1000, 5000));
    scene.passes(Reply, ack(5000, 1000));
    scene.passes(Original, data(3_000_000_000, 7, 1000));
    assert_eq!(scene.side(Original).end, 1000);
    scene.passes(Reply, data(2_000_000_000, 7, 1000));
    assert_eq!(scene.side(Reply).end, 5000);
    let expected = side::LIBERAL | side::SACK_PERMITTED;
    assert_eq!([Original, Reply].map(|of| scene.side(of).flags & expected), [expected; 2]);
}

#[test]
fn a_syn_sent_again_does_not_prolong() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.wait(50);
    scene.passes_by(Original, syn(1000));
    assert_eq!(scene.seconds_left(), 70);
}

#[test]
fn a_syn_with_higher_numbers_begins_the_window_anew() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes_by(Original, syn(90_000));
    scene.passes(Reply, syn_ack(5000, 90_001));
    scene.passes(Original, ack(90_001, 5001));
    assert!(scene.is_assured());
}

#[test]
fn a_syn_that_begins_anew_offers_anew() {
    let mut scene = Scene::default();
    scene.passes(Original, Segment { options: &SCALE_7_AND_SACK, ..syn(1000) });
    scene.passes_by(Original, syn(50_000));
    assert_eq!(scene.side(Original).scale, 7, "without any options those before count");
    scene.passes_by(Original, Segment { options: &[3, 3, 2], ..syn(90_000) });
    assert_eq!(scene.side(Original).scale, 2);
    assert!(!scene.side(Original).has(side::SACK_PERMITTED));
}

#[test]
fn only_an_opening_connection_begins_its_window_anew() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.send(Reply, syn(5000));
    assert_eq!(scene.state(), TcpState::SynSent2);
    scene.passes_by(Reply, syn(9000));
}

#[test]
fn a_syn_from_the_other_side_begins_its_window_anew_unjudged() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.refuses(Reply, reset_ack(3000, 9000), Reason::TcpAckAbove);
    scene.send(Reply, syn(5000));
    assert_eq!(scene.state(), TcpState::SynSent2);
    assert_eq!(scene.side(Reply).end, 5001);
    assert_eq!(scene.side(Original).max_end, 1001, "nothing is acknowledged by it");
}

#[test]
fn scales_count_only_if_both_offer_them() {
    let both = Scene::established_with(&SCALE_7_AND_SACK, &[3, 3, 2]);
    assert_eq!([both.side(Original).scale, both.side(Reply).scale], [7, 2]);
    let one = Scene::established_with(&SCALE_7_AND_SACK, &SACK_PERMITTED);
    assert_eq!([one.side(Original).scale, one.side(Reply).scale], [0, 0]);
    let other = Scene::established_with(&SACK_PERMITTED, &SCALE_7_AND_SACK);
    assert_eq!([other.side(Original).scale, other.side(Reply).scale], [0, 0]);
}

#[test]
fn both_sides_may_open_at_once() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    assert_eq!(scene.send(Reply, syn(5000)), Judgement::Ignore, "a SYN while unanswered");
    assert_eq!(scene.state(), TcpState::SynSent2);
    assert_eq!(scene.changes, Changes::PROTOCOL);
    assert_eq!(scene.passes(Reply, syn(5000)), 120);
    scene.passes(Reply, syn_ack(5000, 1001));
    assert_eq!(scene.state(), TcpState::SynRecv);
    scene.passes(Original, syn_ack(1000, 5001));
    assert_eq!(scene.state(), TcpState::SynRecv);
    scene.passes(Reply, ack(5001, 1001));
    assert_eq!(scene.state(), TcpState::Established);
    assert!(scene.is_assured());
}

#[test]
fn without_simultaneous_open_the_answering_ack_establishes_nothing() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    scene.passes(Reply, ack(5001, 1001));
    assert_eq!(scene.state(), TcpState::SynRecv);
}

#[test]
fn the_opener_cannot_acknowledge_before_it_is_answered() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    for refused in [ack(1001, 5001), fin(1001, 5001), syn_ack(1000, 5001)] {
        scene.refuses(Original, refused, Reason::TcpState);
    }
}

#[test]
fn a_syn_of_the_other_side_has_no_place_later() {
    let mut scene = Scene::established();
    scene.refuses(Reply, syn(9000), Reason::TcpState);
}

#[test]
fn an_answer_sent_again_passes_by() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    scene.passes_by(Reply, syn_ack(5000, 1001));
    scene.passes(Original, ack(1001, 5001));
    scene.passes_by(Reply, syn_ack(5000, 1001));
}

#[test]
fn the_ends_may_know_better_than_the_record() {
    let mut scene = Scene::established();
    scene.passes_by(Original, Segment { options: &SCALE_7_AND_SACK, ..syn(700_000) });
    scene.passes(Reply, Segment { options: &SCALE_7_AND_SACK, ..syn_ack(900_000, 700_001) });
    assert_eq!(scene.state(), TcpState::SynRecv);
    assert!(scene.changes.contains(Changes::PROTOCOL));
    assert_eq!([scene.side(Original).scale, scene.side(Reply).scale], [7, 7]);
    assert!(scene.side(Original).has(side::SACK_PERMITTED));
    scene.passes(Original, ack(700_001, 900_001));
    assert_eq!(scene.state(), TcpState::Established);
    scene.passes_by(Original, ack(1001, 5001));
}

#[test]
fn what_is_believed_again_is_believed_whole() {
    let mut scene = Scene::established();
    let before = 4_000_000_000;
    scene.passes_by(Original, Segment { window: 5000, ..syn(before) });
    scene.passes(Reply, Segment { window: 10, ..syn_ack(900_000, before + 1) });
    let original = scene.side(Original);
    assert_eq!((original.end, original.max_end), (before + 1, before + 11));
    assert_eq!((original.max_window, original.max_ack), (5000, 5001));
}

#[test]
fn beginning_anew_is_told_of_even_while_opening() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    scene.passes_by(Original, syn(1000));
    scene.passes(Reply, syn_ack(5000, 1001));
    assert_eq!(scene.state(), TcpState::SynRecv);
    assert_eq!(scene.changes, Changes::PROTOCOL);
}

#[test]
fn an_answer_to_something_else_is_no_new_beginning() {
    let mut scene = Scene::established();
    scene.passes_by(Original, syn(700_000));
    scene.passes_by(Reply, syn_ack(900_000, 700_002));
    scene.passes(Original, ack(1001, 5001));
    assert_eq!(scene.state(), TcpState::Established);
}

#[test]
fn a_connection_that_was_closed_is_opened_again() {
    let mut scene = Scene::established();
    scene.passes(Original, fin(1001, 5001));
    scene.passes(Reply, fin(5001, 1002));
    scene.passes(Original, ack(1002, 5002));
    assert_eq!(scene.state(), TcpState::TimeWait);
    assert_eq!(scene.clone().send(Original, syn(50_000)), Judgement::Repeat);
    assert_eq!(scene.send(Reply, syn(50_000)), Judgement::Repeat);
}

#[test]
fn whoever_closed_it_first() {
    let mut scene = Scene::established();
    scene.passes(Reply, fin(5001, 1001));
    scene.passes(Original, fin(1001, 5002));
    scene.passes(Reply, ack(5002, 1002));
    assert_eq!(scene.send(Original, syn(50_000)), Judgement::Repeat);
}

#[test]
fn a_connection_that_was_reset_is_opened_again_by_who_reset_it() {
    let mut scene = Scene::established();
    scene.passes(Original, reset(1001));
    assert_eq!(scene.state(), TcpState::Close);
    assert_eq!(scene.send(Original, syn(50_000)), Judgement::Repeat);
}

#[test]
fn a_connection_that_the_other_side_reset_is_not() {
    let mut scene = Scene::established();
    scene.passes(Reply, reset(5001));
    assert_eq!(scene.state(), TcpState::Close);
    scene.passes_by(Original, syn(50_000));
    scene.refuses(Reply, syn(50_000), Reason::TcpState);
}

#[test]
fn an_ack_to_a_syn_passes_and_its_reset_closes() {
    let mut scene = Scene::default();
    scene.passes(Original, syn(1000));
    scene.passes_by(Reply, ack(7_000_000, 3_000_000));
    scene.refuses(Original, reset(3_000_001), Reason::TcpSequenceAbove);
    assert_eq!(scene.passes(Original, reset(3_000_000)), 10);
    assert_eq!(scene.state(), TcpState::Close);
}

#[test]
fn data_in_the_syn_counts() {
    let mut scene = Scene::default();
    scene.passes(Original, segment([1000, 0], SYN, 500));
    assert_eq!(scene.side(Original).end, 1501);
    scene.passes(Reply, syn_ack(5000, 1501));
    scene.passes(Original, ack(1501, 5001));
}

#[test]
fn a_window_of_zero_counts_as_one() {
    let mut scene = Scene::default();
    scene.passes(Original, Segment { window: 0, ..syn(1000) });
    assert_eq!(scene.side(Original).max_window, 1);
    assert_eq!(scene.side(Reply).max_end, 1);
    let mut scene = Scene::default();
    scene.passes(Original, Segment { window: 0, ..ack(1000, 1) });
    assert_eq!((scene.side(Original).max_window, scene.side(Original).max_end), (1, 1001));
    assert_eq!(scene.side(Reply).end, 0);
}
