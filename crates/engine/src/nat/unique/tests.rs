use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

/// A table of reply tuples, some of which give way.
#[derive(Default)]
struct Set {
    taken: HashSet<Tuple>,
    waiting: HashSet<Tuple>,
    /// Of a hundred tuples so many are taken beside those.
    share: u64,
    reversed: bool,
    mapped: Vec<(u128, u16)>,
    probes: u32,
    seen: Vec<Tuple>,
    draws: u64,
}

impl World for Set {
    fn is_taken(&mut self, reply: &Tuple) -> bool {
        self.probes += 1;
        self.seen.push(*reply);
        self.has(reply) || self.waiting.contains(reply)
    }

    fn is_the_same_reversed(&mut self, _: &Tuple) -> bool {
        self.reversed
    }

    fn is_taken_for_good(&mut self, reply: &Tuple) -> bool {
        self.probes += 1;
        self.waiting.remove(reply);
        self.has(reply)
    }

    fn mapped_source(&mut self, fits: impl Fn(u128, u16) -> bool) -> Option<(u128, u16)> {
        self.mapped.iter().copied().find(|(source, id)| fits(*source, *id))
    }

    fn draw(&mut self) -> u16 {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.draws >> 40) as u16
    }
}

impl Set {
    fn has(&self, reply: &Tuple) -> bool {
        let mixed = (reply.destination as u64 ^ u64::from(reply.destination_id) << 20)
            .wrapping_add(u64::from(reply.source_id))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) % 100 < self.share || self.taken.contains(reply)
    }

    fn take(&mut self, tuple: &Tuple) -> bool {
        self.taken.insert(tuple.inverted().unwrap())
    }
}

const CLIENT: u128 = 0x0a00_0001;
const SERVER: u128 = 0xc000_0201;
const PUBLIC: u128 = 0xcb00_7101;

fn tuple(protocol: u8, source: u128, source_id: u16) -> Tuple {
    let destination_id = if protocol == protocol::ICMP { u16::from_be_bytes([8, 0]) } else { 53 };
    Tuple { source, destination: SERVER, source_id, destination_id, protocol, family: Family::Ipv4 }
}

fn request(current: Tuple, range: &Range, end: End) -> Request<'_> {
    Request {
        current,
        range,
        end,
        zone: 0,
        profile: Profile::Linux6_12,
        is_expected: false,
        is_syn_sent: false,
    }
}

fn public() -> Range {
    Range { addresses: Some((PUBLIC, PUBLIC)), ..Range::default() }
}

#[test]
fn a_free_port_stays() {
    let range = public();
    let request = request(tuple(protocol::UDP, CLIENT, 40_000), &range, End::Source);
    assert_eq!(unique(&request, &mut Set::default()), tuple(protocol::UDP, PUBLIC, 40_000));
}

#[test]
fn the_mapping_of_another_connection_of_the_source_is_taken_over() {
    let range = public();
    let request = request(tuple(protocol::UDP, CLIENT, 40_000), &range, End::Source);
    let mut world =
        Set { mapped: vec![(PUBLIC + 1, 5), (PUBLIC, 7), (PUBLIC, 8)], ..Set::default() };
    assert_eq!(unique(&request, &mut world).source_id, 7);
    // Unless the tuple is taken: then the port is kept as without it.
    world.take(&tuple(protocol::UDP, PUBLIC, 7));
    assert_eq!(unique(&request, &mut world).source_id, 40_000);
}

#[test]
fn random_ranges_keep_neither_port_nor_mapping() {
    let range = public().random();
    let request = request(tuple(protocol::UDP, CLIENT, 40_000), &range, End::Source);
    let mut world = Set { mapped: vec![(PUBLIC, 7)], ..Set::default() };
    let found = unique(&request, &mut world).source_id;
    assert!(found != 40_000 && found != 7, "{found}");
}

#[test]
fn a_null_binding_moves_off_a_port_whose_reply_tuple_is_taken() {
    let current = tuple(protocol::TCP, CLIENT, 40_000);
    let range = Range { addresses: Some((CLIENT, CLIENT)), ..Range::default() };
    let mut world = Set::default();
    world.take(&current);
    let found = unique(&request(current, &range, End::Source), &mut world);
    assert_eq!(found.source, CLIENT);
    assert_ne!(found.source_id, 40_000);
    assert!(found.source_id >= 1024);
}

