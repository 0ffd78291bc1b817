//! Reading a line.

use std::net::IpAddr;

use thiserror::Error;

use super::{STATUS_TAGS, UNREPLIED, event_tag};
use crate::{
    Counters, DccpState, EventKind, Family, Flow, Helper, Layer4, Mark, Protocol, ProtocolState,
    SctpState, SctpTracking, Status, TcpState, Tuple, Zone, ZoneDirection,
};

/// Why a line is not an entry: what stands at which column, and what should stand there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("column {column}: {message}")]
pub struct TextError {
    /// Where, in characters from 1; one past the end for what is missing.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// A line with what stands in front of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextLine {
    /// The event's tag, in lines of `conntrack -E`.
    pub event: Option<EventKind>,
    /// The namespace, in lists of several.
    pub namespace: Option<String>,
    /// The entry.
    pub flow: Flow,
}

/// Reads the entry of a line.
///
/// Fields that a line leaves out stay absent, and unknown ones (`key=value`, `[TAG]`) are passed
/// over. What the text does not carry is inferred where it follows: an entry in a listing is
/// confirmed, and one whose reply is not its original inverted is translated. `delta-time=` and
/// `[start=…]` (local time without a zone) are passed over.
pub fn parse(line: &str) -> Result<Flow, TextError> {
    parse_line(line).map(|line| line.flow)
}

/// Reads a line of a listing or of `conntrack -E`.
pub fn parse_line(line: &str) -> Result<TextLine, TextError> {
    let mut words = Words { line, position: 0 };
    let event = skip_stamp_and_tag(&mut words);
    let family = family(&mut words)?;
    let mut draft = Draft::new(protocol(&mut words)?);
    draft.timeout(&mut words)?;
    draft.state(&mut words)?;
    while let Some(word) = words.next() {
        draft.field(&words, word)?;
    }
    let namespace = draft.namespace.take();
    let flow = draft.finish(&words)?;
    match family {
        Some(family) if family != flow.family() => {
            Err(words.error_at(0, format!("the line says {family}, its addresses do not")))
        }
        _ => Ok(TextLine { event, namespace, flow }),
    }
}

/// A word and its byte position in the line.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    position: usize,
}

/// The blank-separated words of a line; `[…]` is one word, blanks and all.
#[derive(Clone, Copy)]
struct Words<'a> {
    line: &'a str,
    position: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        let rest = self.line.get(self.position..)?;
        let text = rest.trim_start();
        let position = self.line.len() - text.len();
        let closing = if text.starts_with('[') { text.find(']') } else { None };
        let length = closing
            .map_or_else(|| text.find(char::is_whitespace).unwrap_or(text.len()), |end| end + 1);
        self.position = position + length;
        if length == 0 { None } else { Some(Word { text: &text[..length], position }) }
    }

    fn peek(&self) -> Option<Word<'a>> {
        let mut ahead = *self;
        ahead.next()
    }

    /// The next word if `wanted` takes it.
    fn next_if(&mut self, wanted: impl FnOnce(&str) -> bool) -> Option<Word<'a>> {
        let word = self.peek().filter(|word| wanted(word.text))?;
        self.next();
        Some(word)
    }

    fn error(&self, word: Word<'_>, message: String) -> TextError {
        self.error_at(word.position, message)
    }

    fn error_at(&self, position: usize, message: String) -> TextError {
        let before = self.line.get(..position).unwrap_or(self.line);
        TextError { column: before.chars().count() + 1, message }
    }

    fn missing(&self, what: &str) -> TextError {
        self.error_at(self.line.len(), format!("{what} is missing"))
    }

    fn number<T: std::str::FromStr>(
        &self,
        word: Word<'_>,
        text: &str,
        what: &str,
    ) -> Result<T, TextError> {
        text.parse()
            .map_err(|_| self.error(word, format!("`{}` is not a {what}", shortened(word.text))))
    }
}

fn skip_stamp_and_tag(words: &mut Words<'_>) -> Option<EventKind> {
    let mut event = None;
    while let Some(word) = words.next_if(|word| word.starts_with('[')) {
        let of_tag = |kind: &EventKind| event_tag(*kind).trim_start() == word.text;
        event = event.or_else(|| EventKind::ALL.into_iter().find(of_tag));
    }
    event
}

