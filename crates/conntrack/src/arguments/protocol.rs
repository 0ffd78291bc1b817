//! The protocols' own options.

use ctkeeper_flow::{DccpState, Protocol, SctpState, TcpState};

use super::getopt::{Code, LongOption, Value};
use super::numbers;
use super::options::{self, Legality};
use crate::invocation::{Command, Table, Template};

/// A protocol with options of its own, or one without ([`UNKNOWN`]).
#[derive(Debug)]
pub(crate) struct Extension {
    /// Its name.
    pub(crate) name: &'static str,
    number: u8,
    /// The number of the first option; the others follow in the order of `settings`.
    first: u8,
    /// What the options set, in the order in which they are checked.
    settings: &'static [Setting],
    /// The names of the same in messages.
    names: &'static [&'static str],
    /// The long options and the place of what they set.
    options: &'static [(&'static str, u8)],
    legality: fn(&Command, Table) -> Legality,
    /// Messages that ask for the pair of the original direction, and for that of the reply.
    demands: Option<[&'static str; 2]>,
    state: State,
    /// Its part of the help, a line an option.
    pub(crate) help: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Setting {
    OriginalSource,
    OriginalDestination,
    ReplySource,
    ReplyDestination,
    MaskSource,
    MaskDestination,
    ExpectedSource,
    ExpectedDestination,
    State,
    OriginalTag,
    ReplyTag,
    Role,
    IcmpType,
    IcmpCode,
    IcmpId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    None,
    Tcp,
    Sctp,
    Dccp,
}

/// The protocol of a name or number in any notation of C, and its number. A name of /etc/protocols
/// that is none of conntrack's own stands for a protocol without options, a number never does where
/// there is one with them.
pub(super) fn find(
    text: &[u8],
    by_name: impl FnOnce(&[u8]) -> Option<u8>,
) -> Option<(&'static Extension, Protocol)> {
    let own = |found: &&&Extension| found.name.as_bytes().eq_ignore_ascii_case(text);
    if let Some(extension) = KNOWN.iter().find(own) {
        return Some((extension, Protocol(extension.number)));
    }
    // A name of digits alone would hide a number: nobody has one, and the file need not be read.
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !is_number && let Some(number) = by_name(text) {
        return Some((&UNKNOWN, Protocol(number)));
    }
    let (number, rest) = numbers::unsigned(text, 0);
    let number = u8::try_from(number).ok().filter(|_| rest.is_empty() && !text.is_empty())?;
    Some((extension(Protocol(number)), Protocol(number)))
}

/// The options of a protocol's number.
pub(crate) fn extension(protocol: Protocol) -> &'static Extension {
    KNOWN.iter().copied().find(|known| known.number == protocol.0).unwrap_or(&UNKNOWN)
}

