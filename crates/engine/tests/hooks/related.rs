//! Helpers, what they announce, and the connections that are related then.

use ctkeeper_engine::helper::{Announcement, Ftp, Mask, Policy};
use ctkeeper_engine::rules::{FilterAction, Match, Rules};
use ctkeeper_engine::{Changes, Class, Engine, Outcome, Reason, Ticks, Tuple, Verdict};
use ctkeeper_flow::{ExpectationFlags, Mark, Status};

use crate::router::*;

const CONTROL: (End, End) = ((CLIENT, 40_000), (SERVER, 21));

/// A router whose FTP control connection is established.
fn with_ftp(helper: bool) -> (Router<Rules>, Outcome) {
    let mut router = Router::new(Rules::default());
    let number = router.engine.add_helper(Box::new(Ftp::default())).unwrap();
    let control = Match::all().protocol(6).destination_ports(21, 21);
    let mut rules = Rules::default()
        .with_tracked(control.clone().states([Class::New]), FilterAction::ConnectionMark(7));
    if helper {
        rules = rules.with_tracked(control, FilterAction::Helper(number));
    }
    router.rules = rules;
    let (client, server) = CONTROL;
    router.out(&tcp(client, server, Segment::Syn, 100, 0));
    router.back(&tcp(server, client, Segment::SynAck, 500, 101));
    let (outcome, _) = router.out(&tcp(client, server, Segment::Ack, 101, 501));
    assert_eq!(outcome.class, Class::Established);
    // The helper stays where no rule is asked any more.
    router.rules = Rules::default();
    // A helper must have seen a line's end to know where the next one begins.
    router.back(&tcp_with(server, client, Segment::Ack, (501, 101), GREETING));
    router.out(&tcp_with(client, server, Segment::Ack, (101, 501 + 5), LOGIN));
    (router, outcome)
}

const GREETING: &[u8] = b"220\r\n";
const LOGIN: &[u8] = b"USER\r\n";

fn say(router: &mut Router<Rules>, words: &str) -> Outcome {
    let (client, server) = CONTROL;
    router.out(&tcp_with(client, server, Segment::Ack, (107, 506), words.as_bytes())).0
}

fn answer(router: &mut Router<Rules>, words: &str) -> Outcome {
    let (client, server) = CONTROL;
    router.back(&tcp_with(server, client, Segment::Ack, (506, 107), words.as_bytes())).0
}

#[test]
fn a_data_connection_is_related_and_inherits_the_mark() {
    for (is_passive, words) in [
        (false, "PORT 10,0,0,1,31,64\r\n"),
        (true, "227 Entering Passive Mode (192,0,2,1,31,64)\r\n"),
    ] {
        let (mut router, control) = with_ftp(true);
        assert!(router.flow(&control).status.contains(Status::HELPER));
        assert_eq!(router.flow(&control).helper.unwrap().name.as_ref(), "ftp");
        let said = if is_passive { answer(&mut router, words) } else { say(&mut router, words) };
        assert_eq!(said.verdict, Verdict::Accept);
        let expected: Vec<_> = router.engine.expectations(router.now, 0).collect();
        assert_eq!(expected.len(), 1);
        assert_eq!(expected[0].expected.destination_port(), Some(8000));
        router.engine.events();
        let (from, to) = if is_passive {
            ((CLIENT, 40_001), (SERVER, 8000))
        } else {
            ((SERVER, 20), (CLIENT, 8000))
        };
        let (data, _) = router.out(&tcp(from, to, Segment::Syn, 1, 0));
        assert_eq!(data.class, Class::Related);
        let flow = router.flow(&data);
        assert!(flow.status.contains(Status::EXPECTED));
        assert_eq!(flow.mark, Some(Mark(7)));
        assert_eq!(*flow.master.unwrap(), router.flow(&control).original);
        let events = router.engine.events();
        assert_eq!(events.len(), 1);
        let changes = events[0].changes;
        assert!(changes.contains(Changes::RELATED) && !changes.contains(Changes::NEW));
        // The expectation is used up; packets are related until the other side answers.
        assert_eq!(router.engine.expectations(router.now, 0).count(), 0);
        let (data, _) = router.out(&tcp(from, to, Segment::Syn, 1, 0));
        assert_eq!(data.class, Class::Related);
        let (data, _) = router.back(&tcp(to, from, Segment::SynAck, 1, 2));
        assert_eq!(data.class, Class::Established);
    }
}

