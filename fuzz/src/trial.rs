//! Two engines, one a mode, that see the same packets.

use std::collections::BTreeSet;

use ctkeeper_engine::helper::Ftp;
use ctkeeper_engine::packet::{Datagram, checksum};
use ctkeeper_engine::rules::{RawAction, Rules};
use ctkeeper_engine::tuple::protocol;
use ctkeeper_engine::{
    Class, Config, Engine, Handle, Mode, Outcome, Packet, Reason, Route, Time, Tuple, Verdict,
};
use ctkeeper_flow::{Direction, Statistic, Zone, ZoneDirection};

use crate::image;
use crate::input::Input;
use crate::scene::{INSIDE, NAMESPACES, OUTSIDE, Pairing, Scene};
use crate::world::{Said, World};

/// Longer inputs say nothing new.
const STEPS: usize = 300;

/// Behind 99 days of silence the kernel's ticks have come half round, and what was expired lives.
const LONGEST_SILENCE: Time = Time::from_seconds(80 * 86_400);

/// An engine in trial.
struct Trial {
    engine: Engine,
    rules: Rules,
    limit: u32,
}

/// Runs the program that the input is.
pub(crate) fn run(input: &mut Input<'_>) {
    let mut pair = Pair::new(&Scene::read(input));
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        pair.step(input);
    }
    pair.catch_up();
    pair.one.look_around(pair.now);
    pair.two.look_around(pair.now);
}

/// The two engines, and what goes on around them.
struct Pair {
    one: Trial,
    two: Trial,
    pairing: Pairing,
    /// Whether they must agree on everything that is in [`plain`].
    comparable: bool,
    world: World,
    waiting: Vec<Waiting>,
    now: Time,
    /// When they last had something to do.
    last: Time,
}

/// A packet that the first engine has seen, and the second has not.
struct Waiting {
    bytes: Vec<u8>,
    place: u8,
    outcome: Outcome,
}

impl Pair {
    fn new(scene: &Scene) -> Self {
        let mode = match (scene.pairing, scene.config.mode) {
            (Pairing::Batches, mode) => mode,
            (Pairing::Modes, Mode::Exact) => Mode::Fast,
            (Pairing::Modes, Mode::Fast) => Mode::Exact,
        };
        let one = Trial::new(scene, scene.config.clone());
        // Where coverage is counted no packet takes the short way: the long one comes to the same.
        let coverage = !scene.config.coverage;
        let two = Trial::new(scene, Config { mode, coverage, ..scene.config.clone() });
        if tells() {
            println!("{:#?}\n{:#?}\n{:#?}", scene.config, scene.settings, scene.rules);
        }
        // Ports are drawn at random, and each mode draws for itself.
        let comparable = (0..NAMESPACES).all(|namespace| !one.translates(namespace));
        // A tuple may stand in the chain of another zone's by chance: with 16 chains, often.
        let comparable = comparable && !one.has_zone_of_one_direction();
        let now = Time::from_seconds(1_000_000);
        let (world, waiting, pairing) = (World::new(), Vec::new(), scene.pairing);
        Self { one, two, pairing, comparable, world, waiting, now, last: now }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let said = match input.byte() {
            0..16 => return self.wait(input),
            16..24 => return self.aside(input),
            24..36 => vec![self.world.garble(input)],
            36..48 => vec![self.world.complain(input)],
            48..72 => self.world.open(input),
            _ => vec![self.world.say(input, |handle| self.one.reply_of(self.now, handle))],
        };
        let place = input.byte();
        for Said { bytes, talk } in said {
            let outcome = self.pass(bytes, place);
            if let Some(talk) = talk {
                self.world.became(talk, outcome.connection);
            }
        }
    }

    /// What the first engine makes of a packet, and the second now or later.
    fn pass(&mut self, bytes: Vec<u8>, place: u8) -> Outcome {
        let packet = address(&bytes, place);
        if packet.namespace < NAMESPACES {
            self.last = self.now;
        }
        let outcome = self.one.packet(self.now, &packet);
        self.one.translate(&outcome, &packet);
        if self.pairing == Pairing::Batches {
            self.waiting.push(Waiting { bytes, place, outcome });
            return outcome;
        }
        let second = self.two.packet(self.now, &packet);
        tell(self.now, &packet, &outcome, &second);
        self.comparable &= self.one.has_room() && self.two.has_room();
        if self.comparable {
            assert_eq!(plain(&outcome), plain(&second), "the modes differ");
        }
        outcome
    }

