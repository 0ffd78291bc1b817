//! What an engine is built with and which rules it is asked to follow, as an input says.

use std::net::IpAddr;

use ctkeeper_engine::nat::Range;
use ctkeeper_engine::rules::{
    DestinationAction, FilterAction, Match, RawAction, Rules, SourceAction,
};
use ctkeeper_engine::tuple::protocol;
use ctkeeper_engine::{Config, Mode, Profile, Settings, Ticks};
use ctkeeper_flow::{Zone, ZoneDirection};

use crate::input::Input;

/// Namespaces of every scene.
pub(crate) const NAMESPACES: u16 = 2;

/// Interfaces that rules know.
pub(crate) const INSIDE: u32 = 1;
pub(crate) const OUTSIDE: u32 = 2;

pub(crate) struct Scene {
    pub(crate) config: Config,
    pub(crate) settings: [Settings; NAMESPACES as usize],
    pub(crate) rules: Rules,
    pub(crate) pairing: Pairing,
}

/// What the second engine does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// It keeps its table in the other mode.
    Modes,
    /// It takes its packets in batches.
    Batches,
}

impl Scene {
    pub(crate) fn read(input: &mut Input<'_>) -> Self {
        let pairing = input.choose(&[Pairing::Modes, Pairing::Batches]);
        let config = config(input);
        let settings = [settings(input), settings(input)];
        Self { config, settings, rules: rules(input), pairing }
    }
}

fn config(input: &mut Input<'_>) -> Config {
    let switches = input.byte();
    let limit = input.choose(&[48, 4, 8, 16, 0, 1]);
    Config {
        mode: if switches & 1 == 0 { Mode::Fast } else { Mode::Exact },
        profile: input.choose(&[Profile::Linux6_18, Profile::Linux6_12, Profile::Linux6_1]),
        limit,
        buckets: input.choose(&[16, 8, 32, 1]),
        capacity: if limit == 0 {
            24
        } else {
            u32::from(NAMESPACES) * limit - (u32::from(switches) >> 7)
        },
        expectations: if switches & 2 == 0 { 0 } else { 2 },
        seed: u64::from(switches >> 2),
        sweep: Ticks::from_seconds(input.choose(&[2, 1, 30])),
        events: true,
        coverage: switches & 4 != 0,
    }
}

fn settings(input: &mut Input<'_>) -> Settings {
    let switches = input.byte();
    let mut settings = Settings {
        tcp_loose: switches & 1 == 0,
        tcp_be_liberal: switches & 2 != 0,
        tcp_ignore_invalid_rst: switches & 4 != 0,
        tcp_max_retrans: if switches & 8 == 0 { 3 } else { 0 },
        checksum: switches & 16 == 0,
        accounting: switches & 32 != 0,
        timestamps: switches & 64 != 0,
        ..Settings::default()
    };
    if switches & 128 != 0 {
        odd_timeouts(input, &mut settings);
    }
    settings
}

/// Timeouts that nobody sets: none at all, or longer than ticks can tell.
fn odd_timeouts(input: &mut Input<'_>, settings: &mut Settings) {
    const ODD: [u32; 4] = [0, 1, u32::MAX, 20_000_000];
    let timeouts = &mut settings.timeouts;
    let scalars = [
        &mut timeouts.udp,
        &mut timeouts.udp_stream,
        &mut timeouts.icmp,
        &mut timeouts.icmpv6,
        &mut timeouts.generic,
        &mut timeouts.gre,
        &mut timeouts.gre_stream,
    ];
    let all = scalars.into_iter().chain(&mut timeouts.tcp).chain(&mut timeouts.sctp);
    let (mask, odd) = (input.long(), input.choose(&ODD));
    for (bit, timeout) in all.enumerate() {
        if mask >> bit & 1 != 0 {
            *timeout = odd;
        }
    }
}

fn rules(input: &mut Input<'_>) -> Rules {
    let parts = input.short();
    let has = |bit: u32| parts >> bit & 1 != 0;
    let mut rules = Rules::default()
        .with_address(INSIDE, IpAddr::from([10, 0, 0, 254]))
        .with_address(OUTSIDE, IpAddr::from([192, 0, 2, 1]))
        .with_address(OUTSIDE, IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
    if has(0) {
        rules = rules.with_nat(0).with_nat(1);
    }
    if has(1) {
        rules = rules.with_source(Match::all().output(OUTSIDE), SourceAction::masquerade());
    }
    if has(2) {
        let range = range(input);
        rules = rules.with_source(Match::all().namespace(0), SourceAction::To(range));
    }
    if has(3) {
        let range = range(input);
        rules = rules.with_destination(Match::all().input(OUTSIDE), DestinationAction::To(range));
    }
    if has(4) {
        let when = Match::all().protocol(protocol::TCP).destination_ports(80, 80);
        rules = rules.with_destination(when, DestinationAction::redirect(8080));
    }
    filters(input, rules, parts)
}

fn filters(input: &mut Input<'_>, mut rules: Rules, parts: u16) -> Rules {
    let has = |bit: u32| parts >> bit & 1 != 0;
    if has(5) {
        let direction =
            input.choose(&[ZoneDirection::Both, ZoneDirection::Original, ZoneDirection::Reply]);
        let zone = Zone { id: u16::from(input.byte()), direction };
        rules = rules.with_raw(Match::all().input(INSIDE), RawAction::Zone(zone));
    }
    if has(6) {
        rules = rules.with_raw(Match::all().protocol(protocol::UDPLITE), RawAction::Untracked);
    }
    if has(7) {
        rules = rules.with_raw(Match::all().protocol(50), RawAction::Drop);
    }
    if has(8) {
        let when = Match::all().protocol(protocol::TCP).destination_ports(25, 25);
        rules = rules.with_filter(when, FilterAction::Drop);
    }
    if has(9) {
        rules = rules
            .with_tracked(Match::all().input(INSIDE), FilterAction::ConnectionMark(7))
            .with_tracked(Match::all(), FilterAction::Label(3))
            .with_filter(Match::all(), FilterAction::RestoreMark);
    }
    if has(10) {
        let when = Match::all().protocol(protocol::TCP).destination_ports(21, 21);
        rules = rules.with_tracked(when, FilterAction::Helper(1));
    }
    rules
}

/// Some addresses and ports to translate to.
fn range(input: &mut Input<'_>) -> Range {
    let first = 1 + input.byte() % 4;
    let mut range = if input.rarely(4) {
        let address = |last: u8| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::from(last)]);
        Range::between(address(first), address(first + input.byte() % 4))
    } else {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        Range::between(address(first), address(first + input.byte() % 4))
    };
    let switches = input.byte();
    if switches & 1 != 0 {
        range = range.ports(1024, 1024 + u16::from(input.byte() % 8));
    }
    if switches & 2 != 0 {
        range = range.random();
    }
    if switches & 4 != 0 {
        range = range.persistent();
    }
    if switches & 8 != 0 {
        range.base_port = Some(1000);
    }
    if switches & 16 != 0 {
        range.addresses = None;
    }
    range
}