#[test]
fn a_reversed_clash_is_left_alone_where_clashes_can_be_settled() {
    let range = Range { addresses: Some((CLIENT, CLIENT)), ..Range::default() };
    for (protocol, profile, stays) in [
        (protocol::UDP, Profile::Linux6_12, true),
        (protocol::UDP, Profile::Linux6_1, false),
        (protocol::TCP, Profile::Linux6_12, false),
    ] {
        let current = tuple(protocol, CLIENT, 40_000);
        let mut world = Set { reversed: true, ..Set::default() };
        world.take(&current);
        let request = Request { profile, ..request(current, &range, End::Source) };
        assert_eq!(unique(&request, &mut world) == current, stays, "{protocol} {profile:?}");
    }
}

#[test]
fn privileged_ports_stay_privileged() {
    for (port, ports) in
        [(22, 1..=511), (512, 600..=1023), (1023, 600..=1023), (1024, 1024..=65_535)]
    {
        let mut world = Set::default();
        world.take(&tuple(protocol::TCP, PUBLIC, port));
        let range = public();
        let found =
            unique(&request(tuple(protocol::TCP, CLIENT, port), &range, End::Source), &mut world);
        assert!(ports.contains(&found.source_id) && found.source_id != port, "{port}: {found:?}");
    }
}

#[test]
fn a_destination_without_ports_given_keeps_its_port_even_when_taken() {
    let range = Range { addresses: Some((CLIENT, CLIENT)), ..Range::default() };
    let current = tuple(protocol::TCP, PUBLIC, 40_000);
    let mut world = Set::default();
    world.take(&Tuple { destination: CLIENT, ..current });
    let found = unique(&request(current, &range, End::Destination), &mut world);
    assert_eq!((found.destination, found.destination_id), (CLIENT, 53));
    assert_eq!(world.probes, 1);
}

#[test]
fn the_search_of_a_destination_begins_at_the_first_port_since_6_12() {
    let range = Range { addresses: Some((CLIENT, CLIENT)), ..Range::default() }.ports(8000, 8999);
    let current = tuple(protocol::TCP, PUBLIC, 40_000);
    let found = |profile, draws| {
        let request = Request { profile, ..request(current, &range, End::Destination) };
        unique(&request, &mut Set { draws, ..Set::default() }).destination_id
    };
    let draws = [1 << 40, 1 << 50, 1 << 60, 3 << 60];
    assert!(draws.iter().all(|draws| found(Profile::Linux6_12, *draws) == 8000));
    let old: HashSet<u16> = draws.iter().map(|draws| found(Profile::Linux6_1, *draws)).collect();
    assert!(old.len() > 1 && old.iter().all(|port| (8000..9000).contains(port)), "{old:?}");
}

#[test]
fn a_base_port_shifts() {
    let range = Range { base_port: Some(5000), ..public().ports(8000, 8099) };
    let current = Tuple { destination_id: 5042, ..tuple(protocol::UDP, CLIENT, 9) };
    let found = unique(&request(current, &range, End::Destination), &mut Set::default());
    assert_eq!(found.destination_id, 8042);
}

#[test]
fn one_port_is_given_without_asking() {
    let range = public().ports(40_000, 40_000);
    let current = tuple(protocol::UDP, CLIENT, 40_000);
    let mut world = Set::default();
    world.take(&tuple(protocol::UDP, PUBLIC, 40_000));
    assert_eq!(unique(&request(current, &range, End::Source), &mut world).source_id, 40_000);
    assert_eq!(world.probes, 0);
}

#[test]
fn icmp_gets_another_id() {
    let range = public();
    let mut world = Set::default();
    world.take(&tuple(protocol::ICMP, PUBLIC, 1));
    let found = unique(&request(tuple(protocol::ICMP, CLIENT, 1), &range, End::Source), &mut world);
    assert_ne!(found.source_id, 1);
    assert_eq!(found.icmp_kind_and_code(), (8, 0));
}

#[test]
fn gre_keys_change_only_below_a_master() {
    let range = public();
    for is_expected in [false, true] {
        let current = tuple(protocol::GRE, CLIENT, 5);
        let mut world = Set::default();
        world.take(&Tuple { source: PUBLIC, ..current });
        let request = Request { is_expected, ..request(current, &range, End::Source) };
        assert_eq!(unique(&request, &mut world).source_id != 5, is_expected);
    }
}