fn family(words: &mut Words<'_>) -> Result<Option<Family>, TextError> {
    for family in [Family::Ipv4, Family::Ipv6] {
        if words.next_if(|word| word == family.name()).is_some() {
            let word = words.next().ok_or_else(|| words.missing("the family's number"))?;
            return if word.text == family.number().to_string() {
                Ok(Some(family))
            } else {
                Err(words.error(word, format!("{family} has the number {}", family.number())))
            };
        }
    }
    Ok(None)
}

fn protocol(words: &mut Words<'_>) -> Result<Protocol, TextError> {
    let name = words.next().ok_or_else(|| words.missing("the protocol's name"))?;
    let number = words.next().ok_or_else(|| words.missing("the protocol's number"))?;
    let protocol = Protocol(words.number(number, number.text, "protocol number (0 to 255)")?);
    match Protocol::from_name(name.text) {
        Some(named) if named != protocol => {
            Err(words.error(number, format!("{named} has the number {}", named.0)))
        }
        _ => Ok(protocol),
    }
}

/// What the fields of one direction have told so far.
#[derive(Default)]
struct Side {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    icmp_id: Option<u16>,
    packets: Option<u64>,
    bytes: Option<u64>,
}

struct Draft {
    namespace: Option<String>,
    flow: Flow,
    protocol: Protocol,
    sides: [Side; 2],
    /// How many sides have begun.
    begun: usize,
}

impl Draft {
    fn new(protocol: Protocol) -> Self {
        let status = Status::SEEN_REPLY | Status::CONFIRMED;
        let flow = Flow { status, ..Flow::default() };
        let sides = [Side::default(), Side::default()];
        Self { namespace: None, flow, protocol, sides, begun: 0 }
    }