    /// Has the second engine take all that waits at once.
    fn catch_up(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let packets: Vec<_> =
            waiting.iter().map(|waiting| address(&waiting.bytes, waiting.place)).collect();
        let mut outcomes = Vec::new();
        self.two.engine.batch(self.now, &packets, &mut self.two.rules, &mut outcomes);
        assert_eq!(outcomes.len(), packets.len());
        for ((packet, waiting), outcome) in packets.iter().zip(&waiting).zip(&outcomes) {
            tell(self.now, packet, &waiting.outcome, outcome);
            assert_eq!(&waiting.outcome, outcome, "a batch differs");
            self.two.translate(outcome, packet);
        }
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        self.catch_up();
        self.now = later(self.now, input).min(Time(self.last.0 + LONGEST_SILENCE.0));
    }

    /// What callers do between packets.
    fn aside(&mut self, input: &mut Input<'_>) {
        self.catch_up();
        let (action, detail, now) = (input.byte() % 8, input.byte(), self.now);
        if tells() {
            println!("{} aside {action} {detail}", now.0 / 1_000_000);
        }
        for trial in [&mut self.one, &mut self.two] {
            match action {
                0..3 => trial.look_around(now),
                3 | 4 => trial.collect(now, usize::from(detail)),
                5 => trial.replace_by_its_image(now),
                // Dear, so not often.
                6 if detail % 4 == 0 => image::restore_damaged(&trial.engine, now, detail),
                6 => {}
                _ if detail == 7 => {
                    trial.engine.address_gone(now, 0, OUTSIDE, None);
                }
                _ => trial.set(detail),
            }
        }
        if action == 5 {
            self.world.forget_handles();
        }
    }
}

/// Whether packets and what became of them are printed.
fn tells() -> bool {
    std::env::var_os("CTKEEPER_FUZZ_TELL").is_some()
}

fn tell(now: Time, packet: &Packet<'_>, first: &Outcome, second: &Outcome) {
    if !tells() {
        return;
    }
    let tuple = Datagram::parse(packet.bytes).and_then(|datagram| datagram.tuple());
    let tuple = tuple.map(|tuple| ctkeeper_flow::Tuple::from(tuple).to_string());
    let millis = now.0 / 1_000_000;
    println!("{millis} {tuple:?} {:?} namespace {}", packet.route, packet.namespace);
    println!("  {first:?}\n  {second:?}");
}

/// What two engines must agree on.
const fn plain(outcome: &Outcome) -> (Verdict, Class, Direction, Option<Reason>, bool) {
    let Outcome { verdict, class, direction, reason, connection } = *outcome;
    (verdict, class, direction, reason, connection.is_some())
}

fn later(now: Time, input: &mut Input<'_>) -> Time {
    const MILLIS: [u64; 10] =
        [4, 1, 1_000, 3_000, 11_000, 31_000, 121_000, 301_000, 432_001_000, 60 * 86_400_000];
    let millis = input.choose(&MILLIS) * (1 + u64::from(input.byte() % 4));
    Time(now.0.saturating_add(Time::from_millis(millis).0))
}

/// Puts bytes somewhere on a host.
const fn address(bytes: &[u8], place: u8) -> Packet<'_> {
    let (input_interface, output) = match place & 1 {
        0 => (INSIDE, OUTSIDE),
        _ => (OUTSIDE, INSIDE),
    };
    Packet {
        namespace: match place >> 5 {
            6 => 1,
            7 => NAMESPACES,
            _ => 0,
        },
        route: match place >> 1 & 3 {
            0 | 1 => Route::Forward,
            2 => Route::Input,
            _ => Route::Output,
        },
        input: input_interface,
        output,
        mark: (place >> 3 & 1) as u32,
        checksum_verified: place >> 4 & 1 != 0,
        ..Packet::new(bytes)
    }
}

impl Trial {
    fn new(scene: &Scene, config: Config) -> Self {
        let limit = config.limit;
        let mut engine = Engine::new(config).expect("a small table fits");
        for settings in &scene.settings {
            engine.add_namespace(settings.clone()).expect("there is room for two");
        }
        engine.add_helper(Box::new(Ftp::default()));
        Self { engine, rules: scene.rules.clone(), limit }
    }

    fn translates(&self, namespace: u16) -> bool {
        use ctkeeper_engine::Ruleset;
        use ctkeeper_flow::Family::{Ipv4, Ipv6};
        self.rules.uses_nat(namespace, Ipv4) || self.rules.uses_nat(namespace, Ipv6)
    }

    fn has_zone_of_one_direction(&self) -> bool {
        let is_such = |zone: Zone| zone.direction != ZoneDirection::Both;
        let mut raw = self.rules.raw.iter();
        raw.any(|rule| matches!(rule.then, RawAction::Zone(zone) if is_such(zone)))
    }