impl Extension {
    /// Its long options, known through the `origin`th `-p`.
    pub(super) fn options(&self, origin: usize) -> impl Iterator<Item = LongOption> + '_ {
        self.options.iter().map(move |&(name, place)| LongOption {
            name,
            value: Value::Required,
            code: Code::Protocol { origin, number: self.first + place },
        })
    }

    /// Takes an option's value into `template` and marks the option in `given`. An option of another
    /// protocol, read before, means what its number means here; it may be nothing. The error is
    /// conntrack's message.
    pub(super) fn take(
        &self,
        number: u8,
        value: &[u8],
        template: &mut Template,
        given: &mut u32,
    ) -> Result<(), Vec<u8>> {
        let place = number.checked_sub(self.first).map(usize::from);
        let Some((place, setting)) = place.and_then(|at| Some((at, *self.settings.get(at)?)))
        else {
            return Ok(());
        };
        self.set(setting, value, template)?;
        *given |= 1 << place;
        Ok(())
    }

    /// Holds the options given against what the command demands.
    pub(super) fn check(&self, given: u32, command: &Command, table: Table) -> Result<(), Vec<u8>> {
        const PAIRS: [u32; 2] = [0b11, 0b1100];
        let pairs = self.demands.map(|demands| (PAIRS, demands));
        options::check(given, (self.legality)(command, table), self.names, pairs)
    }

    fn set(&self, setting: Setting, value: &[u8], template: &mut Template) -> Result<(), Vec<u8>> {
        let (original, reply) = (&mut template.original, &mut template.reply);
        let (mask, expected) = (&mut template.mask, &mut template.expected);
        match setting {
            Setting::OriginalSource => original.source_port = Some(self.port(value)),
            Setting::OriginalDestination => original.destination_port = Some(self.port(value)),
            Setting::ReplySource => reply.source_port = Some(self.port(value)),
            Setting::ReplyDestination => reply.destination_port = Some(self.port(value)),
            Setting::MaskSource => mask.source_port = Some(self.port(value)),
            Setting::MaskDestination => mask.destination_port = Some(self.port(value)),
            Setting::ExpectedSource => expected.source_port = Some(self.port(value)),
            Setting::ExpectedDestination => expected.destination_port = Some(self.port(value)),
            Setting::State => template.state = Some(self.state.number(value)?),
            Setting::OriginalTag => template.verification_tags.0 = Some(tag(value)),
            Setting::ReplyTag => template.verification_tags.1 = Some(tag(value)),
            Setting::Role => template.dccp_role = Some(role(value)?),
            Setting::IcmpType => original.icmp_type = Some(numbers::integer(value) as u8),
            Setting::IcmpCode => original.icmp_code = Some(numbers::integer(value) as u8),
            Setting::IcmpId => original.icmp_id = Some(numbers::integer(value) as u16),
        }
        Ok(())
    }

    /// A port is decimal, a key of GRE has any notation; both keep their lower 16 bits.
    fn port(&self, value: &[u8]) -> u16 {
        if self.number == Protocol::GRE.0 {
            numbers::half_word(value)
        } else {
            numbers::integer(value) as u16
        }
    }
}

impl State {
    /// The kernel's number of a state's name. 1.4.7 dies of SIGSEGV at a name that SCTP does not
    /// know, and does not know its latest two.
    fn number(self, name: &[u8]) -> Result<u8, Vec<u8>> {
        let is = |known: &str| known.as_bytes() == name;
        let (number, unknown) = match self {
            Self::Tcp if is("LISTEN") => (Some(TcpState::SynSent2.number()), ""),
            Self::Tcp => {
                let state = TcpState::ALL.iter().find(|state| is(state.name()));
                (state.map(|state| state.number()), "unknown TCP state `")
            }
            Self::Sctp => {
                let known = &SctpState::ALL[..=usize::from(SctpState::ShutdownAckSent.number())];
                let state = known.iter().find(|state| is(state.name()));
                (state.map(|state| state.number()), "unknown SCTP state `")
            }
            Self::Dccp => {
                let state = DccpState::ALL.iter().find(|state| is(state.name()));
                (state.map(|state| state.number()), "Unknown DCCP state `")
            }
            Self::None => (None, "unknown state `"),
        };
        number.ok_or_else(|| [unknown.as_bytes(), name, b"'"].concat())
    }
}

fn tag(value: &[u8]) -> u32 {
    numbers::integer(value) as u32
}

/// Any beginning of a role's name, even none.
fn role(value: &[u8]) -> Result<u8, Vec<u8>> {
    let begins =
        |name: &[u8]| name.len() >= value.len() && name[..value.len()].eq_ignore_ascii_case(value);
    match (begins(b"client"), begins(b"server")) {
        (true, _) => Ok(0),
        (_, true) => Ok(1),
        _ => Err([b"Unknown DCCP role `", value, b"'"].concat()),
    }
}

/// The options of protocols with ports. conntrack names the last but one twice, and so do we; the
/// words tell which one it is.
macro_rules! port_help {
    () => {
        concat!(
            "  --orig-port-src\t\tsource port\n",
            "  --orig-port-dst\t\tdestination port\n",
            "  --reply-port-src\t\tsource port of answers\n",
            "  --reply-port-dst\t\tdestination port of answers\n",
            "  --mask-port-src\t\twhich bits of the expected source port count\n",
            "  --mask-port-dst\t\twhich bits of the expected destination port count\n",
            "  --tuple-port-src\t\tsource port of what is expected\n",
            "  --tuple-port-src\t\tits destination port: say --tuple-port-dst\n",
        )
    };
}