    fn timeout(&mut self, words: &mut Words<'_>) -> Result<(), TextError> {
        if let Some(word) = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            self.flow.timeout = Some(words.number(word, word.text, "timeout in seconds")?);
        }
        Ok(())
    }

    fn state(&mut self, words: &mut Words<'_>) -> Result<(), TextError> {
        let Some(word) = words.next_if(|word| !word.contains(['=', '['])) else {
            return Ok(());
        };
        self.flow.state = match self.protocol {
            Protocol::TCP => tcp_state(word.text).map(ProtocolState::tcp),
            Protocol::SCTP => SctpState::from_name(word.text)
                .map(|state| ProtocolState::Sctp(SctpTracking { state, verification_tags: None })),
            Protocol::DCCP => DccpState::from_name(word.text).map(|state| ProtocolState::Dccp {
                state,
                role: None,
                handshake_sequence: None,
            }),
            _ => None,
        }
        .ok_or_else(|| {
            let text = shortened(word.text);
            words.error(word, format!("`{text}` is not a state of {}", self.protocol))
        })?;
        Ok(())
    }

    fn field(&mut self, words: &Words<'_>, word: Word<'_>) -> Result<(), TextError> {
        if word.text.starts_with('[') {
            self.tag(word.text);
            return Ok(());
        }
        let Some((key, value)) = word.text.split_once('=') else {
            let text = shortened(word.text);
            return Err(words.error(word, format!("`{text}` is not a `key=value` field")));
        };
        match key {
            "src" => return self.begin_side(words, word, value),
            "mark" | "use" | "zone" | "zone-orig" | "zone-reply" => {
                return self.entry_number(words, word, key, value);
            }
            "id" if self.icmp_id_is_known() => {
                self.flow.id = Some(words.number(word, value, "32-bit id")?);
            }
            "helper" => {
                let helper = Helper { name: unescape(value).into(), info: Box::default() };
                self.flow.helper = Some(Box::new(helper));
            }
            "netns" => self.namespace = Some(unescape(value)),
            "secctx" => self.flow.security_context = Some(unescape(value).into()),
            _ => return self.side_field(words, word, key, value),
        }
        Ok(())
    }

    fn tag(&mut self, tag: &str) {
        if tag == UNREPLIED {
            self.flow.status = self.flow.status & !Status::SEEN_REPLY;
        } else if let Some((bit, _)) = STATUS_TAGS.into_iter().find(|(_, text)| *text == tag) {
            self.flow.status |= bit;
        }
    }

    /// `id=` stands in ICMP's tuples and, after them, for the entry.
    fn icmp_id_is_known(&mut self) -> bool {
        !self.protocol.is_icmp() || self.side().is_none_or(|side| side.icmp_id.is_some())
    }

    fn entry_number(
        &mut self,
        words: &Words<'_>,
        word: Word<'_>,
        key: &str,
        value: &str,
    ) -> Result<(), TextError> {
        let direction = match key {
            "mark" => {
                self.flow.mark = Some(Mark(words.number(word, value, "32-bit mark")?));
                return Ok(());
            }
            "use" => {
                self.flow.use_count = Some(words.number(word, value, "count of references")?);
                return Ok(());
            }
            "zone-orig" => ZoneDirection::Original,
            "zone-reply" => ZoneDirection::Reply,
            _ => ZoneDirection::Both,
        };
        let id = words.number(word, value, "zone (0 to 65535)")?;
        // `/proc/net/nf_conntrack` ends in `zone=0` also where a direction has one.
        if id != 0 {
            self.flow.zone = Zone { id, direction };
        }
        Ok(())
    }

    fn begin_side(
        &mut self,
        words: &Words<'_>,
        word: Word<'_>,
        value: &str,
    ) -> Result<(), TextError> {
        let source = words.number(word, value, "source address")?;
        self.begun += 1;
        match self.side() {
            Some(side) => side.source = Some(source),
            None => return Err(words.error(word, "a third tuple begins here".to_owned())),
        }
        Ok(())
    }

    /// The side begun last.
    fn side(&mut self) -> Option<&mut Side> {
        self.sides.get_mut(self.begun.checked_sub(1)?)
    }

    fn side_field(
        &mut self,
        words: &Words<'_>,
        word: Word<'_>,
        key: &str,
        value: &str,
    ) -> Result<(), TextError> {
        let mut nowhere = Side::default();
        let known_before_a_tuple = self.begun == 0;
        let side = self.side().unwrap_or(&mut nowhere);
        match key {
            "dst" => side.destination = Some(words.number(word, value, "destination address")?),
            "sport" => side.source_port = Some(words.number(word, value, "port")?),
            "dport" => side.destination_port = Some(words.number(word, value, "port")?),
            "srckey" => side.source_port = Some(gre_key(words, word, value)?),
            "dstkey" => side.destination_port = Some(gre_key(words, word, value)?),
            "type" => side.icmp_type = Some(words.number(word, value, "ICMP type")?),
            "code" => side.icmp_code = Some(words.number(word, value, "ICMP code")?),
            "id" => side.icmp_id = Some(words.number(word, value, "ICMP id")?),
            "packets" => side.packets = Some(words.number(word, value, "count of packets")?),
            "bytes" => side.bytes = Some(words.number(word, value, "count of bytes")?),
            _ => return Ok(()),
        }
        if known_before_a_tuple {
            return Err(words.error(word, format!("`{key}=` stands before `src=`")));
        }
        Ok(())
    }

    fn finish(mut self, words: &Words<'_>) -> Result<Flow, TextError> {
        let [original, reply] = &self.sides;
        let (original_tuple, reply_tuple) = (
            original.tuple(self.protocol, words, "original")?,
            reply.tuple(self.protocol, words, "reply")?,
        );
        if original_tuple.family() != reply_tuple.family() {
            return Err(words.error_at(0, "the two tuples are of different families".to_owned()));
        }
        self.flow.counters_original = original.counters();
        self.flow.counters_reply = reply.counters();
        self.flow.original = original_tuple;
        self.flow.reply = reply_tuple;
        self.flow.status |= translation(&original_tuple, &reply_tuple);
        Ok(self.flow)
    }
}

impl Side {
    fn tuple(&self, protocol: Protocol, words: &Words<'_>, name: &str) -> Result<Tuple, TextError> {
        let missing = |field: &str| words.missing(&format!("`{field}=` of the {name} tuple"));
        let source = self.source.ok_or_else(|| missing("src"))?;
        let destination = self.destination.ok_or_else(|| missing("dst"))?;
        if source.is_ipv4() != destination.is_ipv4() {
            let message = format!("the {name} tuple's addresses are of different families");
            return Err(words.error_at(0, message));
        }
        let layer4 = if protocol.is_icmp() {
            Layer4::Icmp {
                kind: self.icmp_type.ok_or_else(|| missing("type"))?,
                code: self.icmp_code.ok_or_else(|| missing("code"))?,
                id: self.icmp_id.ok_or_else(|| missing("id"))?,
            }
        } else {
            match (self.source_port, self.destination_port) {
                (Some(source), Some(destination)) => Layer4::Ports { source, destination },
                (None, None) if !protocol.has_ports() => Layer4::None,
                (None, _) => return Err(missing("sport")),
                (_, None) => return Err(missing("dport")),
            }
        };
        Ok(Tuple { source, destination, protocol, layer4 })
    }

