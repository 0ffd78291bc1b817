//! Helpers: what reads along in a connection and announces others.
//!
//! Protocols such as FTP agree on a second connection in the words of the first. A [`Helper`] sees
//! what each side of a connection says and announces the connections to come, which then are
//! [related](crate::Class::Related) to it.
//!
//! A helper looks at packets behind all rules, last before a connection is confirmed
//! (`nf_confirm`, `nf_conntrack_proto.c`, Linux 6.12), and may drop one. It does not change them:
//! addresses within the words of a translated connection stay as they are, as without the kernel's
//! `nf_nat_*` modules.

mod ftp;

use std::collections::BTreeMap;
use std::fmt;

use ctkeeper_flow::Direction;

pub use crate::expect::{Announcement, Mask, Policy, Refused};
use crate::expect::{Expectations, Origin};
use crate::outcome::{Class, Handle, Verdict};
use crate::packet::Datagram;
use crate::time::Ticks;
pub use crate::track::gre::CallExists;
use crate::tuple::Tuple;
pub use ftp::Ftp;

/// What a helper is shown: a packet of its connection, behind the tracker.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// How the packet stands to the connection.
    pub class: Class,
    /// Which direction it goes in.
    pub direction: Direction,
    /// The connection's tuple in original direction.
    pub original: Tuple,
    /// The connection's tuple in reply direction.
    pub reply: Tuple,
    /// The packet as it leaves or reaches its socket.
    pub datagram: Datagram<'a>,
}

impl Sight<'_> {
    /// The connection's tuple in the direction of the packet.
    pub const fn own(&self) -> &Tuple {
        match self.direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        }
    }

    /// The connection's tuple in the other direction.
    pub const fn other(&self) -> &Tuple {
        match self.direction {
            Direction::Original => &self.reply,
            Direction::Reply => &self.original,
        }
    }
}

/// What a helper keeps of one connection (`struct nf_conn_help`, of the kernel's size).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory(pub [u32; 8]);

/// Takes announcements for the connection that is looked at.
pub trait Announce {
    /// Announces a connection to come.
    ///
    /// # Errors
    /// [`Refused`]: the packet had better be dropped, or what it agrees on will not work.
    fn announce(&mut self, announcement: Announcement) -> Result<(), Refused>;
}

/// Reads along in connections that a rule has given to it.
pub trait Helper: fmt::Debug + Send {
    /// Its name, as rules and listings call it.
    fn name(&self) -> &str;

    /// IANA number of the protocol whose connections it can be given.
    fn protocol(&self) -> u8;

    /// What it allows a connection in a class of its announcements.
    fn policy(&self, class: u8) -> Policy;

    /// Looks at a packet of a connection.
    fn inspect(
        &self,
        memory: &mut Memory,
        sight: &Sight<'_>,
        announcements: &mut dyn Announce,
    ) -> Verdict;

    /// Prepares for a connection that was not seen from its beginning.
    fn adopt(&self, memory: &mut Memory) {
        let _ = memory;
    }
}

/// The helpers of an engine, and the connections that have one.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    list: Vec<Box<dyn Helper>>,
    /// By line and id of the connection: the helper's number and its memory.
    connections: BTreeMap<(u32, u32), (u16, Memory)>,
}

/// The connection that is looked at, as the engine knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) now: Ticks,
    pub(crate) origin: Origin,
}

impl Helpers {
    /// Takes a helper in and tells its number, from 1 on; `None` beyond 65,535 of them.
    pub(crate) fn add(&mut self, helper: Box<dyn Helper>) -> Option<u16> {
        let number = u16::try_from(self.list.len() + 1).ok()?;
        self.list.push(helper);
        Some(number)
    }

    /// The helper of a number.
    pub(crate) fn by_number(&self, number: u16) -> Option<&dyn Helper> {
        let place = usize::from(number).checked_sub(1)?;
        self.list.get(place).map(AsRef::as_ref)
    }

    /// Gives a connection to a helper; `false` where there is none of that number for its
    /// protocol.
    pub(crate) fn assign(&mut self, master: Handle, number: u16, protocol: u8) -> bool {
        let fits = self.by_number(number).is_some_and(|helper| helper.protocol() == protocol);
        if fits {
            self.connections.insert(key(master), (number, Memory::default()));
        }
        fits
    }

    /// Gives a connection from elsewhere to a helper, which has not heard its beginning.
    pub(crate) fn adopt(&mut self, master: Handle, number: u16, protocol: u8) -> bool {
        if !self.assign(master, number, protocol) {
            return false;
        }
        let memory = self.connections.get_mut(&key(master)).map(|(_, memory)| memory);
        let helper = usize::from(number).checked_sub(1).and_then(|place| self.list.get(place));
        if let (Some(memory), Some(helper)) = (memory, helper) {
            helper.adopt(memory);
        }
        true
    }

    /// The number of a connection's helper and what it keeps of the connection.
    pub(crate) fn kept(&self, master: Handle) -> Option<(u16, Memory)> {
        self.connections.get(&key(master)).copied()
    }

    /// Puts back what [`Self::kept`] told. The helper itself need not be there yet.
    pub(crate) fn put_back(&mut self, master: Handle, kept: (u16, Memory)) {
        self.connections.insert(key(master), kept);
    }

    /// Forgets a connection that ends.
    pub(crate) fn forget(&mut self, master: Handle) {
        self.connections.remove(&key(master));
    }