/// A protocol without options.
pub(crate) static UNKNOWN: Extension = Extension {
    name: "unknown",
    number: 0,
    first: 0,
    settings: &[],
    names: &[],
    options: &[],
    legality: |_, _| b"",
    demands: None,
    state: State::None,
    help: "  no options (unsupported)\n",
};

static KNOWN: [&Extension; 8] = [&TCP, &UDP, &UDPLITE, &SCTP, &DCCP, &ICMP, &ICMPV6, &GRE];

const PORT_DEMANDS: [&str; 2] = [
    "you have to specify `--sport' and `--dport'",
    "you have to specify `--reply-src-port' and `--reply-dst-port'",
];

static TCP: Extension = Extension {
    name: "tcp",
    number: Protocol::TCP.0,
    first: b'1',
    settings: &[
        Setting::OriginalSource,
        Setting::OriginalDestination,
        Setting::ReplySource,
        Setting::ReplyDestination,
        Setting::MaskSource,
        Setting::MaskDestination,
        Setting::State,
        Setting::ExpectedSource,
        Setting::ExpectedDestination,
    ],
    names: &[
        "sport",
        "dport",
        "reply-port-src",
        "reply-port-dst",
        "mask-port-src",
        "mask-port-dst",
        "state",
        "tuple-port-src",
        "tuple-port-dst",
    ],
    options: &[
        ("orig-port-src", 0),
        ("sport", 0),
        ("orig-port-dst", 1),
        ("dport", 1),
        ("reply-port-src", 2),
        ("reply-port-dst", 3),
        ("mask-port-src", 4),
        ("mask-port-dst", 5),
        ("state", 6),
        ("tuple-port-src", 7),
        ("tuple-port-dst", 8),
    ],
    legality: |command, table| match (command, table) {
        (_, Table::Expect) => match command {
            Command::Create => b"110011011",
            Command::Delete | Command::Get => b"111100000",
            _ => b"000000000",
        },
        (Command::Create | Command::Add, _) => b"333300100",
        (Command::Get, _) => b"333300200",
        (Command::List | Command::Update | Command::Delete | Command::Events, _) => b"222200200",
        _ => b"000000000",
    },
    demands: Some(PORT_DEMANDS),
    state: State::Tcp,
    help: concat!(port_help!(), "  --state\t\t\tstate by its TCP name, ESTABLISHED for example\n"),
};

/// UDP; UDP-Lite differs in name and number only.
const UDP_LIKE: Extension = Extension {
    name: "udp",
    number: Protocol::UDP.0,
    first: b'1',
    settings: PORTS,
    names: &[
        "sport",
        "dport",
        "reply-port-src",
        "reply-port-dst",
        "mask-port-src",
        "mask-port-dst",
        "tuple-port-src",
        "tuple-port-dst",
    ],
    options: &[
        ("orig-port-src", 0),
        ("sport", 0),
        ("orig-port-dst", 1),
        ("dport", 1),
        ("reply-port-src", 2),
        ("reply-port-dst", 3),
        ("mask-port-src", 4),
        ("mask-port-dst", 5),
        ("tuple-port-src", 6),
        ("tuple-port-dst", 7),
    ],
    legality: |command, table| match (command, table) {
        (Command::Create, Table::Expect) => b"11001111",
        _ => ports_legality(command, table),
    },
    demands: Some(PORT_DEMANDS),
    state: State::None,
    help: port_help!(),
};

static UDP: Extension = UDP_LIKE;

static UDPLITE: Extension = Extension { name: "udplite", number: Protocol::UDPLITE.0, ..UDP_LIKE };