    fn counters(&self) -> Option<Counters> {
        Some(Counters { packets: self.packets?, bytes: self.bytes? })
    }
}

/// Older tools call `SYN_SENT2` by its first name.
fn tcp_state(name: &str) -> Option<TcpState> {
    if name == "LISTEN" { Some(TcpState::SynSent2) } else { TcpState::from_name(name) }
}

fn gre_key(words: &Words<'_>, word: Word<'_>, value: &str) -> Result<u16, TextError> {
    match value.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16)
            .map_err(|_| words.error(word, format!("`{}` is not a key", shortened(word.text)))),
        None => words.number(word, value, "key"),
    }
}

/// The translation bits that the two tuples imply.
pub(crate) fn translation(original: &Tuple, reply: &Tuple) -> Status {
    let Some(plain) = original.inverted() else {
        return Status::default();
    };
    let sources = |tuple: &Tuple| (tuple.source, tuple.source_port());
    let destinations = |tuple: &Tuple| (tuple.destination, tuple.destination_port());
    let mut status = Status::default();
    if destinations(&plain) != destinations(reply) {
        status |= Status::SRC_NAT;
    }
    if sources(&plain) != sources(reply) {
        status |= Status::DST_NAT;
    }
    status
}

/// Undoes the writer's `\xNN`; anything else stays as it is.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if let Some((byte, after)) = escaped(rest) {
            bytes.push(byte);
            rest = after;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.strip_prefix(b"\\x")?.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u8::from_str_radix(digits, 16).ok()?, after))
}

