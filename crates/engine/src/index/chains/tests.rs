//! The chains against plain lists, and the kernel's rules one by one.

use ctkeeper_flow::Family;
use proptest::prelude::*;

use super::*;
use crate::entry::flag;
use crate::tuple::protocol;

/// Records of a few connections, kept apart from the engine's memory.
#[derive(Default)]
struct Book(Vec<(Entry, [Tuple; 2])>);

impl Records for Book {
    fn entry(&self, line: u32) -> &Entry {
        &self.0[line as usize].0
    }
    fn tuple(&self, line: u32, direction: Direction) -> Tuple {
        self.0[line as usize].1[direction as usize]
    }
}

impl Links for Book {
    fn links(&mut self, line: u32) -> &mut [u32; 2] {
        &mut self.0[line as usize].0.links
    }
}

impl Book {
    /// Adds a confirmed connection that lives until a tick.
    fn add(&mut self, tuples: [Tuple; 2], deadline: u32) -> u32 {
        let mut entry: Entry = zerocopy::FromZeros::new_zeroed();
        entry.protocol = tuples[0].protocol;
        entry.links = [NOWHERE; 2];
        entry.deadline = deadline;
        entry.set(Status::CONFIRMED);
        self.0.push((entry, tuples));
        self.0.len() as u32 - 1
    }

    fn entry_mut(&mut self, line: u32) -> &mut Entry {
        &mut self.0[line as usize].0
    }
}

const NOW: Ticks = Ticks(1000);
const LATER: u32 = 2000;

fn udp(source: u16, destination: u16) -> Tuple {
    Tuple {
        source: 0x0a00_0001,
        destination: 0x0a00_0002,
        source_id: source,
        destination_id: destination,
        protocol: protocol::UDP,
        family: Family::Ipv4,
    }
}

fn both(tuple: Tuple) -> [Tuple; 2] {
    [tuple, tuple.inverted().unwrap()]
}

const fn wanted(tuple: &Tuple) -> Wanted<'_> {
    Wanted { tuple, namespace: 0, zones: [0, 0] }
}

fn chains(buckets: u32) -> Chains {
    Chains::new(buckets, Hasher::new(5))
}

fn enter(chains: &mut Chains, book: &mut Book, line: u32) -> Result<(), Obstacle> {
    let vacancy = chains.check(book, line, &mut Random::new(u64::from(line)))?;
    chains.insert(book, vacancy);
    Ok(())
}

fn found(chains: &Chains, book: &Book, tuple: &Tuple) -> Option<(u32, Direction)> {
    chains.find(book, NOW, wanted(tuple), &mut Vec::new())
}

fn chain(chains: &Chains, book: &Book) -> Vec<(u32, Direction)> {
    chains.chain(0, book).collect()
}

#[test]
fn both_directions_are_found_until_the_connection_is_removed() {
    let (mut chains, mut book) = (chains(64), Book::default());
    let line = book.add(both(udp(1, 2)), LATER);
    enter(&mut chains, &mut book, line).unwrap();
    let [original, reply] = both(udp(1, 2));
    assert_eq!(found(&chains, &book, &original), Some((line, Direction::Original)));
    assert_eq!(found(&chains, &book, &reply), Some((line, Direction::Reply)));
    assert_eq!(found(&chains, &book, &udp(1, 3)), None);
    chains.remove(&mut book, line);
    assert_eq!(found(&chains, &book, &original), None);
    assert_eq!(found(&chains, &book, &reply), None);
}

#[test]
fn what_is_new_comes_to_the_head_reply_before_original() {
    use Direction::{Original, Reply};
    let (mut chains, mut book) = (chains(1), Book::default());
    for port in 0..3 {
        let line = book.add(both(udp(port, 9)), LATER);
        enter(&mut chains, &mut book, line).unwrap();
    }
    let order = [(2, Reply), (2, Original), (1, Reply), (1, Original), (0, Reply)];
    assert_eq!(chain(&chains, &book)[..5], order);
    chains.remove(&mut book, 1);
    let order = [(2, Reply), (2, Original), (0, Reply), (0, Original)];
    assert_eq!(chain(&chains, &book), order);
    assert_eq!(chains.listed(&book, Original).collect::<Vec<_>>(), [2, 0]);
}