static SCTP: Extension = Extension {
    name: "sctp",
    number: Protocol::SCTP.0,
    first: 1,
    settings: &[
        Setting::OriginalSource,
        Setting::OriginalDestination,
        Setting::ReplySource,
        Setting::ReplyDestination,
        Setting::MaskSource,
        Setting::MaskDestination,
        Setting::State,
        Setting::ExpectedSource,
        Setting::ExpectedDestination,
        Setting::OriginalTag,
        Setting::ReplyTag,
    ],
    names: &[
        "sport",
        "dport",
        "reply-port-src",
        "reply-port-dst",
        "mask-port-src",
        "mask-port-dst",
        "state",
        "tuple-port-src",
        "tuple-port-dst",
        "orig-vtag",
        "reply-vtag",
    ],
    options: &[
        ("orig-port-src", 0),
        ("orig-port-dst", 1),
        ("reply-port-src", 2),
        ("reply-port-dst", 3),
        ("mask-port-src", 4),
        ("mask-port-dst", 5),
        ("state", 6),
        ("tuple-port-src", 7),
        ("tuple-port-dst", 8),
        ("orig-vtag", 9),
        ("reply-vtag", 10),
        ("sport", 0),
        ("dport", 1),
    ],
    legality: |command, table| match (command, table) {
        (Command::Create, Table::Expect) => b"11001101111",
        (Command::Delete | Command::Get, Table::Expect) => b"11110000000",
        (_, Table::Expect) => b"00000000000",
        (Command::Create | Command::Add, _) => b"33330010011",
        (Command::Get, _) => b"33330020022",
        (Command::Update, _) => b"22220020022",
        (Command::List | Command::Delete | Command::Events, _) => b"22220020000",
        _ => b"00000000000",
    },
    demands: Some(PORT_DEMANDS),
    state: State::Sctp,
    help: concat!(
        port_help!(),
        "  --state\t\t\tstate by its SCTP name, ESTABLISHED for example\n",
        "  --orig-vtag\t\tverification tag of the original direction\n",
        "  --reply-vtag\t\tverification tag of answers\n",
    ),
};

static DCCP: Extension = Extension {
    name: "dccp",
    number: Protocol::DCCP.0,
    first: 1,
    settings: &[
        Setting::OriginalSource,
        Setting::OriginalDestination,
        Setting::ReplySource,
        Setting::ReplyDestination,
        Setting::MaskSource,
        Setting::MaskDestination,
        Setting::State,
        Setting::ExpectedSource,
        Setting::ExpectedDestination,
        Setting::Role,
    ],
    names: &[
        "sport",
        "dport",
        "reply-port-src",
        "reply-port-dst",
        "mask-port-src",
        "mask-port-dst",
        "state",
        "tuple-port-src",
        "tuple-port-dst",
        "role",
    ],
    options: &[
        ("orig-port-src", 0),
        ("orig-port-dst", 1),
        ("reply-port-src", 2),
        ("reply-port-dst", 3),
        ("mask-port-src", 4),
        ("mask-port-dst", 5),
        ("state", 6),
        ("tuple-port-src", 7),
        ("tuple-port-dst", 8),
        ("sport", 0),
        ("dport", 1),
        ("role", 9),
    ],
    legality: |command, table| match (command, table) {
        (Command::Create, Table::Expect) => b"1100110111",
        (Command::Delete | Command::Get, Table::Expect) => b"1111000000",
        (_, Table::Expect) => b"0000000000",
        (Command::Create | Command::Add, _) => b"3333001001",
        (Command::Get, _) => b"3333002000",
        (Command::List | Command::Update | Command::Delete | Command::Events, _) => b"2222002000",
        _ => b"0000000000",
    },
    demands: Some([
        PORT_DEMANDS[0],
        "you have to specify `--reply-port-src' and `--report-port-dst'",
    ]),
    state: State::Dccp,
    help: concat!(port_help!(), "  --state\t\t\tstate by its DCCP name, RESPOND for example\n"),
};

