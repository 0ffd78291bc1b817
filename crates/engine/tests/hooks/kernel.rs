//! Choices that the kernel made.

use std::net::IpAddr;

use ctkeeper_engine::Route;
use ctkeeper_engine::nat::Range;
use ctkeeper_engine::rules::{DestinationAction, Hook, Match, Rules, SourceAction};
use etherparse::PacketBuilder;

use crate::router::Router;

/// What Linux 6.18.44 chose for the same packets in the same order: source, destination, what the
/// translated one became, and whether the port was kept. Each client, at port 5000, speaks to
/// four servers; the rules are those of the test below. Chance decides only which port a moved one gets.
const CHOSEN: &str = include_str!("nat-6.18.44.txt");

#[test]
fn addresses_are_those_that_the_kernel_chose() {
    let range =
        |first: &str, last: &str| Range::between(first.parse().unwrap(), last.parse().unwrap());
    let to = |prefix: &str| Match::all().destination(prefix.parse().unwrap());
    let ten = range("203.0.113.1", "203.0.113.10");
    let rules = Rules::default()
        .with_source(to("192.0.2.0/24"), SourceAction::To(ten))
        .with_source(to("192.0.3.0/24"), SourceAction::To(ten.persistent()))
        .with_source(to("192.0.4.0/24"), SourceAction::To(range("203.0.0.7", "203.3.0.100")))
        .with_source(
            to("2001:db8:2::/64"),
            SourceAction::To(range("2001:db8:1::", "2001:db8:3::ff")),
        )
        .with_destination(
            to("192.0.5.0/24").at(Hook::Output),
            DestinationAction::To(range("10.9.0.1", "10.9.0.200")),
        );
    let mut router = Router::new(rules);
    for line in CHOSEN.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [source, destination, became, port] = words[..] else { panic!("{line}") };
        let (source, destination): (IpAddr, IpAddr) =
            (source.parse().unwrap(), destination.parse().unwrap());
        let builder = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
            }
            _ => panic!("{line}"),
        };
        let mut bytes = Vec::new();
        builder.udp(5000, 53).write(&mut bytes, b"x").unwrap();
        let (outcome, _) = router.send_by(Route::Output, &bytes, 0, 2);
        let reply = router.flow(&outcome).reply;
        let chosen = if reply.source == destination { reply.destination } else { reply.source };
        let kept = if reply.destination_port() == Some(5000) { "kept" } else { "moved" };
        assert_eq!((chosen.to_string().as_str(), kept), (became, port), "{line}");
    }
}