#[test]
fn a_tuple_that_is_its_own_inverse_is_found_as_the_reply() {
    let (mut chains, mut book) = (chains(8), Book::default());
    let mirror = Tuple { destination: 0x0a00_0001, ..udp(7, 7) };
    assert_eq!(mirror.inverted(), Some(mirror));
    let line = book.add([mirror; 2], LATER);
    enter(&mut chains, &mut book, line).unwrap();
    assert_eq!(found(&chains, &book, &mirror), Some((line, Direction::Reply)));
}

#[test]
fn expired_connections_are_noted_once_and_only_before_the_match() {
    let (mut chains, mut book) = (chains(1), Book::default());
    for (port, deadline) in [(0, 1000), (1, LATER), (2, 1001), (3, 999)] {
        let line = book.add(both(udp(port, 9)), deadline);
        enter(&mut chains, &mut book, line).unwrap();
    }
    let mut met = Vec::new();
    assert_eq!(
        chains.find(&book, NOW, wanted(&udp(1, 9)), &mut met),
        Some((1, Direction::Original))
    );
    assert_eq!(met, [3]);
    met.clear();
    assert_eq!(chains.find(&book, NOW, wanted(&udp(0, 9)), &mut met), None);
    assert_eq!(met, [3, 0], "due at its very tick, and not found");
}

#[test]
fn zones_and_namespaces_keep_equal_tuples_apart() {
    let (mut chains, mut book) = (chains(16), Book::default());
    let tuple = udp(1, 2);
    let places = [(0, 0), (0, 5), (3, 0), (3, 5)];
    for (namespace, zone) in places {
        let line = book.add(both(tuple), LATER);
        let entry = book.entry_mut(line);
        (entry.namespace, entry.zone) = (namespace, zone);
        enter(&mut chains, &mut book, line).unwrap();
    }
    for (line, (namespace, zone)) in (0..).zip(places) {
        let wanted = Wanted { tuple: &tuple, namespace, zones: [zone; 2] };
        let found = chains.find(&book, NOW, wanted, &mut Vec::new());
        assert_eq!(found, Some((line, Direction::Original)));
    }
}

/// `ct original zone 5`: packets of the original direction carry zone 5; answers, which come
/// without, are found through the id of the reply direction.
#[test]
fn a_zone_of_one_direction_is_looked_for_under_both_of_its_ids() {
    let (mut chains, mut book) = (chains(1 << 16), Book::default());
    let [original, reply] = both(udp(1, 2));
    let line = book.add([original, reply], LATER);
    let entry = book.entry_mut(line);
    (entry.zone, entry.flags) = (5, flag::ZONE_NOT_REPLY);
    enter(&mut chains, &mut book, line).unwrap();
    let find = |tuple, zones| {
        let wanted = Wanted { tuple, namespace: 0, zones };
        chains.find(&book, NOW, wanted, &mut Vec::new())
    };
    assert_eq!(find(&original, [5, 0]), Some((line, Direction::Original)));
    assert_eq!(find(&reply, [5, 0]), Some((line, Direction::Reply)));
    assert_eq!(find(&reply, [0, 0]), Some((line, Direction::Reply)));
    assert_eq!(find(&original, [0, 0]), None);
    assert_eq!(find(&original, [5, 5]), Some((line, Direction::Original)));
    assert_eq!(find(&reply, [5, 5]), None);
}

#[test]
fn a_clash_names_the_winner_and_the_tuple_even_of_an_expired_connection() {
    let (mut chains, mut book) = (chains(64), Book::default());
    let winner = book.add(both(udp(1, 2)), 0);
    enter(&mut chains, &mut book, winner).unwrap();
    let same = book.add(both(udp(1, 2)), LATER);
    let clash = |tuple| Err(Obstacle::Clash { winner, tuple });
    assert_eq!(enter(&mut chains, &mut book, same), clash(Direction::Original));
    let [_, reply] = both(udp(1, 2));
    let translated = book.add([udp(8, 2), reply], LATER);
    assert_eq!(enter(&mut chains, &mut book, translated), clash(Direction::Reply));
    let reverse = book.add(both(reply), LATER);
    assert_eq!(enter(&mut chains, &mut book, reverse), clash(Direction::Original));
    assert_eq!(chains.owner(&book, wanted(&reply), Direction::Reply, NOWHERE), Some(winner));
    assert_eq!(chains.owner(&book, wanted(&reply), Direction::Reply, winner), None);
}

