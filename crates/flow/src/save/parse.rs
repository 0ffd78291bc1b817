//! Reading a command.

use std::net::IpAddr;

use crate::text::{TextError, translation, unescape};
use crate::{
    DccpRole, DccpState, Flow, Helper, Labels, Layer4, Mark, Protocol, ProtocolState, SctpState,
    SctpTracking, Status, TcpFlags, TcpState, TcpTracking, Tuple, Zone, ZoneDirection,
};

/// Reads a command that makes an entry: what [`super::write`] and [`super::write_whole`] write, and
/// `conntrack -A` or `-I` (the word `conntrack` in front or not) with the options that those take.
///
/// The reply is the original inverted where the line does not say otherwise. An address that
/// differs from it is translated, whether the line says so (`-g`, `-n`) or not (`-r`, `-q`), unless
/// there is a `nat=none`. Words that are no options are passed over, but for those of
/// [`super::write_whole`].
pub fn parse(line: &str) -> Result<Flow, TextError> {
    let mut words = Words { line, position: 0 };
    if words.peek().is_some_and(|word| matches!(word.text, "conntrack" | "/usr/sbin/conntrack")) {
        words.next();
    }
    let mut draft = Draft::default();
    while let Some(word) = words.next() {
        draft.word(&mut words, word)?;
    }
    draft.finish().map_err(|message| TextError { column: line.chars().count() + 1, message })
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    position: usize,
}

/// The blank-separated words of a line, without quotes around them.
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
        let length = text.find(char::is_whitespace).unwrap_or(text.len());
        self.position = position + length;
        (length > 0).then(|| Word { text: text[..length].trim_matches('"'), position })
    }

    fn peek(&self) -> Option<Word<'a>> {
        let mut ahead = *self;
        ahead.next()
    }

    fn error(&self, word: Word<'_>, message: String) -> TextError {
        let before = self.line.get(..word.position).unwrap_or(self.line);
        TextError { column: before.chars().count() + 1, message }
    }
}

/// An option with what it takes.
struct Given<'a> {
    name: &'a str,
    value: Word<'a>,
    words: Words<'a>,
}

impl Given<'_> {
    fn wrong(&self, expected: &str) -> TextError {
        let text: String = self.value.text.chars().take(40).collect();
        let message = format!("`{}`: `{text}` is not {expected}", self.name);
        self.words.error(self.value, message)
    }

    /// Decimal, or hexadecimal after `0x`.
    fn number<T: TryFrom<u64>>(&self, expected: &str) -> Result<T, TextError> {
        number(self.value.text).ok_or_else(|| self.wrong(expected))
    }

    fn port(&self) -> Result<Option<u16>, TextError> {
        self.number("a number from 0 to 65535").map(Some)
    }

    fn octet(&self) -> Result<Option<u8>, TextError> {
        self.number("a number from 0 to 255").map(Some)
    }

    fn address(&self) -> Result<Option<IpAddr>, TextError> {
        self.value.text.parse().map(Some).map_err(|_| self.wrong("an address"))
    }

    /// `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]:80`.
    fn endpoint(&self) -> Result<(IpAddr, Option<u16>), TextError> {
        let expected = "an address, or an address and a port such as 10.0.0.1:80 or [fd00::1]:80";
        endpoint(self.value.text).ok_or_else(|| self.wrong(expected))
    }
}

fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    T::try_from(number).ok()
}

