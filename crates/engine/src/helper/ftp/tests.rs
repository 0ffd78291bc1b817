use ctkeeper_flow::Direction::{Original, Reply};
use ctkeeper_flow::Family;

use super::*;
use crate::helper::Refused;

const CLIENT: u128 = 0x0a00_0001;
const SERVER: u128 = 0x0a00_0002;

/// A control connection, and what was announced on it.
struct Session {
    helper: Ftp,
    memory: Memory,
    class: Class,
    original: Tuple,
    reply: Tuple,
    announced: Vec<Announcement>,
    refused: Option<Refused>,
}

impl Announce for (&mut Vec<Announcement>, Option<Refused>) {
    fn announce(&mut self, announcement: Announcement) -> Result<(), Refused> {
        self.0.push(announcement);
        self.1.map_or(Ok(()), Err)
    }
}

impl Session {
    fn new() -> Self {
        let original = Tuple {
            source: CLIENT,
            destination: SERVER,
            source_id: 40_000,
            destination_id: 21,
            protocol: protocol::TCP,
            family: Family::Ipv4,
        };
        let (class, announced, refused) = (Class::Established, Vec::new(), None);
        let memory = Memory::default();
        let reply = original.inverted().unwrap();
        Self { helper: Ftp::default(), memory, class, original, reply, announced, refused }
    }

    fn say(&mut self, direction: Direction, sequence: u32, words: &str) -> Verdict {
        let mut payload = vec![0; 20];
        payload[4..8].copy_from_slice(&sequence.to_be_bytes());
        (payload[12], payload[13]) = (0x50, 0x18);
        payload.extend(words.as_bytes());
        let datagram = Datagram {
            family: Family::Ipv4,
            source: CLIENT,
            destination: SERVER,
            protocol: protocol::TCP,
            hop_limit: 64,
            header: 20,
            length: 20 + payload.len() as u32,
            payload: &payload,
        };
        let (class, original, reply) = (self.class, self.original, self.reply);
        let sight = Sight { class, direction, original, reply, datagram };
        let mut announce = (&mut self.announced, self.refused);
        self.helper.inspect(&mut self.memory, &sight, &mut announce)
    }

    /// Both sides have said a line; the next ones begin at 100.
    fn greeted() -> Self {
        let mut session = Self::new();
        session.say(Reply, 80, "220 ready on port\r\n\n");
        session.say(Original, 85, "USER anonymous\n");
        session
    }
}

fn ports(session: &Session) -> Vec<u16> {
    session.announced.iter().map(|one| one.tuple.destination_id).collect()
}

#[test]
fn active_mode_expects_the_server_at_the_client() {
    let mut session = Session::greeted();
    assert_eq!(session.say(Original, 100, "PORT 10,0,0,1,5,6\r\n"), Verdict::Accept);
    let [announced] = session.announced[..] else { panic!("not announced") };
    let Tuple { source, destination, destination_id, .. } = announced.tuple;
    assert_eq!((source, destination, destination_id), (SERVER, CLIENT, 1286));
    assert_eq!((announced.mask, announced.class), (Mask::ADDRESS, 0));
}

#[test]
fn passive_mode_expects_the_client_at_the_server() {
    for words in ["227 Passive (10,0,0,2,5,6)\r\n", "229 Passive (|||1286|)\r\n"] {
        let mut session = Session::greeted();
        assert_eq!(session.say(Reply, 100, words), Verdict::Accept);
        let [announced] = session.announced[..] else { panic!("not announced") };
        let Tuple { source, destination, destination_id, .. } = announced.tuple;
        assert_eq!((source, destination, destination_id), (CLIENT, SERVER, 1286));
    }
}

#[test]
fn only_what_begins_a_line_is_read() {
    let mut session = Session::new();
    let port = "PORT 10,0,0,1,5,6\r\n";
    session.say(Original, 100, port);
    assert!(session.announced.is_empty(), "where lines begin is not known yet");
    session.say(Original, 110, port);
    assert!(session.announced.is_empty(), "this is within a line");
    session.say(Original, 100 + port.len() as u32, port);
    assert_eq!(ports(&session), [1286]);
}

#[test]
fn each_direction_has_its_own_lines_and_words() {
    let mut session = Session::greeted();
    session.say(Original, 100, "227 (10,0,0,1,5,6)\r\n");
    session.say(Reply, 100, "PORT 10,0,0,2,5,6\r\n");
    assert!(session.announced.is_empty());
}