#[test]
fn protocols_without_ids_get_the_address_only() {
    let range = public().ports(1000, 2000);
    let current = Tuple { source_id: 0, destination_id: 0, ..tuple(50, CLIENT, 0) };
    let found = unique(&request(current, &range, End::Source), &mut Set::default());
    assert_eq!(found, Tuple { source: PUBLIC, ..current });
}

#[test]
fn connections_in_time_wait_give_way_at_the_end_of_a_round() {
    let range = public().ports(1000, 1999);
    let current = tuple(protocol::TCP, CLIENT, 40_000);
    for (profile, is_syn_sent, gives_way) in [
        (Profile::Linux6_12, true, true),
        (Profile::Linux6_12, false, false),
        (Profile::Linux6_1, true, false),
    ] {
        let mut world = Set::default();
        let all = (1000..2000).map(|port| tuple(protocol::TCP, PUBLIC, port).inverted().unwrap());
        world.waiting = all.collect();
        let request = Request { profile, is_syn_sent, ..request(current, &range, End::Source) };
        unique(&request, &mut world);
        assert_eq!(world.waiting.len() < 1000, gives_way, "{profile:?} {is_syn_sent}");
        // 96 probes that only look before the first that evicts.
        assert_eq!(world.probes, if gives_way { 97 } else { MOST_PROBES });
    }
}

#[test]
fn a_full_range_of_ids_the_wrong_way_round_ends_too() {
    for (first, last) in [(10, 9), (10, 3)] {
        let range = public().ports(first, last);
        let mut world = Set::default();
        unique(&request(tuple(protocol::ICMP, CLIENT, 1), &range, End::Source), &mut world);
        assert!(world.probes <= MOST_PROBES);
    }
}

/// As many ports as the range has, as fast as the search finds them.
fn capacity(ports: impl Iterator<Item = u16>) -> usize {
    let range = public();
    let mut world = Set::default();
    let mut count = 0;
    for (client, port) in ports.enumerate() {
        let current = tuple(protocol::UDP, CLIENT + client as u128, port);
        let found = unique(&request(current, &range, End::Source), &mut world);
        count += usize::from(world.take(&found));
    }
    count
}

#[test]
fn clients_of_every_port_fill_all_65536() {
    assert_eq!(capacity((0..=u16::MAX).chain(1024..20_000)), 65_536);
}

#[test]
fn clients_of_one_high_port_share_64512() {
    let mut world = Set::default();
    for port in 1024..=65_535 {
        world.take(&tuple(protocol::UDP, PUBLIC, port));
    }
    let range = public();
    let current = tuple(protocol::UDP, CLIENT, 5000);
    let found = unique(&request(current, &range, End::Source), &mut world);
    assert!(!world.take(&found), "{found:?} is free beyond the 64,512");
    // One probe that the port is kept, then every round.
    assert_eq!(world.probes, 1 + MOST_PROBES);
    // The last few free ports are not always found: the search is bounded, not complete.
    assert!(capacity(std::iter::repeat_n(5000, 70_000)) <= 64_512);
}

#[test]
fn addresses_of_a_range_are_used_evenly_and_persistently() {
    let range = Range { addresses: Some((PUBLIC, PUBLIC + 9)), ..Range::default() };
    let mut used = BTreeMap::<u128, u32>::new();
    for client in 0..10_000 {
        let current = tuple(protocol::UDP, CLIENT + client, 9);
        let found = unique(&request(current, &range, End::Source), &mut Set::default());
        *used.entry(found.source).or_default() += 1;
    }
    assert!(used.keys().all(|address| (PUBLIC..PUBLIC + 10).contains(address)));
    assert!(used.len() == 10 && used.values().all(|count| (800..1200).contains(count)), "{used:?}");
    for client in 0..100 {
        let persistent = range.persistent();
        let addresses: HashSet<u128> = (0..50)
            .map(|server| {
                let current = tuple(protocol::UDP, CLIENT + client, 9);
                let current = Tuple { destination: SERVER + server, ..current };
                let request = request(current, &persistent, End::Source);
                unique(&request, &mut Set::default()).source
            })
            .collect();
        assert_eq!(addresses.len(), 1);
    }
}