#[test]
fn a_settled_clash_stands_in_the_reply_chain_only() {
    let (mut chains, mut book) = (chains(1), Book::default());
    let winner = book.add(both(udp(1, 2)), LATER);
    enter(&mut chains, &mut book, winner).unwrap();
    let loser = book.add([udp(1, 2), udp(2, 77)], LATER);
    chains.insert_reply(&mut book, loser);
    assert_eq!(found(&chains, &book, &udp(1, 2)), Some((winner, Direction::Original)));
    assert_eq!(found(&chains, &book, &udp(2, 77)), Some((loser, Direction::Reply)));
    chains.remove(&mut book, loser);
    assert_eq!(chain(&chains, &book).len(), 2);
    assert_eq!(found(&chains, &book, &udp(2, 77)), None);
}

/// The walk gives up at the node behind `limit + 1` others.
#[test]
fn a_chain_may_hold_one_node_more_than_the_limit() {
    let (mut chains, mut book) = (chains(1), Book::default());
    for port in 0..26 {
        let line = book.add(both(udp(port, 9)), LATER);
        enter(&mut chains, &mut book, line).unwrap();
    }
    let line = book.add(both(udp(77, 9)), LATER);
    let check = |limit| chains.check_within(&book, line, limit).map(|_| ());
    assert_eq!(check(51), Ok(()));
    assert_eq!(check(50), Err(Obstacle::ChainTooLong));
}

#[test]
fn limits_of_50_to_79_are_drawn_anew_each_time() {
    let (mut chains, mut book) = (chains(1), Book::default());
    let refused = (0..100u16).find(|&port| {
        let line = book.add(both(udp(port, 9)), LATER);
        enter(&mut chains, &mut book, line) == Err(Obstacle::ChainTooLong)
    });
    let nodes = u32::from(refused.unwrap()) * 2;
    assert!((52..=82).contains(&nodes), "{nodes}");
    let line = book.0.len() as u32 - 1;
    let draws = (0..400).map(|seed| chains.check(&book, line, &mut Random::new(seed)).is_ok());
    let let_in = draws.filter(|let_in| *let_in).count() as u32;
    // With n nodes in the chain, limits of n - 1 and more let another one in.
    let expected = 400 * 81u32.saturating_sub(nodes) / 30;
    assert!(let_in.abs_diff(expected) < 60, "{let_in} of 400, {nodes} nodes");
}

#[test]
fn early_drop_takes_all_of_the_first_chain_that_has_any() {
    let (mut chains, mut book) = (chains(1), Book::default());
    for (port, deadline) in [(0, LATER), (1, 0), (2, LATER), (3, LATER), (4, LATER)] {
        let line = book.add(both(udp(port, 9)), deadline);
        enter(&mut chains, &mut book, line).unwrap();
    }
    book.entry_mut(2).set(Status::ASSURED);
    book.entry_mut(3).namespace = 1;
    let (mut met, mut victims) = (Vec::new(), Vec::new());
    chains.victims(&book, NOW, wanted(&udp(77, 9)), &mut met, &mut victims);
    assert_eq!((met, victims), (vec![1], vec![4, 0]));
}

#[test]
fn early_drop_looks_through_eight_chains_and_wraps() {
    let (mut chains, mut book) = (chains(32), Book::default());
    let newcomer = udp(500, 9);
    let own = chains.bucket(&newcomer, 0, 0);
    for port in 0..400 {
        let line = book.add(both(udp(port, 9)), LATER);
        enter(&mut chains, &mut book, line).unwrap();
    }
    for distance in 0..32 {
        let bucket = (own + distance) % 32;
        let (mut met, mut victims) = (Vec::new(), Vec::new());
        for line in 0..400 {
            book.entry_mut(line).status = (Status::CONFIRMED | Status::ASSURED).0;
        }
        let (line, _) = chains.chain(bucket, &book).next().unwrap();
        book.entry_mut(line).status = Status::CONFIRMED.0;
        let other = chains.buckets_of(&book, line).map(|b| (b + 32 - own) % 32);
        chains.victims(&book, NOW, wanted(&newcomer), &mut met, &mut victims);
        let reached = other.iter().any(|&distance| distance < EVICTION_RANGE);
        assert_eq!(victims, if reached { vec![line] } else { vec![] }, "{distance}");
        assert!(met.is_empty());
    }
}