/// Text of a line as a message may quote it: hostile characters escaped, not too long.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut quoted: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().count() > LONGEST {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed's listing, to the letter (its lines carry no `mark=`).
    const SEED: [&str; 7] = [
        "tcp      6 1 TIME_WAIT src=150.136.89.255 dst=192.168.2.2 sport=55824 dport=22 src=192.168.2.2 dst=150.136.89.255 sport=22 dport=55824 [ASSURED] use=1",
        "udp      17 13 src=127.0.0.1 dst=127.0.0.53 sport=59443 dport=53 [UNREPLIED] src=127.0.0.53 dst=127.0.0.1 sport=53 dport=59443 use=1",
        "tcp      6 431999 ESTABLISHED src=192.168.2.30 dst=192.168.2.2 sport=61167 dport=22 src=192.168.2.2 dst=192.168.2.30 sport=22 dport=61167 [ASSURED] use=1",
        "udp      17 14 src=192.168.2.2 dst=192.73.248.83 sport=41641 dport=3478 src=192.73.248.83 dst=192.168.2.2 sport=3478 dport=41641 use=1",
        "udp      17 13 src=192.168.2.2 dst=102.67.165.90 sport=41641 dport=3478 src=102.67.165.90 dst=192.168.2.2 sport=3478 dport=41641 use=1",
        "udp      17 13 src=127.0.0.1 dst=127.0.0.53 sport=35164 dport=53 [UNREPLIED] src=127.0.0.53 dst=127.0.0.1 sport=53 dport=35164 use=1",
        "udp      17 13 src=127.0.0.1 dst=127.0.0.53 sport=41767 dport=53 [UNREPLIED] src=127.0.0.53 dst=127.0.0.1 sport=53 dport=41767 use=1",
    ];

    fn column(line: &str) -> usize {
        parse(line).unwrap_err().column
    }

    #[test]
    fn the_seeds_listing() {
        let flows: Vec<Flow> = SEED.iter().map(|line| parse(line).unwrap()).collect();
        assert_eq!(flows[0].state.name(), Some("TIME_WAIT"));
        assert_eq!(flows[0].mark, None);
        assert!(flows[0].is_assured() && flows[0].is_replied());
        assert_eq!(flows[2].timeout, Some(431_999));
        assert_eq!(flows[2].original.source_port(), Some(61167));
        assert_eq!(flows.iter().filter(|flow| !flow.is_replied()).count(), 3);
        assert!(flows.iter().all(|flow| flow.use_count == Some(1)));
        for (flow, line) in flows.iter().zip(SEED) {
            let mut out = Vec::new();
            super::super::write(flow, &crate::text::TextOptions::default(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }

    #[test]
    fn proc_with_family_and_full_ipv6() {
        let flow = parse(
            "ipv6     10 udp      17 29 src=fd77:0001:0000:0000:0000:0000:0000:0002 \
             dst=fd77:0002:0000:0000:0000:0000:0000:0002 sport=1 dport=2 packets=3 bytes=144 \
             [UNREPLIED] src=fd77:0002:0000:0000:0000:0000:0000:0002 \
             dst=fd77:0001:0000:0000:0000:0000:0000:0002 sport=2 dport=1 packets=0 bytes=0 mark=0 \
             zone=0 use=2",
        )
        .unwrap();
        assert_eq!(flow.family(), Family::Ipv6);
        assert_eq!(flow.packets(), Some(3));
        assert_eq!(flow.zone, Zone::DEFAULT);
    }

    /// `gre_print_conntrack` of Linux puts its timeouts before the tuple.
    #[test]
    fn proc_of_gre() {
        let flow = parse(
            "ipv4     2 gre      47 99 timeout=0, stream_timeout=0 src=10.0.0.1 dst=10.0.0.2 \
             srckey=0x4 dstkey=0x5 packets=0 bytes=0 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 \
             srckey=0x5 dstkey=0x4 packets=0 bytes=0 mark=0 zone=0 delta-time=0 use=2",
        )
        .unwrap();
        assert_eq!(flow.timeout, Some(99));
        assert_eq!(flow.original.layer4, Layer4::Ports { source: 4, destination: 5 });
    }

    #[test]
    fn icmp_ids_and_entry_ids() {
        let flow = parse(
            "icmp     1 199 src=10.5.0.1 dst=10.5.9.9 type=8 code=0 id=77 src=10.5.9.9 \
             dst=10.5.0.1 type=0 code=0 id=77 mark=7 use=1 id=3307787738",
        )
        .unwrap();
        assert_eq!(flow.original.layer4, Layer4::Icmp { kind: 8, code: 0, id: 77 });
        assert_eq!(flow.id, Some(3_307_787_738));
        assert_eq!(flow.mark, Some(Mark(7)));
    }

    #[test]
    fn events_with_stamp_and_user() {
        let line = parse_line(
            "[1795356557.425018]\t[DESTROY] ipv4     2 udp      17 src=10.0.0.1 dst=10.0.0.2 \
             sport=5 dport=6 src=10.0.0.2 dst=10.0.0.1 sport=6 dport=5 delta-time=0 \
             [start=Sun Nov 22 14:10:02 2026] id=83357661 [USERSPACE] portid=2518615288 \
             progname=conntrack",
        )
        .unwrap();
        assert_eq!(line.event, Some(EventKind::Destroy));
        assert_eq!(line.flow.timeout, None);
        assert_eq!(line.flow.id, Some(83_357_661));
    }

    #[test]
    fn translation_is_inferred() {
        let flow = parse(
            "tcp      6 319 ESTABLISHED src=10.5.0.10 dst=10.5.9.10 sport=3333 dport=80 \
             src=192.0.2.2 dst=10.5.0.10 sport=8080 dport=3333 [ASSURED] mark=0 use=1",
        )
        .unwrap();
        assert!(flow.is_destination_translated() && !flow.is_source_translated());
    }

    #[test]
    fn errors_point_at_the_column() {
        assert_eq!(column(""), 1);
        assert_eq!(column("tcp"), 4);
        assert_eq!(column("tcp      17 1"), 10);
        assert_eq!(column("tcp      6 1 OPEN src=1.2.3.4"), 14);
        assert_eq!(column("udp      17 9 src=1.2.3.400 dst=1.2.3.4"), 15);
        assert_eq!(column("udp      17 9 src=1.2.3.4 dst=1.2.3.5 sport=99999"), 39);
        assert_eq!(column("ipv4     3 udp"), 10);
        assert_eq!(column("udp 17 9 dst=1.2.3.4"), 10);
        assert_eq!(column("udp 17 9 src=1.2.3.4 dst=1.2.3.5 sport=1 dport=1 src=::1"), 57);
    }
}
