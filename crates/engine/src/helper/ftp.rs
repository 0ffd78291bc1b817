//! FTP: data connections, from what client and server say on the control connection
//! (`nf_conntrack_ftp.c`, Linux 6.12; 6.1 decides alike).

mod words;

use ctkeeper_flow::{Direction, ExpectationFlags};

use super::{Announce, Announcement, Helper, Mask, Memory, Policy, Sight};
use crate::outcome::{Class, Verdict};
use crate::packet::{Datagram, TcpSegment};
use crate::time::Ticks;
use crate::tuple::{Tuple, protocol};
use words::{Endpoint, Found};

/// The FTP helper.
///
/// It reads packets that begin a line only, and knows those by the sequence numbers behind the
/// newlines it has seen: so nobody can slip it words from within the data of another protocol. A
/// command that it knows but that is not complete in its packet is dropped, to be sent again in
/// one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ftp {
    /// Whether an address other than the speaker's own is believed (`loose` of the kernel's
    /// module): to any port of any host, that is.
    pub loose: bool,
}

impl Helper for Ftp {
    fn name(&self) -> &'static str {
        "ftp"
    }

    fn protocol(&self) -> u8 {
        protocol::TCP
    }

    fn policy(&self, _class: u8) -> Policy {
        Policy { maximum: 1, timeout: Ticks::from_seconds(5 * 60) }
    }

    fn inspect(
        &self,
        memory: &mut Memory,
        sight: &Sight<'_>,
        announcements: &mut dyn Announce,
    ) -> Verdict {
        let (Class::Established, Some(said)) = (sight.class, said(&sight.datagram)) else {
            return Verdict::Accept;
        };
        let mut lines = Lines::of(memory, sight.direction);
        if !lines.begin_at(said.sequence) && !lines.take_up() {
            lines.note(&said);
            return Verdict::Accept;
        }
        let verdict = match words::find(sight.direction, said.words, Endpoint::of(sight.own())) {
            Found::Nothing => Verdict::Accept,
            Found::Part => return Verdict::Drop,
            Found::Whole(endpoint) => self.announce(sight, endpoint, announcements),
        };
        lines.note(&said);
        verdict
    }

    fn adopt(&self, memory: &mut Memory) {
        for direction in [Direction::Original, Direction::Reply] {
            Lines::of(memory, direction).set_taken_up(true);
        }
    }
}

impl Ftp {
    /// Announces the data connection that the other side will open to an endpoint.
    fn announce(
        self,
        sight: &Sight<'_>,
        endpoint: Endpoint,
        announcements: &mut dyn Announce,
    ) -> Verdict {
        let other = sight.other();
        let destination = if endpoint.address == sight.own().source {
            other.destination
        } else if self.loose {
            endpoint.address
        } else {
            return Verdict::Accept;
        };
        let tuple = Tuple {
            source: other.source,
            destination,
            source_id: 0,
            destination_id: endpoint.port,
            protocol: protocol::TCP,
            family: other.family,
        };
        let flags = ExpectationFlags::default();
        let announcement = Announcement { tuple, mask: Mask::ADDRESS, class: 0, flags, helper: 0 };
        match announcements.announce(announcement) {
            Ok(()) => Verdict::Accept,
            Err(_) => Verdict::Drop,
        }
    }
}

/// What a packet says, and where.
struct Said<'a> {
    sequence: u32,
    words: &'a [u8],
}

/// The words of a packet, if it has any.
fn said<'a>(datagram: &Datagram<'a>) -> Option<Said<'a>> {
    let segment = TcpSegment::parse(datagram.payload).ok()?;
    let header = datagram.payload.len().checked_sub(segment.payload as usize)?;
    let words = datagram.payload.get(header..)?;
    (!words.is_empty()).then_some(Said { sequence: segment.sequence, words })
}

/// Where one side's lines begin: at most two sequence numbers, each behind a newline.
///
/// In the memory, each direction has four words: the two numbers, how many of them are known, and
/// whether the next packet is taken for the beginning of a line.
struct Lines<'a> {
    words: &'a mut [u32],
}

const KNOWN: usize = 2;
const TAKEN_UP: usize = 3;

impl<'a> Lines<'a> {
    fn of(memory: &'a mut Memory, direction: Direction) -> Self {
        let (original, reply) = memory.0.split_at_mut(4);
        let words = match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        };
        Self { words }
    }

    fn known(&self) -> &[u32] {
        match self.words[KNOWN] {
            0 => &[],
            1 => &self.words[..1],
            _ => &self.words[..2],
        }
    }

    fn begin_at(&self, sequence: u32) -> bool {
        self.known().contains(&sequence)
    }

    /// Whether the connection was taken over in its midst, which counts once.
    fn take_up(&mut self) -> bool {
        let taken_up = self.words[TAKEN_UP] != 0;
        self.set_taken_up(false);
        taken_up
    }

    fn set_taken_up(&mut self, taken_up: bool) {
        self.words[TAKEN_UP] = taken_up.into();
    }

    /// Remembers where the next line begins, if the packet ends one: in place of the older number,
    /// and only if it is behind that.
    fn note(&mut self, said: &Said<'_>) {
        let next = said.sequence.wrapping_add(said.words.len() as u32);
        if said.words.last() != Some(&b'\n') || self.begin_at(next) {
            return;
        }
        let place = if let known @ (0 | 1) = self.words[KNOWN] {
            self.words[KNOWN] = known + 1;
            known as usize
        } else {
            let older = usize::from(!is_before(self.words[0], self.words[1]));
            if !is_before(self.words[older], next) {
                return;
            }
            older
        };
        self.words[place] = next;
    }
}

/// Whether a sequence number comes before another.
const fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

#[cfg(test)]
mod tests;