/// A step of the comparison with a model.
#[derive(Clone, Debug)]
enum Step {
    Enter { ports: (u16, u16), reply: Option<u16>, deadline: u32, assured: bool },
    Remove(prop::sample::Index),
    Find((u16, u16)),
    Evict((u16, u16)),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ports = || (0u16..12, 0u16..12);
    let enter = (ports(), prop::option::of(20u16..24), 900u32..1100, any::<bool>()).prop_map(
        |(ports, reply, deadline, assured)| Step::Enter { ports, reply, deadline, assured },
    );
    let step = prop_oneof![
        6 => enter,
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        4 => ports().prop_map(Step::Find),
        1 => ports().prop_map(Step::Evict),
    ];
    prop::collection::vec(step, 1..200)
}

/// Chains as plain lists, newest first.
struct Model(Vec<Vec<(u32, Direction)>>);

impl Model {
    fn drop(&mut self, line: u32) {
        for chain in &mut self.0 {
            chain.retain(|&(other, _)| other != line);
        }
    }

    fn find(
        &self,
        book: &Book,
        bucket: usize,
        tuple: &Tuple,
    ) -> (Option<(u32, Direction)>, Vec<u32>) {
        let mut met = Vec::new();
        for &(line, direction) in &self.0[bucket] {
            if book.entry(line).deadline <= NOW.0 {
                met.push(line);
            } else if book.tuple(line, direction) == *tuple {
                met.dedup();
                return (Some((line, direction)), met);
            }
        }
        met.dedup();
        (None, met)
    }
}

proptest! {
    #[test]
    fn does_what_plain_lists_do(steps in steps(), buckets in 1u32..12) {
        let (mut chains, mut book) = (chains(buckets), Book::default());
        let mut model = Model(vec![Vec::new(); buckets as usize]);
        let mut inside: Vec<u32> = Vec::new();
        for step in steps {
            match step {
                Step::Enter { ports, reply, deadline, assured } => {
                    let tuple = udp(ports.0, ports.1);
                    let [original, plain] = both(tuple);
                    let reply = reply.map_or(plain, |port| udp(port, ports.0));
                    let line = book.add([original, reply], deadline);
                    if assured {
                        book.entry_mut(line).set(Status::ASSURED);
                    }
                    let clash = inside.iter().any(|&other| {
                        let theirs = book.0[other as usize].1;
                        theirs.contains(&original) || theirs.contains(&reply)
                    });
                    let places = chains.buckets_of(&book, line);
                    match enter(&mut chains, &mut book, line) {
                        Ok(()) => {
                            prop_assert!(!clash);
                            inside.push(line);
                            model.0[places[0]].insert(0, (line, Direction::Original));
                            model.0[places[1]].insert(0, (line, Direction::Reply));
                        }
                        Err(Obstacle::Clash { winner, tuple }) => {
                            prop_assert!(clash && inside.contains(&winner));
                            let mine = book.tuple(line, tuple);
                            prop_assert!(book.0[winner as usize].1.contains(&mine));
                        }
                        Err(Obstacle::ChainTooLong) => {
                            prop_assert!(places.iter().any(|&at| model.0[at].len() > 51));
                        }
                    }
                }
                Step::Remove(which) => {
                    if !inside.is_empty() {
                        let line = inside.swap_remove(which.index(inside.len()));
                        chains.remove(&mut book, line);
                        model.drop(line);
                    }
                }
                Step::Find(ports) => {
                    let tuple = udp(ports.0, ports.1);
                    let mut met = Vec::new();
                    let found = chains.find(&book, NOW, wanted(&tuple), &mut met);
                    let expected = model.find(&book, chains.bucket(&tuple, 0, 0), &tuple);
                    prop_assert_eq!((found, met), expected);
                }
                Step::Evict(ports) => {
                    let tuple = udp(ports.0, ports.1);
                    let (mut met, mut victims) = (Vec::new(), Vec::new());
                    chains.victims(&book, NOW, wanted(&tuple), &mut met, &mut victims);
                    let own = chains.bucket(&tuple, 0, 0);
                    let mut expected = Vec::new();
                    for offset in 0..8 {
                        let chain = &model.0[(own + offset) % buckets as usize];
                        expected.extend(chain.iter().map(|&(line, _)| line).filter(|&line| {
                            let entry = book.entry(line);
                            entry.deadline > NOW.0 && !entry.has(Status::ASSURED)
                        }));
                        if !expected.is_empty() {
                            break;
                        }
                    }
                    expected.dedup();
                    prop_assert_eq!(victims, expected);
                }
            }
        }
        for (bucket, chain) in model.0.iter().enumerate() {
            prop_assert_eq!(&chains.chain(bucket, &book).collect::<Vec<_>>(), chain);
        }
    }
}
