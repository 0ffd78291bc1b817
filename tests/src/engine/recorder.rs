//! Plays sequences on the kernel, interleaved, and writes down what it makes of them.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use ctkeeper_differential::SLOT;
use ctkeeper_differential::actors::Actors;
use ctkeeper_differential::ground::Ground;
use ctkeeper_differential::sequence::{Packet, Sequence, Step, Treatment};
use ctkeeper_differential::transcript::{Event, Heard, HeardKind, Out, Sent, Transcript, What};
use ctkeeper_differential::wire;
use ctkeeper_engine::{Profile, Route, Settings};
use ctkeeper_flow::{EventKind, Flow};
use ctkeeper_netlink::DumpFilter;

use super::router::Router;

/// How often the table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// After every packet of each sequence.
    Packets,
    /// Before and after every pause, and at the end.
    Pauses,
}

/// A sequence being played.
#[derive(Debug)]
struct Running {
    actors: Actors,
    sequence: Sequence,
    next: usize,
    wakes: u32,
}

impl Router {
    /// Plays sequences, a packet of each in turn, on an empty table.
    pub fn play(&mut self, sequences: &[Sequence], detail: Detail) -> anyhow::Result<Transcript> {
        self.table.flush()?;
        self.heard()?;
        if !self.ground.changes.is_empty() {
            self.set(&self.ground.settings.clone())?;
        }
        self.before = self.statistics()?;
        let mut running: Vec<_> = sequences.iter().map(|sequence| self.run(sequence)).collect();
        let Ground { settings, changes, treatments, listens } = self.ground.clone();
        let mut recording = Recording {
            router: self,
            events: Vec::new(),
            begin: Instant::now(),
            rounds: 0,
            changes,
        };
        recording.all(&mut running, detail)?;
        let events = recording.events;
        let played = running.into_iter().map(|one| (one.actors.place(), one.sequence)).collect();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let profile = profile_of(&release);
        Ok(Transcript { release, profile, settings, treatments, listens, played, events })
    }

    /// The table, whole. When somebody changes the host's number of buckets meanwhile, entries come
    /// twice, and the kernel does not say so: then it is read again.
    fn dump(&mut self) -> anyhow::Result<(Instant, Vec<Flow>)> {
        // Ids are 32 bits of a hash: among so many entries two of them do meet.
        let identity = |flow: &Flow| (flow.id, flow.zone, flow.original, flow.reply);
        for _ in 0..DUMPS {
            let at = Instant::now();
            let flows = self.table.collect(&DumpFilter::ALL)?;
            let unique: HashSet<_> = flows.iter().map(identity).collect();
            if unique.len() == flows.len() {
                return Ok((at, flows));
            }
        }
        bail!("every dump of the table has entries twice")
    }

    /// The events since the last call. What happens within a packet's way is told within it.
    fn heard(&mut self) -> anyhow::Result<Vec<Heard>> {
        let Some(events) = &mut self.events else { return Ok(Vec::new()) };
        let mut heard = Vec::new();
        let reading = events.read(Duration::ZERO, |event| {
            let kind = match event.kind {
                EventKind::New => HeardKind::New,
                EventKind::Update => HeardKind::Update,
                EventKind::Destroy => HeardKind::Destroy,
            };
            heard.push(Heard { kind, flow: event.flow.clone() });
        })?;
        ensure!(!reading.is_lossy(), "events were lost: {reading:?}");
        Ok(heard)
    }

    fn run(&mut self, sequence: &Sequence) -> Running {
        let place = self.place(sequence.family, sequence.treatment);
        Running { actors: Actors::new(place), sequence: sequence.clone(), next: 0, wakes: 0 }
    }
}

/// Kernels between those that were read are taken for the later of the two.
fn profile_of(release: &str) -> Profile {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) <= (6, 1) => Profile::Linux6_1,
        (Some(major), Some(minor)) if (major, minor) <= (6, 12) => Profile::Linux6_12,
        _ => Profile::Linux6_18,
    }
}

struct Recording<'a> {
    router: &'a mut Router,
    events: Vec<Event>,
    begin: Instant,
    /// Rounds that have been played.
    rounds: usize,
    /// What the sysctls become.
    changes: Vec<Settings>,
}

/// How often a table is read that has entries twice.
const DUMPS: u32 = 5;
/// After so many rounds the sysctls change.
const ROUNDS: usize = 3;

