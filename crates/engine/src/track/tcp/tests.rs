//! The tracker's rules one by one, and what must hold whatever comes.

mod anything;
mod closing;
mod endpoints;
mod lifetimes;
mod opening;
mod resets;
mod windows;

use ctkeeper_flow::{Direction, Status, TcpState};

use super::packet;
use crate::coverage::Coverage;
use crate::entry::{Entry, TcpSide, TcpWindow};
use crate::event::Changes;
use crate::outcome::Reason;
use crate::packet::TcpSegment;
use crate::packet::flag::{ACK, FIN, RST, SYN};
use crate::settings::{Profile, Settings};
use crate::time::Ticks;
use crate::track::testing::datagram;
use crate::track::{Context, Judgement};
use crate::tuple::protocol;

use Direction::{Original, Reply};

/// One connection and what the engine does around its tracker.
#[derive(Clone)]
struct Scene {
    entry: Entry,
    window: TcpWindow,
    settings: Settings,
    profile: Profile,
    now: Ticks,
    /// What the last segment changed.
    changes: Changes,
    /// What the receivers' numbers are shifted by.
    shift: i32,
    verify: bool,
    /// Kept where there is one; every segment takes the long way then.
    coverage: Option<Coverage>,
}

impl Default for Scene {
    fn default() -> Self {
        Self::with(Settings::default())
    }
}

impl Scene {
    fn with(settings: Settings) -> Self {
        Self {
            entry: zerocopy::FromZeros::new_zeroed(),
            window: TcpWindow::default(),
            settings,
            profile: Profile::Linux6_12,
            now: Ticks(1_000_000),
            changes: Changes::default(),
            shift: 0,
            verify: false,
            coverage: None,
        }
    }

    fn with_coverage(self) -> Self {
        Self { coverage: Some(Coverage::default()), ..self }
    }

    /// Past the handshake of [`syn`], [`syn_ack`] and [`ack`]: the next numbers are 1001 and 5001.
    fn established() -> Self {
        Self::established_with(&[], &[])
    }

    fn established_with(offered: &[u8], answered: &[u8]) -> Self {
        let mut scene = Self::default();
        scene.passes(Original, Segment { options: offered, ..syn(1000) });
        scene.passes(Reply, Segment { options: answered, ..syn_ack(5000, 1001) });
        scene.passes(Original, ack(1001, 5001));
        assert_eq!(scene.state(), TcpState::Established);
        scene
    }

    /// Judges a segment and does what the engine does then.
    fn send(&mut self, direction: Direction, segment: Segment<'_>) -> Judgement {
        self.judge(direction, &segment.header(), segment.data)
    }

    /// Judges a segment of these bytes, as if so much data followed.
    fn judge(&mut self, direction: Direction, bytes: &[u8], data: u32) -> Judgement {
        self.changes = Changes::default();
        let mut context = Context {
            now: self.now,
            settings: &self.settings,
            profile: self.profile,
            direction,
            verify: self.verify,
            changes: &mut self.changes,
            coverage: self.coverage.as_mut(),
        };
        let mut segment = TcpSegment::parse(bytes).unwrap();
        segment.payload = data;
        let datagram = datagram(protocol::TCP, bytes);
        let judgement =
            packet(&mut context, &mut self.entry, &mut self.window, &datagram, segment, self.shift);
        if let Judgement::Refresh(life) = judgement {
            self.entry.deadline = (self.now + life).0;
        }
        if let Judgement::Refresh(_) | Judgement::Ignore = judgement {
            self.entry.set(Status::CONFIRMED);
            if direction == Reply {
                self.entry.set(Status::SEEN_REPLY);
            }
        }
        judgement
    }

    /// Sends a segment that is to count; how many seconds the connection lives then.
    fn passes(&mut self, direction: Direction, segment: Segment<'_>) -> u32 {
        match self.send(direction, segment) {
            Judgement::Refresh(life) => life.seconds(),
            other => panic!("{other:?} of {segment:?} {direction:?} in {}", self.state()),
        }
    }

    fn passes_by(&mut self, direction: Direction, segment: Segment<'_>) {
        let before = (self.entry.state, self.entry.deadline);
        assert_eq!(self.send(direction, segment), Judgement::Ignore);
        assert_eq!((self.entry.state, self.entry.deadline), before);
    }

    fn refuses(&mut self, direction: Direction, segment: Segment<'_>, reason: Reason) {
        let before = self.entry.state;
        assert_eq!(self.send(direction, segment), Judgement::Invalid(reason));
        assert_eq!(self.entry.state, before);
    }

    fn state(&self) -> TcpState {
        TcpState::from_number(self.entry.state).expect("the tracker leaves states")
    }

    fn is_assured(&self) -> bool {
        self.entry.has(Status::ASSURED)
    }

    fn side(&self, direction: Direction) -> TcpSide {
        self.window.seen[direction as usize]
    }

    fn seconds_left(&self) -> i32 {
        self.entry.deadline().after(self.now) / 250
    }

    fn wait(&mut self, seconds: u32) {
        self.now = self.now + Ticks::from_seconds(seconds);
    }
}

/// The window that segments announce where nothing else is said.
const WINDOW: u16 = 8000;

const SCALE_7_AND_SACK: [u8; 8] = [1, 3, 3, 7, 1, 1, 4, 2];
const SACK_PERMITTED: [u8; 4] = [1, 1, 4, 2];

/// What a segment is made of; the data itself is nobody's concern here.
#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    numbers: [u32; 2],
    flags: u8,
    window: u16,
    /// Bytes of data.
    data: u32,
    options: &'a [u8],
}

impl Segment<'_> {
    /// The header as it is sent, options filled up to whole words.
    fn header(&self) -> Vec<u8> {
        let words = 5 + self.options.len().div_ceil(4);
        let mut bytes = vec![0x9c, 0x40, 0x01, 0xbb];
        bytes.extend(self.numbers.iter().flat_map(|number| number.to_be_bytes()));
        bytes.extend([(words as u8) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.options);
        bytes.resize(words * 4, 0);
        bytes
    }
}

const fn segment(numbers: [u32; 2], flags: u8, data: u32) -> Segment<'static> {
    Segment { numbers, flags, window: WINDOW, data, options: &[] }
}

const fn syn(sequence: u32) -> Segment<'static> {
    segment([sequence, 0], SYN, 0)
}

const fn syn_ack(sequence: u32, acknowledgement: u32) -> Segment<'static> {
    segment([sequence, acknowledgement], SYN | ACK, 0)
}

const fn ack(sequence: u32, acknowledgement: u32) -> Segment<'static> {
    segment([sequence, acknowledgement], ACK, 0)
}

const fn data(sequence: u32, acknowledgement: u32, length: u32) -> Segment<'static> {
    segment([sequence, acknowledgement], ACK, length)
}

const fn fin(sequence: u32, acknowledgement: u32) -> Segment<'static> {
    segment([sequence, acknowledgement], FIN | ACK, 0)
}

const fn reset(sequence: u32) -> Segment<'static> {
    segment([sequence, 0], RST, 0)
}

const fn reset_ack(sequence: u32, acknowledgement: u32) -> Segment<'static> {
    segment([sequence, acknowledgement], RST | ACK, 0)
}