#[test]
fn ipv6_ranges_are_kept_to() {
    let first = 0x2001_0db8_0000_0001_0000_0000_0000_0000;
    let last = 0x2001_0db8_0000_0003_0000_0000_0000_00ff;
    let range = Range { addresses: Some((first, last)), ..Range::default() };
    for client in 0..1000 {
        let current = Tuple { family: Family::Ipv6, ..tuple(protocol::UDP, client, 9) };
        let found = unique(&request(current, &range, End::Source), &mut Set::default());
        assert!((first..=last).contains(&found.source), "{:x}", found.source);
    }
}

/// Values of the published algorithm (`hashword` of lookup3) over four words.
#[test]
fn the_hash_is_the_published_one() {
    assert_eq!(jenkins([0, 0, 0, 0], 0), hashword(&[0, 0, 0, 0], 0));
    assert_eq!(jenkins([1, 2, 3, 4], 5), hashword(&[1, 2, 3, 4], 5));
}

/// The algorithm as published, for any number of words.
fn hashword(mut words: &[u32], salt: u32) -> u32 {
    let mut state = [0xdead_beef_u32.wrapping_add((words.len() as u32) << 2).wrapping_add(salt); 3];
    while words.len() > 3 {
        for (part, word) in state.iter_mut().zip(words) {
            *part = part.wrapping_add(*word);
        }
        // (minuend, subtrahend, addend) turn round; the rotations are the published ones.
        for (step, by) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
            let (a, c, b) = (step % 3, (step + 2) % 3, (step + 1) % 3);
            state[a] = state[a].wrapping_sub(state[c]) ^ state[c].rotate_left(by);
            state[c] = state[c].wrapping_add(state[b]);
        }
        words = &words[3..];
    }
    for (part, word) in state.iter_mut().zip(words) {
        *part = part.wrapping_add(*word);
    }
    for (step, by) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (c, b) = ((step + 2) % 3, (step + 1) % 3);
        state[c] = (state[c] ^ state[b]).wrapping_sub(state[b].rotate_left(by));
    }
    state[2]
}

fn any_range() -> impl Strategy<Value = Range> {
    (
        prop::option::of((PUBLIC..PUBLIC + 4, 0u128..4)),
        prop::option::of((any::<u16>(), 0u16..400)),
        prop::option::of(any::<u16>()),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(addresses, ports, base_port, random, persistent)| Range {
            addresses: addresses.map(|(first, more)| (first, first + more)),
            ports: ports.map(|(first, more)| (first, first.saturating_add(more))),
            base_port: base_port.filter(|_| ports.is_some()),
            random,
            persistent,
            masquerade: None,
        })
}

proptest! {
    /// Whatever is asked for: the tuple is in range, the rest of it untouched, the probes are
    /// bounded, and it is taken only if the search found nothing or could not look.
    #[test]
    fn what_is_found_is_in_range_and_free(
        range in any_range(),
        port: u16,
        protocol in prop::sample::select(vec![protocol::TCP, protocol::UDP, protocol::ICMP, 50]),
        is_source: bool,
        is_old: bool,
        share in 0u64..=100,
        draws: u64,
    ) {
        let end = if is_source { End::Source } else { End::Destination };
        let profile = if is_old { Profile::Linux6_1 } else { Profile::Linux6_12 };
        let current = tuple(protocol, CLIENT, port);
        let request = Request { profile, ..request(current, &range, end) };
        let mut world = Set { share, draws, ..Set::default() };
        let found = unique(&request, &mut world);
        prop_assert!(world.probes <= MOST_PROBES + 2);
        let address = if is_source { found.source } else { found.destination };
        let kept = if is_source { CLIENT } else { SERVER };
        let (first, last) = range.addresses.unwrap_or((kept, kept));
        prop_assert!((first..=last).contains(&address));
        let id = request.id(&found);
        if let (Some((first, last)), true) = (range.ports, has_id(protocol)) {
            prop_assert!((first..=last).contains(&id));
        }
        let mut rest = found;
        request.set_id(&mut rest, request.id(&current));
        match end {
            End::Source => rest.source = current.source,
            End::Destination => rest.destination = current.destination,
        }
        prop_assert_eq!(rest, current);
        let is_taken = world.has(&found.inverted().unwrap());
        let may_search = request.ids(&found).is_some();
        let one_port = range.ports.is_some_and(|(first, last)| first == last);
        if is_taken && may_search && !one_port {
            let size = request.ids(&found).unwrap().1;
            prop_assert!(world.probes >= size.min(MOST_PROBES));
        }
    }
}