#[test]
fn without_helper_nothing_is_announced() {
    let (mut router, control) = with_ftp(false);
    assert_eq!(router.flow(&control).helper, None);
    say(&mut router, "PORT 10,0,0,1,31,64\r\n");
    assert_eq!(router.engine.expectations(router.now, 0).count(), 0);
    let (data, _) = router.out(&tcp((SERVER, 20), (CLIENT, 8000), Segment::Syn, 1, 0));
    assert_eq!(data.class, Class::New);
}

#[test]
fn expectations_end_with_their_master_and_with_time() {
    for dies in [false, true] {
        let (mut router, _) = with_ftp(true);
        say(&mut router, "PORT 10,0,0,1,31,64\r\n");
        let (client, server) = CONTROL;
        if dies {
            // A master that has ended for good: its entry is reopened by a new SYN.
            router.back(&tcp(server, client, Segment::Rst, 506, 107));
            router.wait(11);
            let (again, _) = router.out(&tcp(client, server, Segment::Syn, 9000, 0));
            assert_eq!(again.class, Class::New);
        } else {
            router.wait(301);
        }
        assert_eq!(router.engine.expectations(router.now, 0).count(), 0);
        let (data, _) = router.out(&tcp((SERVER, 20), (CLIENT, 8000), Segment::Syn, 1, 0));
        assert_eq!(data.class, Class::New);
    }
}

#[test]
fn half_a_command_is_dropped() {
    let (mut router, _) = with_ftp(true);
    let said = say(&mut router, "PORT 10,0,0,1,31");
    assert_eq!((said.verdict, said.reason), (Verdict::Drop, Some(Reason::Helper)));
}

#[test]
fn callers_may_expect_too() {
    let (mut router, _) = with_ftp(false);
    let (first, _) = router.out(&udp((CLIENT, 5060), (SERVER, 5060)));
    let master = first.connection.unwrap();
    let tuple = Tuple::from(router.flow(&first).reply);
    let announcement = Announcement {
        tuple: Tuple { destination_id: 9000, ..tuple },
        mask: Mask::ADDRESS,
        class: 0,
        flags: ExpectationFlags::default(),
        helper: 0,
    };
    let policy = Policy { maximum: 1, timeout: Ticks::from_seconds(5) };
    let id = router.engine.expect(router.now, master, announcement, policy);
    assert!(matches!(id, Ok(Some(_))), "{id:?}");
    let (media, _) = router.back(&udp((SERVER, 7777), (CLIENT, 9000)));
    assert_eq!(media.class, Class::Related);
}

#[test]
fn a_restored_engine_goes_on_reading() {
    let (mut router, control) = with_ftp(true);
    router.rules = router.rules.clone().with_address(2, [203, 0, 113, 1].into());
    router.rules = router
        .rules
        .clone()
        .with_source(Match::all().protocol(17), ctkeeper_engine::rules::SourceAction::masquerade());
    let packet = udp((CLIENT, 5060), (SERVER, 5060));
    router.out(&packet);
    router.engine = Engine::restore(&router.engine.image()).unwrap();
    router.engine.add_helper(Box::new(Ftp::default())).unwrap();
    say(&mut router, "PORT 10,0,0,1,31,64\r\n");
    assert_eq!(router.engine.expectations(router.now, 0).count(), 1);
    // Once more, with an expectation inside.
    router.engine = Engine::restore(&router.engine.image()).unwrap();
    router.engine.add_helper(Box::new(Ftp::default())).unwrap();
    let (data, _) = router.out(&tcp((SERVER, 20), (CLIENT, 8000), Segment::Syn, 1, 0));
    assert_eq!(data.class, Class::Related);
    // A masqueraded connection still knows its way out.
    let (outcome, sent) = router.out(&packet);
    assert!(outcome.is_accepted());
    assert_eq!(ends(&sent).0, (PUBLIC, 5060));
    let (outcome, _) = router.send(&packet, 1, 3);
    assert_eq!(outcome.reason, Some(Reason::Dying));
    assert_ne!(control.connection, None);
}