    /// Has the engine take a packet, and its outcome make sense.
    fn packet(&mut self, now: Time, packet: &Packet<'_>) -> Outcome {
        let outcome = self.engine.packet(now, packet, &mut self.rules);
        let Outcome { verdict, class, reason, connection, .. } = outcome;
        assert!(verdict == Verdict::Accept || reason.is_some(), "dropped without a reason");
        if class == Class::Invalid {
            assert!(reason.is_some() && connection.is_none(), "{outcome:?}");
        }
        if verdict == Verdict::Accept
            && let Some(handle) = connection
            && let Some(flow) = self.engine.connection(now, handle)
        {
            assert_eq!(flow.original.family(), flow.reply.family());
            assert_eq!(flow.original.protocol, flow.reply.protocol);
        }
        for namespace in 0..NAMESPACES {
            let count = self.engine.count(namespace);
            assert!(self.limit == 0 || count <= self.limit, "{count} over the limit");
        }
        outcome
    }

    /// Translates a packet as its outcome says; checksums that held must hold then.
    fn translate(&self, outcome: &Outcome, packet: &Packet<'_>) {
        let mut bytes = packet.bytes.to_vec();
        match self.engine.translate(outcome, &mut bytes) {
            Ok(false) => assert_eq!(bytes, packet.bytes),
            Ok(true) => {
                let sound = |bytes: &[u8]| {
                    let datagram = Datagram::parse(bytes).expect("it went through the engine");
                    let length = datagram.payload.len();
                    let layer4 = checksum::layer4_holds(&datagram, datagram.protocol, length);
                    checksum::network_header_holds(bytes)
                        && (layer4
                            || !matches!(datagram.protocol, protocol::TCP | protocol::ICMPV6))
                };
                assert!(
                    sound(&bytes) || !sound(packet.bytes),
                    "{outcome:?} {:02x?} {bytes:02x?}",
                    packet.bytes
                );
            }
            Err(_) => {}
        }
    }

    fn collect(&mut self, now: Time, budget: usize) {
        let all = self.engine.collect(now, budget);
        assert!(all || budget < 10_000, "never done");
    }

    /// Goes on with an engine that was restored from this one's image.
    fn replace_by_its_image(&mut self, now: Time) {
        let image = self.engine.image();
        let mut restored = Engine::restore(&image).expect("an engine's own image");
        restored.add_helper(Box::new(Ftp::default()));
        let listed = |engine: &Engine| {
            let mut flows: Vec<_> = engine
                .connections(now)
                .map(|(namespace, flow)| (namespace, format!("{flow:?}")))
                .collect();
            flows.sort();
            flows
        };
        assert_eq!(listed(&self.engine), listed(&restored));
        for namespace in 0..NAMESPACES {
            assert_eq!(self.engine.count(namespace), restored.count(namespace));
            let (before, after) =
                (self.engine.statistics(namespace), restored.statistics(namespace));
            assert_eq!(before, after);
        }
        self.engine = restored;
    }

    fn set(&mut self, detail: u8) {
        let settings = self.engine.settings_mut(u16::from(detail & 1)).expect("there are two");
        settings.tcp_be_liberal = detail & 2 != 0;
        settings.tcp_loose = detail & 4 != 0;
        settings.accounting = detail & 8 != 0;
        settings.timeouts.udp = u32::from(detail >> 4);
    }

    /// What the answers to a connection look like.
    fn reply_of(&self, now: Time, handle: Handle) -> Option<Tuple> {
        self.engine.connection(now, handle).map(|flow| flow.reply.into())
    }

    /// Whether nothing had to give way for want of room, in which the modes may differ.
    fn has_room(&self) -> bool {
        (0..NAMESPACES).all(|namespace| {
            let statistics = self.engine.statistics(namespace);
            let hurt = [Statistic::Drop, Statistic::EarlyDrop, Statistic::InsertFailed];
            hurt.iter().all(|&which| statistics.value(which) == 0)
        })
    }

    /// The table as a whole: as many connections as were counted, and no two alike.
    fn look_around(&mut self, now: Time) {
        let mut seen = BTreeSet::new();
        let mut listed = [0; NAMESPACES as usize];
        for (namespace, flow) in self.engine.connections(now) {
            listed[usize::from(namespace)] += 1;
            let zone = flow.zone;
            assert!(seen.insert((namespace, format!("{zone:?}{:?}", flow.original))), "{flow:?}");
        }
        for (namespace, listed) in (0..NAMESPACES).zip(listed) {
            assert!(self.engine.count(namespace) >= listed, "more are listed than counted");
        }
        for namespace in 0..NAMESPACES {
            for expectation in self.engine.expectations(now, namespace) {
                assert!(expectation.timeout.is_some(), "{expectation:?}");
            }
        }
        for event in self.engine.events() {
            assert!(event.namespace < NAMESPACES && !event.changes.is_empty(), "{event:?}");
        }
    }
}