fn endpoint(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Some((address, None));
    }
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[') {
        Some(v6) => IpAddr::V6(v6.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    Some((address, Some(port.parse().ok()?)))
}

/// What a line has said so far.
#[derive(Default)]
struct Draft {
    has_command: bool,
    flow: Flow,
    protocol: Option<Protocol>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    reply_source: Option<IpAddr>,
    reply_destination: Option<IpAddr>,
    /// Ports, or keys: source, destination, and those of the reply.
    ports: [Option<u16>; 4],
    /// Ports of `-g` and `-n`.
    translated_ports: [Option<u16>; 2],
    icmp: (Option<u8>, Option<u8>, Option<u16>),
    state: Option<String>,
    tags: (Option<u32>, Option<u32>),
    role: Option<DccpRole>,
    scale: Option<(u8, u8)>,
    flags: Option<(u8, u8)>,
    is_untranslated: bool,
}

impl Draft {
    fn word<'a>(&mut self, words: &mut Words<'a>, word: Word<'a>) -> Result<(), TextError> {
        match word.text {
            "-A" | "-I" | "--add" | "--create" => {
                self.has_command = true;
                Ok(())
            }
            "-U" | "-D" | "-F" | "--update" | "--delete" | "--flush" => {
                let message = format!(
                    "`{}` makes no entry: only -A and -I do (`ctkeeper conntrack -R` runs commands \
                     of every kind)",
                    word.text
                );
                Err(words.error(word, message))
            }
            option if option.starts_with('-') => self.option(words, word),
            extra => self.extra(words, word, extra),
        }
    }

    fn option<'a>(&mut self, words: &mut Words<'a>, word: Word<'a>) -> Result<(), TextError> {
        let (name, value) = match word.text.split_once('=') {
            Some((name, value)) => (name, Some(Word { text: value, ..word })),
            None => (word.text, words.next()),
        };
        let Some(value) = value else {
            return Err(words.error(word, format!("`{name}` wants a value")));
        };
        let given = Given { name, value, words: *words };
        if self.address(&given)? || self.ports(&given)? || self.rest(&given)? {
            return Ok(());
        }
        let name: String = name.chars().take(40).collect();
        Err(words.error(word, format!("`{name}` is no option that makes an entry")))
    }

    fn address(&mut self, given: &Given<'_>) -> Result<bool, TextError> {
        match given.name {
            "-s" | "--src" | "--orig-src" => self.source = given.address()?,
            "-d" | "--dst" | "--orig-dst" => self.destination = given.address()?,
            "-r" | "--reply-src" => self.reply_source = given.address()?,
            "-q" | "--reply-dst" => self.reply_destination = given.address()?,
            "-g" | "--dst-nat" => {
                let (address, port) = given.endpoint()?;
                (self.reply_source, self.translated_ports[0]) = (Some(address), port);
                self.flow.status |= Status::DST_NAT;
            }
            "-n" | "--src-nat" => {
                let (address, port) = given.endpoint()?;
                (self.reply_destination, self.translated_ports[1]) = (Some(address), port);
                self.flow.status |= Status::SRC_NAT;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn ports(&mut self, given: &Given<'_>) -> Result<bool, TextError> {
        match given.name {
            "--sport" | "--orig-port-src" | "--srckey" | "--orig-key-src" => {
                self.ports[0] = given.port()?;
            }
            "--dport" | "--orig-port-dst" | "--dstkey" | "--orig-key-dst" => {
                self.ports[1] = given.port()?;
            }
            "--reply-port-src" | "--reply-key-src" => self.ports[2] = given.port()?,
            "--reply-port-dst" | "--reply-key-dst" => self.ports[3] = given.port()?,
            "--icmp-type" | "--icmpv6-type" => self.icmp.0 = given.octet()?,
            "--icmp-code" | "--icmpv6-code" => self.icmp.1 = given.octet()?,
            "--icmp-id" | "--icmpv6-id" => self.icmp.2 = given.port()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn rest(&mut self, given: &Given<'_>) -> Result<bool, TextError> {
        let flow = &mut self.flow;
        match given.name {
            "-t" | "--timeout" => flow.timeout = Some(given.number("a number of seconds")?),
            "-u" | "--status" => flow.status |= status(given)?,
            "-m" | "--mark" => flow.mark = Some(Mark(given.number("a number of 32 bits")?)),
            "-w" | "--zone" => flow.zone = zone(given, ZoneDirection::Both)?,
            "--orig-zone" => flow.zone = zone(given, ZoneDirection::Original)?,
            "--reply-zone" => flow.zone = zone(given, ZoneDirection::Reply)?,
            "-p" | "--protonum" => self.protocol = Some(protocol(given)?),
            "--state" => self.state = Some(given.value.text.to_owned()),
            // Their bytes stand in network order.
            "--orig-vtag" => self.tags.0 = Some(u32::from_be(given.number("a tag of 32 bits")?)),
            "--reply-vtag" => self.tags.1 = Some(u32::from_be(given.number("a tag of 32 bits")?)),
            "--role" => {
                self.role = Some(match given.value.text {
                    "client" => DccpRole::Client,
                    "server" => DccpRole::Server,
                    _ => return Err(given.wrong("client or server")),
                });
            }
            // The addresses say it.
            "-f" | "--family" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A word that conntrack passes over.
    fn extra(&mut self, words: &Words<'_>, word: Word<'_>, text: &str) -> Result<(), TextError> {
        let Some((name, value)) = text.split_once('=') else {
            return Ok(());
        };
        let value = Word { text: value, ..word };
        let given = Given { name, value, words: *words };
        let pair = || pair(value.text).ok_or_else(|| given.wrong("two numbers from 0 to 255"));
        match name {
            "labels" => {
                let bits = octets(value.text).filter(|bits| bits.iter().all(|bit| *bit < 128));
                let bits = bits.ok_or_else(|| given.wrong("numbers from 0 to 127"))?;
                self.flow.labels = Some(Labels::from_bits(bits));
            }
            "helper" => {
                let name = unescape(value.text).into_boxed_str();
                self.flow.helper = Some(Box::new(Helper { name, info: Box::default() }));
            }
            "master" => {
                let tuple = master(value.text).ok_or_else(|| given.wrong("a tuple"))?;
                self.flow.master = Some(Box::new(tuple));
            }
            "tcp-scale" => self.scale = Some(pair()?),
            "tcp-flags" => self.flags = Some(pair()?),
            "nat" => self.is_untranslated = value.text == "none",
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Flow, String> {
        if !self.has_command {
            return Err("the command is missing: -A or -I".to_owned());
        }
        let protocol = self.protocol.ok_or("the protocol is missing: -p")?;
        let source = self.source.ok_or("the source is missing: -s")?;
        let destination = self.destination.ok_or("the destination is missing: -d")?;
        let layer4 = self.layer4(protocol)?;
        let original = Tuple { source, destination, protocol, layer4 };
        let reply = self.reply(&original);
        let families = [destination, reply.source, reply.destination];
        if families.iter().any(|address| address.is_ipv4() != source.is_ipv4()) {
            return Err("addresses of both families".to_owned());
        }
        self.flow.state = self.protocol_state(protocol)?;
        if !self.is_untranslated {
            self.flow.status |= translation(&original, &reply);
        }
        self.flow.status |= Status::CONFIRMED;
        (self.flow.original, self.flow.reply) = (original, reply);
        Ok(self.flow)
    }

    fn layer4(&self, protocol: Protocol) -> Result<Layer4, String> {
        let (kind, code, id) = self.icmp;
        match (self.ports[0], self.ports[1]) {
            _ if protocol.is_icmp() => Ok(Layer4::Icmp {
                kind: kind.ok_or("the ICMP type is missing")?,
                code: code.ok_or("the ICMP code is missing")?,
                id: id.unwrap_or(0),
            }),
            _ if !protocol.has_ports() => Ok(Layer4::None),
            (Some(source), Some(destination)) => Ok(Layer4::Ports { source, destination }),
            // As kernels have it that do not track DCCP.
            (None, None) if protocol == Protocol::DCCP => Ok(Layer4::None),
            _ if protocol == Protocol::GRE => Err("--srckey and --dstkey are missing".to_owned()),
            _ => Err("--sport and --dport are missing".to_owned()),
        }
    }

    fn reply(&self, original: &Tuple) -> Tuple {
        let mut reply = original.inverted().unwrap_or(Tuple {
            source: original.destination,
            destination: original.source,
            ..*original
        });
        reply.source = self.reply_source.unwrap_or(reply.source);
        reply.destination = self.reply_destination.unwrap_or(reply.destination);
        if let Layer4::Ports { source, destination } = &mut reply.layer4 {
            let [.., said_source, said_destination] = self.ports;
            let [destination_nat, source_nat] = self.translated_ports;
            *source = destination_nat.or(said_source).unwrap_or(*source);
            *destination = source_nat.or(said_destination).unwrap_or(*destination);
        }
        reply
    }

    fn protocol_state(&self, protocol: Protocol) -> Result<ProtocolState, String> {
        let Some(name) = self.state.as_deref() else {
            return match protocol {
                Protocol::TCP | Protocol::SCTP => Err("--state is missing".to_owned()),
                _ => Ok(ProtocolState::None),
            };
        };
        let unknown = || {
            let name: String = name.chars().take(40).collect();
            format!("`{name}` is no state of {protocol}")
        };
        Ok(match protocol {
            Protocol::TCP => {
                let flags = |flags| TcpFlags { flags, mask: 0 };
                ProtocolState::Tcp(TcpTracking {
                    state: TcpState::from_name(name).ok_or_else(unknown)?,
                    window_scale: self.scale,
                    flags: self.flags.map(|(original, reply)| (flags(original), flags(reply))),
                })
            }
            Protocol::SCTP => ProtocolState::Sctp(SctpTracking {
                state: SctpState::from_name(name).ok_or_else(unknown)?,
                verification_tags: match self.tags {
                    (None, None) => None,
                    (original, reply) => Some((original.unwrap_or(0), reply.unwrap_or(0))),
                },
            }),
            Protocol::DCCP => ProtocolState::Dccp {
                state: DccpState::from_name(name).ok_or_else(unknown)?,
                role: self.role,
                handshake_sequence: None,
            },
            _ => return Err(format!("{protocol} has no states")),
        })
    }
}

fn status(given: &Given<'_>) -> Result<Status, TextError> {
    let mut status = Status::default();
    for name in given.value.text.split(',') {
        if name.eq_ignore_ascii_case("unset") {
            continue;
        }
        status |= Status::from_name(name).ok_or_else(|| {
            given.wrong("a list of SEEN_REPLY, ASSURED, EXPECTED, FIXED_TIMEOUT, or UNSET")
        })?;
    }
    Ok(status)
}

fn zone(given: &Given<'_>, direction: ZoneDirection) -> Result<Zone, TextError> {
    let id = given.number("a number from 0 to 65535")?;
    Ok(if id == 0 { Zone::DEFAULT } else { Zone { id, direction } })
}

fn protocol(given: &Given<'_>) -> Result<Protocol, TextError> {
    let text = given.value.text;
    let protocol = Protocol::from_name(text).or_else(|| number(text).map(Protocol));
    protocol.ok_or_else(|| given.wrong("a protocol's name or number"))
}

fn octets(text: &str) -> Option<Vec<u8>> {
    text.split(',').map(|octet| octet.parse().ok()).collect()
}

fn pair(text: &str) -> Option<(u8, u8)> {
    match octets(text)?[..] {
        [original, reply] => Some((original, reply)),
        _ => None,
    }
}

fn master(text: &str) -> Option<Tuple> {
    let mut parts = text.split(',');
    let protocol = Protocol(parts.next()?.parse().ok()?);
    let source: IpAddr = parts.next()?.parse().ok()?;
    let destination: IpAddr = parts.next()?.parse().ok()?;
    let numbers: Vec<u16> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let layer4 = match numbers[..] {
        [] => Layer4::None,
        [source, destination] => Layer4::Ports { source, destination },
        [kind, code, id] => {
            Layer4::Icmp { kind: kind.try_into().ok()?, code: code.try_into().ok()?, id }
        }
        _ => return None,
    };
    let is_one_family = source.is_ipv4() == destination.is_ipv4();
    is_one_family.then_some(Tuple { source, destination, protocol, layer4 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{SaveCommand, write, write_whole};
    use super::*;

    fn whole(flow: &Flow) -> String {
        let mut line = Vec::new();
        write_whole(flow, &mut line);
        String::from_utf8(line).unwrap()
    }

    const BOTH: &str = "-A -t 9 -u SEEN_REPLY,ASSURED -w 7 -s 10.0.0.1 -d 10.0.0.9 -g 192.0.2.2:8080 \
                        -n 192.0.2.1:61000 -p tcp --sport 4000 --dport 80 --reply-port-src 8080 \
                        --reply-port-dst 61000 --state ESTABLISHED -m 18 labels=1,127 helper=f\\x20p \
                        master=6,10.0.0.1,10.0.0.2,4000,21 tcp-scale=7,9 tcp-flags=35,3";

    #[test]
    fn everything_comes_back() {
        let flow = parse(BOTH).unwrap();
        assert_eq!(whole(&flow), BOTH);
        assert!(flow.is_source_translated() && flow.is_destination_translated());
        assert_eq!(flow.helper.unwrap().name.as_ref(), "f p");
        assert_eq!(flow.master.unwrap().destination_port(), Some(21));
    }

    #[test]
    fn v6_ports_stand_behind_brackets() {
        let line = "-A -t 9 -u UNSET -s fd00::1 -d fd00::9 -g [fd00::2]:53 -q fd00::1 -p udp --sport 1 \
                    --dport 2 --reply-port-src 53 --reply-port-dst 1";
        assert_eq!(whole(&parse(line).unwrap()), line);
    }

    #[test]
    fn a_plain_line_tells_its_translated_ports_too() {
        let line = "-A -t 9 -u UNSET -s 10.0.0.1 -d 10.0.0.9 -r 10.0.0.9 -q 10.0.0.1 -p udp --sport 1 \
                    --dport 2 --reply-port-src 53 --reply-port-dst 1";
        let flow = parse(line).unwrap();
        assert!(flow.is_destination_translated() && !flow.is_source_translated());
        let untranslated = parse(&format!("{line} nat=none")).unwrap();
        assert!(!untranslated.is_destination_translated());
        assert_eq!(whole(&untranslated), format!("{line} nat=none"));
    }

    #[test]
    fn commands_written_by_hand_read() {
        let flow = parse(
            "conntrack -I --src=10.0.0.1 --dst \"10.0.0.2\" -p icmp --icmp-type 8 --icmp-code 0 -t 5",
        );
        let flow = flow.unwrap();
        assert_eq!(flow.reply.layer4, Layer4::Icmp { kind: 0, code: 0, id: 0 });
        assert_eq!(flow.status, Status::CONFIRMED);
        let flow = parse("-A -t 1 -s ::1 -d ::2 -p 200 other words").unwrap();
        assert_eq!(flow.protocol(), Protocol(200));
    }

    #[test]
    fn errors_tell_the_place() {
        for (line, column, message) in [
            ("-A -t x", 7, "`-t`: `x` is not a number of seconds"),
            ("-A -p tcp -s 10.0.0.1", 22, "destination is missing"),
            ("-D -s 10.0.0.1", 1, "makes no entry"),
            ("-A --frob 5", 4, "`--frob` is no option"),
            ("-A -s", 4, "wants a value"),
            ("-A -p udp -s ::1 -d 10.0.0.1 --sport 1 --dport 2", 49, "both families"),
            ("-A -p tcp -s ::1 -d ::2 --sport 1 --dport 2 --state UP", 55, "no state of tcp"),
            ("-s ::1 -d ::2", 14, "command is missing"),
            ("-A -u ASSURED,X", 7, "list of SEEN_REPLY"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.message.contains(message), "{line}: {error}");
            assert_eq!(error.column, column, "{line}: {error}");
        }
    }

    #[test]
    fn sctp_tags_turn_back() {
        let line = "-A -t 9 -u UNSET -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p sctp --sport 1 \
                    --dport 2 --reply-port-src 2 --reply-port-dst 1 --state ESTABLISHED \
                    --orig-vtag 16777216 --reply-vtag 33554432";
        let flow = parse(line).unwrap();
        let ProtocolState::Sctp(tracking) = flow.state else { panic!("{:?}", flow.state) };
        assert_eq!(tracking.verification_tags, Some((1, 2)));
        let mut plain = Vec::new();
        write(&flow, SaveCommand::Add, &mut plain);
        assert_eq!(String::from_utf8(plain).unwrap(), line);
    }

    proptest! {
        #[test]
        fn no_line_does_harm(line in "(-[A-Za-z]|--[a-z-]{1,12}|[a-z]{1,8}=|[0-9a-f:.,\\[\\]]{0,12}| |\\PC){0,30}") {
            let _ = parse(&line);
        }
    }
}