static ICMP: Extension = Extension {
    name: "icmp",
    number: Protocol::ICMP.0,
    first: b'1',
    settings: &[Setting::IcmpType, Setting::IcmpCode, Setting::IcmpId],
    names: &["icmp-type", "icmp-code", "icmp-id"],
    options: &[("icmp-type", 0), ("icmp-code", 1), ("icmp-id", 2)],
    legality: icmp_legality,
    demands: None,
    state: State::None,
    help: concat!(
        "  --icmp-type\t\t\ttype of the message\n",
        "  --icmp-code\t\t\tcode of the message\n",
        "  --icmp-id\t\t\tid of the exchange\n",
    ),
};

static ICMPV6: Extension = Extension {
    name: "icmpv6",
    number: Protocol::ICMPV6.0,
    first: b'1',
    settings: &[Setting::IcmpType, Setting::IcmpCode, Setting::IcmpId],
    names: &["icmpv6-type", "icmpv6-code", "icmpv6-id"],
    options: &[("icmpv6-type", 0), ("icmpv6-code", 1), ("icmpv6-id", 2)],
    legality: icmp_legality,
    demands: None,
    state: State::None,
    help: concat!(
        "  --icmpv6-type\t\t\ttype of the message\n",
        "  --icmpv6-code\t\t\tcode of the message\n",
        "  --icmpv6-id\t\t\tid of the exchange\n",
    ),
};

static GRE: Extension = Extension {
    name: "gre",
    number: Protocol::GRE.0,
    first: b'1',
    settings: PORTS,
    names: &[
        "srckey",
        "dstkey",
        "reply-key-src",
        "reply-key-dst",
        "mask-key-src",
        "mask-key-dst",
        "tuple-key-src",
        "tuple-key-dst",
    ],
    options: &[
        ("orig-key-src", 0),
        ("srckey", 0),
        ("orig-key-dst", 1),
        ("dstkey", 1),
        ("reply-key-src", 2),
        ("reply-key-dst", 3),
        ("mask-key-src", 4),
        ("mask-key-dst", 5),
        ("tuple-key-src", 6),
        ("tuple-key-dst", 7),
    ],
    legality: |command, table| match (command, table) {
        (Command::Create, Table::Expect) => b"11111111",
        _ => ports_legality(command, table),
    },
    demands: Some([
        "you have to specify `--srckey' and `--dstkey'",
        "you have to specify `--reply-src-key' and `--reply-dst-key'",
    ]),
    state: State::None,
    help: concat!(
        "  --orig-key-src\t\tsource key\n",
        "  --orig-key-dst\t\tdestination key\n",
        "  --reply-key-src\t\tsource key of answers\n",
        "  --reply-key-dst\t\tdestination key of answers\n",
        "  --mask-key-src\t\twhich bits of the expected source key count\n",
        "  --mask-key-dst\t\twhich bits of the expected destination key count\n",
        "  --tuple-key-src\t\tsource key of what is expected\n",
        "  --tuple-key-src\t\tits destination key: say --tuple-key-dst\n",
    ),
};

const PORTS: &[Setting] = &[
    Setting::OriginalSource,
    Setting::OriginalDestination,
    Setting::ReplySource,
    Setting::ReplyDestination,
    Setting::MaskSource,
    Setting::MaskDestination,
    Setting::ExpectedSource,
    Setting::ExpectedDestination,
];

fn ports_legality(command: &Command, table: Table) -> Legality {
    match (command, table) {
        (Command::Delete | Command::Get, Table::Expect) => b"11110000",
        (_, Table::Expect) => b"00000000",
        (Command::Create | Command::Add | Command::Get, _) => b"33330000",
        (Command::List | Command::Update | Command::Delete | Command::Events, _) => b"22220000",
        _ => b"00000000",
    }
}

fn icmp_legality(command: &Command, table: Table) -> Legality {
    match (command, table) {
        (_, Table::Expect) => b"000",
        (Command::Create | Command::Add | Command::Get, _) => b"112",
        (Command::List | Command::Update | Command::Delete | Command::Events, _) => b"222",
        _ => b"000",
    }
}