    /// Lets the helper of a connection look at a packet of it. Errors about the connection (ICMP)
    /// in reply direction must not come here, packets of connections without helper need not.
    pub(crate) fn inspect(
        &mut self,
        subject: Subject,
        sight: &Sight<'_>,
        expectations: &mut Expectations,
    ) -> Verdict {
        let found = self.connections.get_mut(&key(subject.origin.master));
        let Some((number, memory)) = found else { return Verdict::Accept };
        let Some(helper) = usize::from(*number).checked_sub(1).and_then(|at| self.list.get(at))
        else {
            return Verdict::Accept;
        };
        let helper = helper.as_ref();
        let mut scribe = Scribe { subject, helper, expectations };
        helper.inspect(memory, sight, &mut scribe)
    }
}

const fn key(master: Handle) -> (u32, u32) {
    (master.line, master.id)
}

/// Writes announcements of one connection into the table.
struct Scribe<'a> {
    subject: Subject,
    helper: &'a dyn Helper,
    expectations: &'a mut Expectations,
}

impl Announce for Scribe<'_> {
    fn announce(&mut self, announcement: Announcement) -> Result<(), Refused> {
        let Subject { now, origin } = self.subject;
        let policy = self.helper.policy(announcement.class);
        self.expectations.expect(now, origin, announcement, policy).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::{ExpectationFlags, Family};

    use super::*;
    use crate::tuple::protocol;

    const MASTER: Handle = Handle { line: 4, id: 2 };
    const SUBJECT: Subject =
        Subject { now: Ticks(50), origin: Origin { master: MASTER, namespace: 0, zone: 0 } };

    /// Announces a connection to the port that the payload's only byte names, and counts packets.
    #[derive(Debug)]
    struct Echo;

    impl Helper for Echo {
        fn name(&self) -> &'static str {
            "echo"
        }

        fn protocol(&self) -> u8 {
            protocol::UDP
        }

        fn policy(&self, class: u8) -> Policy {
            Policy { maximum: class.into(), timeout: Ticks(100) }
        }

        fn inspect(
            &self,
            memory: &mut Memory,
            sight: &Sight<'_>,
            announcements: &mut dyn Announce,
        ) -> Verdict {
            memory.0[0] += 1;
            let [port] = *sight.datagram.payload else { return Verdict::Accept };
            let tuple = Tuple { destination_id: port.into(), ..*sight.other() };
            let flags = ExpectationFlags::default();
            let announcement =
                Announcement { tuple, mask: Mask::ADDRESS, class: 1, flags, helper: 0 };
            match announcements.announce(announcement) {
                Ok(()) => Verdict::Accept,
                Err(_) => Verdict::Drop,
            }
        }
    }

    fn tuple() -> Tuple {
        let (source, destination, source_id, destination_id) = (1, 2, 10, 20);
        let (protocol, family) = (protocol::UDP, Family::Ipv4);
        Tuple { source, destination, source_id, destination_id, protocol, family }
    }

    fn inspect(helpers: &mut Helpers, table: &mut Expectations, payload: &[u8]) -> Verdict {
        let datagram = Datagram {
            family: Family::Ipv4,
            source: 1,
            destination: 2,
            protocol: protocol::UDP,
            hop_limit: 64,
            header: 20,
            length: 20 + payload.len() as u32,
            payload,
        };
        let (class, direction) = (Class::Established, Direction::Original);
        let (original, reply) = (tuple(), tuple().inverted().unwrap());
        helpers.inspect(SUBJECT, &Sight { class, direction, original, reply, datagram }, table)
    }

    #[test]
    fn only_connections_that_have_a_helper_are_read() {
        let (mut helpers, mut table) = (Helpers::default(), Expectations::new(4));
        let number = helpers.add(Box::new(Echo)).unwrap();
        assert_eq!((number, helpers.by_number(1).map(Helper::name)), (1, Some("echo")));
        assert_eq!(inspect(&mut helpers, &mut table, &[9]), Verdict::Accept);
        assert_eq!(table.held(0), 0);
        assert!(!helpers.assign(MASTER, 0, protocol::UDP));
        assert!(!helpers.assign(MASTER, 2, protocol::UDP));
        assert!(!helpers.assign(MASTER, number, protocol::TCP));
        assert!(helpers.assign(MASTER, number, protocol::UDP));
        assert_eq!(inspect(&mut helpers, &mut table, &[9]), Verdict::Accept);
        assert_eq!(table.held(0), 1);
        let expected = table.of_namespace(0, Ticks(149)).next().unwrap();
        assert_eq!((expected.origin, expected.announcement.tuple.destination), (SUBJECT.origin, 1));
        helpers.forget(MASTER);
        inspect(&mut helpers, &mut table, &[10]);
        assert_eq!(table.held(0), 1, "nobody reads any more");
    }

    #[test]
    fn a_policy_is_that_of_the_class_and_memory_is_the_connections() {
        let (mut helpers, mut table) = (Helpers::default(), Expectations::new(4));
        let number = helpers.add(Box::new(Echo)).unwrap();
        helpers.assign(MASTER, number, protocol::UDP);
        for port in [9, 10] {
            inspect(&mut helpers, &mut table, &[port]);
        }
        assert_eq!(table.held(0), 1, "one at a time in class 1");
        assert_eq!(helpers.connections[&key(MASTER)].1.0[0], 2);
    }

    #[test]
    fn a_helper_that_is_refused_drops() {
        let (mut helpers, mut table) = (Helpers::default(), Expectations::new(0));
        let number = helpers.add(Box::new(Echo)).unwrap();
        helpers.assign(MASTER, number, protocol::UDP);
        assert_eq!(inspect(&mut helpers, &mut table, &[9]), Verdict::Drop);
    }
}