impl Recording<'_> {
    fn all(&mut self, running: &mut [Running], detail: Detail) -> anyhow::Result<()> {
        let mut slot = 0;
        loop {
            while self.round(running, slot)? {
                self.change()?;
                if detail == Detail::Packets {
                    self.table()?;
                }
            }
            if detail == Detail::Pauses {
                self.table()?;
            }
            let waiting = running.iter().filter(|one| one.next < one.sequence.steps.len());
            let Some(next) = waiting.map(|one| one.wakes).min() else { break };
            slot = next;
            let due = self.begin + SLOT * slot;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.table()?;
        }
        let counted = self.router.statistics()?.since(&self.router.before);
        self.note(Instant::now(), What::Statistics(counted));
        Ok(())
    }

    /// One packet of each sequence that does not wait; false when there is none.
    fn round(&mut self, running: &mut [Running], slot: u32) -> anyhow::Result<bool> {
        let mut any = false;
        for (number, one) in running.iter_mut().enumerate() {
            while let Some(Step::Pause(slots)) = one.pending(slot) {
                one.wakes = slot + u32::from(*slots);
                one.next += 1;
            }
            if let Some(Step::Send(packet)) = one.pending(slot) {
                let packet = packet.clone();
                self.send(number as u32, one, &packet)?;
                one.next += 1;
                any = true;
            }
        }
        Ok(any)
    }

    fn change(&mut self) -> anyhow::Result<()> {
        self.rounds += 1;
        if self.changes.is_empty() || !self.rounds.is_multiple_of(ROUNDS) {
            return Ok(());
        }
        let next = self.changes[(self.rounds / ROUNDS - 1) % self.changes.len()].clone();
        self.router.set(&next)?;
        self.note(Instant::now(), What::Settings(Box::new(next)));
        Ok(())
    }

    fn send(&mut self, number: u32, one: &mut Running, packet: &Packet) -> anyhow::Result<()> {
        let datagram = one.actors.make(packet);
        let id = (number as u16).wrapping_mul(31).wrapping_add(one.next as u16);
        let mut parts = wire::fragments(&datagram, packet.defects.fragments, id);
        if packet.defects.reversed {
            parts.reverse();
        }
        let at = Instant::now();
        let route = one.sequence.treatment.route(packet.from);
        for part in &parts {
            match route {
                Route::Output => self.router.own.send(part)?,
                _ => self.router.devices.arrive(packet.from, part)?,
            }
        }
        let out = self.router.devices.left()?;
        for Out { side, bytes } in &out {
            if let Some(seen) = wire::read(bytes).filter(|seen| !seen.is_later_fragment) {
                one.actors.observe(packet, *side, &seen);
            }
        }
        let heard = self.router.heard()?;
        let (step, from) = (one.next as u32, packet.from);
        self.note(
            at,
            What::Packet(Sent { sequence: number, step, from, route, datagram, out, heard }),
        );
        Ok(())
    }

    fn table(&mut self) -> anyhow::Result<()> {
        let (at, flows) = self.router.dump()?;
        self.note(at, What::Table(flows));
        if self.router.events.is_some() {
            let heard = self.router.heard()?;
            self.note(at, What::Heard(heard));
        }
        if self.router.ground.treatments.contains(&Treatment::Helped) {
            let at = Instant::now();
            let mut expected = Vec::new();
            self.router.table.expectations(|one| {
                expected.push(one);
                ControlFlow::Continue(())
            })?;
            self.note(at, What::Expectations(expected));
        }
        Ok(())
    }

    fn note(&mut self, at: Instant, what: What) {
        let at = at.saturating_duration_since(self.router.clock);
        self.events.push(Event { at: (at + EPOCH).as_nanos() as u64, what });
    }
}

/// Recordings begin some time after zero, as a clock that has been running does.
const EPOCH: Duration = Duration::from_secs(1000);

impl Running {
    fn pending(&self, slot: u32) -> Option<&Step> {
        self.sequence.steps.get(self.next).filter(|_| self.wakes <= slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_matched_with_what_was_read() {
        assert_eq!(profile_of("6.1.0-56-cloud-amd64"), Profile::Linux6_1);
        assert_eq!(profile_of("6.12.117+deb12-cloud-amd64"), Profile::Linux6_12);
        assert_eq!(profile_of("6.18.44-fc-v657"), Profile::Linux6_18);
    }
}
