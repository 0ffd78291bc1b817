//! What holds whatever is sent.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ctkeeper_engine::nat::Range;
use ctkeeper_engine::rules::{DestinationAction, Match, Rules, SourceAction};
use ctkeeper_engine::{Config, Mode, Packet, Route};
use proptest::prelude::*;

use crate::router::*;

#[derive(Clone, Debug)]
struct Step {
    client: u8,
    port: u16,
    server: u8,
    kind: u8,
    seconds: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1u8..6, 1u16..6, 1u8..4, 0u8..6, 0u64..20).prop_map(
        |(client, port, server, kind, seconds)| Step {
            client,
            port: port * 400,
            server,
            kind,
            seconds,
        },
    );
    prop::collection::vec(step, 1..120)
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let public = Ipv4Addr::from(PUBLIC);
    let last = Ipv4Addr::new(203, 0, 113, 3);
    let range = Range::between(public.into(), last.into());
    let few = Range::to(public.into()).ports(7000, 7007);
    let inside = DestinationAction::To(Range::to(Ipv4Addr::from(OTHER).into()).ports(80, 81));
    let sources = prop::sample::select(vec![
        SourceAction::masquerade(),
        SourceAction::To(range),
        SourceAction::To(range.persistent()),
        SourceAction::To(few),
        SourceAction::To(few.random()),
    ]);
    (sources, any::<bool>(), any::<bool>()).prop_map(move |(source, inward, mapped)| {
        let mut rules = Rules::default().with_address(2, public.into()).with_nat(0);
        if mapped {
            rules = rules.with_source(Match::all().output(2), source);
        }
        if inward {
            let when = Match::all().destination("192.0.2.1".parse().unwrap());
            rules = rules.with_destination(when, inside);
        }
        rules
    })
}

proptest! {
    /// Whatever clients do: no two connections share a tuple, in any direction, and what is
    /// answered to what was sent comes to the client that sent it.
    #[test]
    fn tuples_are_unique_and_answers_find_home(rules in any_rules(), steps in steps(), is_exact: bool) {
        let mode = if is_exact { Mode::Exact } else { Mode::Fast };
        let mut router = Router::with(Config { mode, buckets: 64, limit: 1000, ..Config::default() }, rules);
        for step in steps {
            router.wait(step.seconds);
            let client = ([10, 0, 0, step.client], step.port);
            let server = ([192, 0, 2, step.server], 53);
            let packet = match step.kind {
                0 | 1 => udp(client, server),
                2 => tcp(client, server, Segment::Syn, 1, 0),
                3 => tcp(client, server, Segment::Ack, 1, 1),
                4 => echo(client.0, server.0, client.1, false),
                _ => udp((PUBLIC, step.port), server),
            };
            let (outcome, sent) = router.out(&packet);
            if outcome.is_accepted() && outcome.connection.is_some() && step.kind != 3 {
                let (seen, destination) = ends(&sent);
                let answer = match step.kind {
                    4 => echo(destination.0, seen.0, seen.1, true),
                    2 => tcp(destination, seen, Segment::SynAck, 1, 2),
                    _ => udp(destination, seen),
                };
                let (answered, got) = router.back(&answer);
                prop_assert_eq!(answered.connection, outcome.connection);
                let (from, to) = ends(&packet);
                prop_assert_eq!(ends(&got), (to, from));
            }
            let mut seen = HashSet::new();
            for flow in router.flows() {
                prop_assert!(seen.insert(flow.reply), "{:?} twice", flow.reply);
                let own = seen.insert(flow.original) || Some(flow.original) == flow.reply.inverted();
                prop_assert!(own, "{:?} twice", flow.original);
            }
        }
        let live = router.flows().len() as u32;
        prop_assert!(router.engine.count(0) >= live);
    }

    /// Whatever bytes come, by whatever way: what the engine lets through it can translate, and
    /// no connection is counted that is neither listed nor expired.
    #[test]
    fn any_bytes_can_be_sent(
        rules in any_rules(),
        packets in prop::collection::vec(
            (steps(), any::<prop::sample::Index>(), any::<u8>(), 0usize..80, 0u8..3), 1..20,
        ),
    ) {
        let mut router = Router::new(rules);
        for (steps, at, value, cut, route) in packets {
            for step in steps.into_iter().take(4) {
                let client = ([10, 0, 0, step.client], step.port);
                let server = ([192, 0, 2, step.server], 53);
                let mut bytes = match step.kind {
                    0 => udp(client, server),
                    1 => tcp(client, server, Segment::Syn, value.into(), 0),
                    2 => echo(client.0, server.0, client.1, false),
                    3 => unreachable(server.0, PUBLIC, &udp((PUBLIC, step.port), server)),
                    4 => tcp(server, (PUBLIC, step.port), Segment::Rst, 0, 1),
                    _ => udp(server, (PUBLIC, step.port)),
                };
                let at = at.index(bytes.len());
                bytes[at] = value;
                bytes.truncate(bytes.len().saturating_sub(cut / 8));
                let route = [Route::Forward, Route::Input, Route::Output][usize::from(route)];
                let packet = Packet { input: 1, output: 2, route, ..Packet::new(&bytes) };
                let outcome = router.engine.packet(router.now, &packet, &mut router.rules);
                let mut translated = bytes.clone();
                let changed = router.engine.translate(&outcome, &mut translated);
                prop_assert!(changed != Ok(false) || translated == bytes);
                prop_assert!(outcome.is_accepted() || changed == Ok(false));
            }
        }
        let listed = router.flows().len() as u32;
        prop_assert_eq!(router.engine.count(0), listed);
    }
}