#[test]
fn two_beginnings_are_remembered_and_the_older_makes_way() {
    let mut session = Session::new();
    for sequence in [u32::MAX - 9, 90, 190] {
        session.say(Original, sequence, "NOOP 678\r\n");
    }
    for (sequence, known) in [(0, false), (100, true), (200, true)] {
        let before = session.announced.len();
        session.say(Original, sequence, "PORT 10,0,0,1,5,6\r");
        assert_eq!(session.announced.len() > before, known, "line at {sequence}");
    }
    session.say(Original, 40, "NOOP 678\r\n");
    session.say(Original, 50, "PORT 10,0,0,1,5,7\r\n");
    assert_eq!(session.announced.len(), 2, "an older one is not taken in");
}

#[test]
fn a_part_of_a_command_is_dropped_and_read_when_it_comes_whole() {
    let mut session = Session::greeted();
    assert_eq!(session.say(Original, 100, "PORT 10,0,0"), Verdict::Drop);
    assert_eq!(session.say(Original, 100, "PORT 10,0,0,1,5,6\r\n"), Verdict::Accept);
    assert_eq!(ports(&session), [1286]);
}

#[test]
fn a_dropped_part_ends_no_line() {
    let mut session = Session::greeted();
    assert_eq!(session.say(Original, 100, "PORT 10,\n"), Verdict::Drop);
    session.say(Original, 109, "PORT 10,0,0,1,5,6\r\n");
    assert!(session.announced.is_empty());
}

#[test]
fn an_address_of_somebody_else_is_believed_by_the_loose_only() {
    for loose in [false, true] {
        let mut session = Session::greeted();
        session.helper.loose = loose;
        let port = "PORT 10,0,0,9,5,6\r\n";
        assert_eq!(session.say(Original, 100, port), Verdict::Accept);
        let destinations: Vec<u128> =
            session.announced.iter().map(|one| one.tuple.destination).collect();
        assert_eq!(destinations, if loose { vec![0x0a00_0009] } else { vec![] });
        let next = 100 + port.len() as u32;
        session.say(Original, next, "PORT 10,0,0,1,5,7\r\n");
        assert_eq!(ports(&session).last(), Some(&1287), "the line counts nevertheless");
    }
}

#[test]
fn of_a_translated_client_the_outer_address_is_expected() {
    const OUTER: u128 = 0xc000_0201;
    let mut session = Session::greeted();
    session.reply.destination = OUTER;
    session.say(Original, 100, "PORT 10,0,0,1,5,6\r\n");
    let Tuple { source, destination, .. } = session.announced[0].tuple;
    assert_eq!((source, destination), (SERVER, OUTER));
}

#[test]
fn what_cannot_be_expected_is_dropped_yet_ends_its_line() {
    let mut session = Session::greeted();
    session.refused = Some(Refused::Busy);
    let port = "PORT 10,0,0,1,5,6\r\n";
    assert_eq!(session.say(Original, 100, port), Verdict::Drop);
    session.refused = None;
    let next = 100 + port.len() as u32;
    assert_eq!(session.say(Original, next, port), Verdict::Accept);
    assert_eq!(session.announced.len(), 2);
}

#[test]
fn nothing_is_read_before_both_sides_have_spoken() {
    let mut session = Session::new();
    session.class = Class::New;
    session.say(Original, 85, "USER anonymous\n");
    session.class = Class::Established;
    session.say(Original, 100, "PORT 10,0,0,1,5,6\r\n");
    assert!(session.announced.is_empty());
}

#[test]
fn packets_without_words_are_passed_over() {
    let mut session = Session::greeted();
    let memory = session.memory;
    assert_eq!(session.say(Original, 7, ""), Verdict::Accept);
    assert_eq!(session.memory, memory);
}

#[test]
fn a_connection_taken_over_is_read_from_its_next_packet() {
    let mut session = Session::new();
    session.helper.adopt(&mut session.memory);
    session.say(Original, 5000, "PORT 10,0,0,1,5,6\r\n");
    assert_eq!(ports(&session), [1286]);
    session.say(Original, 6000, "PORT 10,0,0,1,5,7\r\n");
    assert_eq!(ports(&session), [1286], "once only");
}
