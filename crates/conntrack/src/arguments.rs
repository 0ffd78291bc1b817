//! From a command line to an [`Invocation`], as conntrack 1.4.7 reads it.
//!
//! Options are read in their order, each by its own rules; then the combination is held against what
//! the command allows. Whatever is wrong first decides the message.

mod address;
pub(crate) mod etc_protocols;
mod getopt;
mod numbers;
mod options;
pub(crate) mod protocol;
mod words;

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use ctkeeper_flow::{Family, Labels, Status};

use crate::failure::Failure;
use crate::invocation::{
    Command, EventMask, Invocation, NatTemplate, Options, Output, Table, Template,
};
use crate::labels::LabelMap;
use address::Prefix;
use getopt::{Code, Getopt, LongOption, Step};
use protocol::Extension;
use words::output;

pub(crate) use numbers::unsigned;

/// A command line that conntrack does not take.
#[derive(Debug)]
pub struct Refused {
    /// Lines that were written to standard error before the fault was met.
    pub warnings: Vec<String>,
    /// What is wrong.
    pub failure: Failure,
}

/// Understands a command line, of which the first word is the program's name.
///
/// Where 1.4.7 crashes, the line is refused: `--id` without a value, states that SCTP does not have.
pub fn parse(arguments: &[OsString]) -> Result<Invocation, Refused> {
    let words: Vec<&[u8]> = arguments.iter().map(|word| word.as_bytes()).collect();
    if let [_, option, file, ..] = words[..]
        && matches!(option, b"-R" | b"--load-file")
    {
        let file = OsString::from_vec(file.to_vec());
        return Ok(Parser::new(Vec::new(), &mut Memory::new()).finish(Command::Load(file.into())));
    }
    parse_words(words, &mut Memory::new())
}

/// What outlives a line where many are read.
pub(crate) struct Memory {
    /// Bits of `-o`, which holds for all lines.
    outputs: u32,
    labels: Option<LabelMap>,
    /// The long options; those of protocols go with the line.
    long: Vec<LongOption>,
    /// Whether the first operand ends the options.
    posix: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let posix = std::env::var_os("POSIXLY_CORRECT").is_some();
        Self { outputs: 0, labels: None, long: options::LONG.to_vec(), posix }
    }
}

/// Understands the words of a line.
pub(crate) fn parse_words(words: Vec<&[u8]>, memory: &mut Memory) -> Result<Invocation, Refused> {
    memory.long.truncate(options::LONG.len());
    let mut parser = Parser::new(words, memory);
    match parser.read().and_then(|()| parser.check()) {
        Ok(command) => Ok(parser.finish(command)),
        Err(failure) => Err(Refused { warnings: parser.warnings, failure }),
    }
}

/// What has been read so far.
struct Parser<'a, 'm> {
    line: Getopt<'a>,
    memory: &'m mut Memory,
    command: Option<Command>,
    no_command: bool,
    table: Table,
    family: Option<Family>,
    options: Options,
    template: Template,
    /// What the last `-p` named, and how many there were.
    protocol: Option<&'static Extension>,
    protocols: usize,
    protocol_options: u32,
    events: u32,
    buffer_size: Option<usize>,
    warnings: Vec<String>,
}

impl<'a, 'm> Parser<'a, 'm> {
    fn new(words: Vec<&'a [u8]>, memory: &'m mut Memory) -> Self {
        Self {
            line: Getopt::new(words, memory.posix),
            memory,
            command: None,
            no_command: false,
            table: Table::Conntrack,
            family: None,
            options: Options::default(),
            template: Template::default(),
            protocol: None,
            protocols: 0,
            protocol_options: 0,
            events: 0,
            buffer_size: None,
            warnings: Vec::new(),
        }
    }

    /// Reads every option.
    fn read(&mut self) -> Result<(), Failure> {
        while let Some(step) = self.line.step(options::SHORT, &self.memory.long) {
            match step {
                Step::Option(Code::General(letter), value) => self.general(letter, value)?,
                Step::Option(Code::Protocol { number, .. }, value) => {
                    self.protocol_option(number, value.unwrap_or_default())?;
                }
                Step::ValueMissing => {
                    return Err(quote("option `", self.line.culprit(), "' requires an argument"));
                }
                Step::Unknown => return Err(quote("unknown option `", self.line.culprit(), "'")),
            }
        }
        Ok(())
    }

    fn general(&mut self, letter: u8, value: Option<&'a [u8]>) -> Result<(), Failure> {
        if matches!(
            letter,
            b'L' | b'I' | b'D' | b'G' | b'F' | b'E' | b'V' | b'h' | b'C' | b'S' | b'U' | b'A'
        ) {
            return self.command(letter, value);
        }
        match letter {
            b'n' | b'g' | b'j' => return self.translation(letter, value),
            b'>' => return self.labels_to_delete(value),
            _ => {}
        }
        let value = value.unwrap_or_default();
        match letter {
            b's' | b'd' | b'r' | b'q' | b'[' | b']' | b'{' | b'}' => self.address(letter, value),
            b'p' => self.protocol(value),
            b'u' => self.status(value),
            b'e' => self.event_mask(value),
            b'o' => self.output(value),
            b'l' => self.label_filter(value),
            b'<' => self.labels_to_add(value),
            b'f' => self.family(value),
            _ => {
                self.number(letter, value);
                Ok(())
            }
        }
    }

    /// Options that take any value.
    fn number(&mut self, letter: u8, value: &[u8]) {
        let template = &mut self.template;
        let option = match letter {
            b't' => {
                template.timeout = Some(numbers::long(value) as u32);
                Options::TIMEOUT
            }
            b'w' => {
                template.zone = Some(numbers::half_word(value));
                Options::ZONE
            }
            b'(' => {
                template.zone_original = Some(numbers::half_word(value));
                Options::ORIGINAL_ZONE
            }
            b')' => {
                template.zone_reply = Some(numbers::half_word(value));
                Options::REPLY_ZONE
            }
            b'i' => {
                template.id = Some(numbers::word(value));
                Options::ID
            }
            b'c' => {
                template.security_mark = Some(numbers::word(value));
                Options::SECURITY_MARK
            }
            b'm' => {
                let mark = mark(value);
                (template.mark, template.mark_in_kernel) = (Some(mark), Some(mark));
                Options::MARK
            }
            b'b' => {
                self.buffer_size = Some(numbers::long(value) as usize);
                Options::BUFFER_SIZE
            }
            b'a' => {
                self.warnings.push("WARNING: ignoring -a, deprecated option.".to_owned());
                return;
            }
            // `z`, the last of the letters that getopt knows.
            _ => Options::ZERO,
        };
        self.options.insert(option);
    }

    fn command(&mut self, letter: u8, value: Option<&[u8]>) -> Result<(), Failure> {
        self.table = self.table(value)?;
        let command = match letter {
            b'L' => Command::List,
            b'I' => Command::Create,
            b'D' => Command::Delete,
            b'G' => Command::Get,
            b'F' => Command::Flush,
            b'E' => Command::Events,
            b'V' => Command::Version,
            b'h' => Command::Help,
            b'C' => Command::Count,
            b'S' => Command::Statistics,
            b'U' => Command::Update,
            _ => Command::Add,
        };
        match self.table {
            Table::Dying | Table::Unconfirmed if command != Command::List => {
                return Err(Failure::usage(
                    "Can't do that command with tables `dying' and `unconfirmed'",
                ));
            }
            Table::Expect if matches!(command, Command::Update | Command::Add) => {
                let name = options::long_name(letter);
                return Err(Failure::usage(format!("Can't do --{name} on expectations")));
            }
            _ => {}
        }
        if self.command.replace(command).is_some() {
            return Err(Failure::usage("Invalid commands combination"));
        }
        Ok(())
    }

    /// The table is the word behind the command, or a beginning of it, even an empty one. What is
    /// glued to the command counts for nothing.
    fn table(&mut self, glued: Option<&[u8]>) -> Result<Table, Failure> {
        let Some(word) = (if glued.is_some() { None } else { self.line.take_word() }) else {
            return Ok(Table::Conntrack);
        };
        [
            (&b"expect"[..], Table::Expect),
            (b"conntrack", Table::Conntrack),
            (b"dying", Table::Dying),
            (b"unconfirmed", Table::Unconfirmed),
        ]
        .into_iter()
        .find(|(name, _)| name.starts_with(word))
        .map(|(_, table)| table)
        .ok_or_else(|| quote("unknown type `", word, "'"))
    }

    fn family(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.options.insert(Options::FAMILY);
        let family = match value {
            [b'i', b'p', b'v', b'4', ..] => Family::Ipv4,
            [b'i', b'p', b'v', b'6', ..] => Family::Ipv6,
            _ => return Err(quote("`", value, "' unsupported protocol")),
        };
        self.settle_family(family)
    }

    fn settle_family(&mut self, family: Family) -> Result<(), Failure> {
        match self.family.replace(family) {
            Some(other) if other != family => Err(Failure::usage("mismatched address family")),
            _ => Ok(()),
        }
    }

    fn address(&mut self, letter: u8, value: &[u8]) -> Result<(), Failure> {
        let (address, bits) = self.plain_address(letter, value)?;
        let template = &mut self.template;
        let (option, place) = match letter {
            b's' => (Options::ORIGINAL_SOURCE, &mut template.original.source),
            b'd' => (Options::ORIGINAL_DESTINATION, &mut template.original.destination),
            b'r' => (Options::REPLY_SOURCE, &mut template.reply.source),
            b'q' => (Options::REPLY_DESTINATION, &mut template.reply.destination),
            b'[' => (Options::TUPLE_SOURCE, &mut template.expected.source),
            b']' => (Options::TUPLE_DESTINATION, &mut template.expected.destination),
            b'{' => (Options::MASK_SOURCE, &mut template.mask.source),
            _ => (Options::MASK_DESTINATION, &mut template.mask.destination),
        };
        *place = Some(address);
        self.options.insert(option);
        if let Some(bits) = bits {
            let mask = Some(address::netmask(address, bits));
            let (option, place) = match letter {
                b's' | b'[' => (Options::MASK_SOURCE, &mut template.mask.source),
                _ => (Options::MASK_DESTINATION, &mut template.mask.destination),
            };
            *place = mask;
            self.options.insert(option);
        }
        Ok(())
    }

    /// Reads an address for an option, with the bits of a prefix that leaves some free.
    fn plain_address(&mut self, letter: u8, text: &[u8]) -> Result<(IpAddr, Option<u8>), Failure> {
        let (address, prefix) =
            address::with_prefix(text).ok_or_else(|| quote("Invalid IP address `", text, "'"))?;
        let (family, width) = match address {
            IpAddr::V4(_) => (Family::Ipv4, 32),
            IpAddr::V6(_) => (Family::Ipv6, 128),
        };
        self.settle_family(family)?;
        match prefix {
            Prefix::None => Ok((address, None)),
            _ if !matches!(letter, b's' | b'd' | b'[' | b']') => {
                let name = options::long_name(letter);
                Err(Failure::usage(format!("CIDR notation unavailable for `--{name}'")))
            }
            Prefix::Invalid => Err(Failure::usage("Invalid netmask")),
            Prefix::Bits(bits) => Ok((address, (bits != width).then_some(bits))),
        }
    }

    /// `-n`, `-g` and `-j`. An address in the same word counts for nothing.
    fn translation(&mut self, letter: u8, glued: Option<&[u8]>) -> Result<(), Failure> {
        self.options.insert(match letter {
            b'n' => Options::SOURCE_NAT,
            b'g' => Options::DESTINATION_NAT,
            _ => Options::ANY_NAT,
        });
        let Some(word) = (if glued.is_some() { None } else { self.line.take_word() }) else {
            return Ok(());
        };
        let endpoint = address::endpoint(word).map_err(Failure::Usage)?;
        let (address, _) = self.plain_address(letter, endpoint.address)?;
        let set = |place: &mut Option<NatTemplate>| {
            let port = endpoint.port.or_else(|| place.and_then(|earlier| earlier.port));
            *place = Some(NatTemplate { address, port });
        };
        if letter != b'g' {
            set(&mut self.template.source_nat);
        }
        if letter != b'n' {
            set(&mut self.template.destination_nat);
        }
        Ok(())
    }

    fn protocol(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.options.insert(Options::PROTOCOL);
        let (extension, number) = protocol::find(value, etc_protocols::number)
            .ok_or_else(|| quote("`", value, "' unsupported protocol"))?;
        self.protocols += 1;
        self.memory.long.extend(extension.options(self.protocols));
        self.protocol = Some(extension);
        self.template.protocol = Some(number);
        self.template.protocol_by_alias = std::ptr::eq(extension, &raw const protocol::UNKNOWN)
            && protocol::extension(number).name != "unknown";
        Ok(())
    }

    fn protocol_option(&mut self, number: u8, value: &[u8]) -> Result<(), Failure> {
        let Some(extension) = self.protocol else {
            return Ok(());
        };
        extension
            .take(number, value, &mut self.template, &mut self.protocol_options)
            .map_err(Failure::Usage)
    }

    /// `-u`. It overwrites what `-m` said before it, a fault of 1.4.7 that shows in what is made and
    /// found.
    fn status(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.options.insert(Options::STATUS);
        let template = &mut self.template;
        let mut set = template.status.map_or(0, |status| status.0);
        words::statuses(value, &mut set, &mut template.status_mask.0, &mut self.warnings)
            .map_err(bad_word)?;
        template.status = Some(Status(set));
        if template.status_mask == Status(0) {
            template.status_mask = Status(set);
        }
        if let Some((value, _)) = &mut template.mark {
            *value = set;
        }
        Ok(())
    }

    fn event_mask(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.options.insert(Options::EVENT_MASK);
        words::bits(value, words::EVENTS, &mut self.events, &mut self.warnings).map_err(bad_word)
    }

    fn output(&mut self, value: &[u8]) -> Result<(), Failure> {
        const ALONE: u32 = !(output::SAVE | output::USERSPACE);
        self.options.insert(Options::OUTPUT);
        words::bits(value, words::OUTPUTS, &mut self.memory.outputs, &mut self.warnings)
            .map_err(bad_word)?;
        if self.memory.outputs & output::LABELS != 0 {
            self.need_labels();
        }
        if self.memory.outputs & output::SAVE != 0 && self.memory.outputs & ALONE != 0 {
            return Err(Failure::problem(
                "cannot combine save output with any other output type, use -o save only",
            ));
        }
        Ok(())
    }

    fn label_filter(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.options.insert(Options::LABEL);
        self.need_labels();
        self.only_one_change_of_labels()?;
        let labels = self.labels(value)?;
        add_labels(&mut self.template.labels, labels);
        Ok(())
    }

    fn labels_to_add(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.options.insert(Options::LABEL_ADD);
        self.need_labels();
        self.only_one_change_of_labels()?;
        let labels = self.labels(value)?;
        add_labels(&mut self.template.labels_changed, labels);
        Ok(())
    }

    /// `--label-del`. Names in the same word count for nothing, and without names all labels go.
    fn labels_to_delete(&mut self, glued: Option<&[u8]>) -> Result<(), Failure> {
        self.options.insert(Options::LABEL_DELETE);
        self.need_labels();
        self.only_one_change_of_labels()?;
        let Some(word) = (if glued.is_some() { None } else { self.line.take_word() }) else {
            return Ok(());
        };
        let labels = self.labels(word)?;
        add_labels(&mut self.template.labels_changed, labels);
        Ok(())
    }

    fn only_one_change_of_labels(&self) -> Result<(), Failure> {
        if self.options.contains(Options::LABEL_ADD) && self.options.contains(Options::LABEL_DELETE)
        {
            return Err(Failure::problem(
                "cannot use --label-add and --label-del at the same time",
            ));
        }
        Ok(())
    }

    /// Reads the names of labels, once they are there.
    fn need_labels(&mut self) {
        if self.memory.labels.is_none() {
            match LabelMap::read() {
                Ok(map) => self.memory.labels = Some(map),
                Err(cause) => self.warnings.push(format!("nfct_labelmap_new: {cause}")),
            }
        }
    }

    fn labels(&self, value: &[u8]) -> Result<Labels, Failure> {
        let mut labels = Labels::default();
        for name in value.split(|&byte| byte == b',') {
            let bit = self.memory.labels.as_ref().and_then(|map| map.bit(name));
            let bit = bit.ok_or_else(|| quote("unknown label '", name, "'"))?;
            labels.0[usize::from(bit / 8)] |= 1 << (bit % 8);
        }
        Ok(labels)
    }

    /// Holds the options against the command, in conntrack's order.
    fn check(&mut self) -> Result<Command, Failure> {
        const NAMED: Options = Options(Options::SOURCE_NAT.0 | Options::DESTINATION_NAT.0);
        const PAIRS: [u32; 2] = [0b11, 0b1100];
        const DEMANDS: [&str; 2] = [
            "you have to specify `--src' and `--dst'",
            "you have to specify `--reply-src' and `--reply-dst'",
        ];
        if self.options.contains(Options::ANY_NAT) && self.options.intersects(NAMED) {
            return Err(Failure::usage(
                "cannot specify `--src-nat' or `--dst-nat' with `--any-nat'",
            ));
        }
        // A line without a command may have no options, like -V; it shows the help.
        let rules = self.command.as_ref().unwrap_or(&Command::Version);
        let legality = options::legality(rules, self.table);
        options::check(self.options.0, legality, &options::NAMES, Some((PAIRS, DEMANDS)))
            .map_err(Failure::Usage)?;
        if let Some(protocol) = self.protocol
            && *rules != Command::Help
        {
            protocol.check(self.protocol_options, rules, self.table).map_err(Failure::Usage)?;
        }
        self.no_command = self.command.is_none();
        Ok(self.command.take().unwrap_or(Command::Help))
    }

    fn finish(self, command: Command) -> Invocation {
        let by_default = (!self.takes_any_family(&command)).then_some(Family::Ipv4);
        let events = self.options.contains(Options::EVENT_MASK).then_some(EventMask {
            new: self.events & 1 != 0,
            updates: self.events & 2 != 0,
            destroy: self.events & 4 != 0,
        });
        Invocation {
            command,
            table: self.table,
            family: self.family.or(by_default),
            options: self.options,
            template: self.template,
            output: output_words(self.memory.outputs),
            events,
            buffer_size: self.buffer_size,
            no_command: self.no_command,
            warnings: self.warnings,
        }
    }

    /// Whether a command without family means every one.
    fn takes_any_family(&self, command: &Command) -> bool {
        self.table != Table::Expect
            && matches!(
                command,
                Command::List
                    | Command::Update
                    | Command::Delete
                    | Command::Get
                    | Command::Flush
                    | Command::Events
            )
    }
}

fn quote(before: &str, word: &[u8], behind: &str) -> Failure {
    Failure::Usage([before.as_bytes(), word, behind.as_bytes()].concat())
}

fn bad_word(words::Bad(rest): words::Bad<'_>) -> Failure {
    quote("Bad parameter `", rest, "'")
}

fn add_labels(place: &mut Option<Labels>, labels: Labels) {
    let sum = place.get_or_insert_default();
    for (byte, more) in sum.0.iter_mut().zip(labels.0) {
        *byte |= more;
    }
}

/// `VALUE[/MASK]`; without a mask every bit counts.
fn mark(text: &[u8]) -> (u32, u32) {
    let (value, rest) = unsigned(text, 0);
    let mask = match rest {
        [b'/', mask @ ..] => numbers::word(mask),
        _ => u32::MAX,
    };
    (value as u32, mask)
}

fn output_words(bits: u32) -> Output {
    let has = |bit: u32| bits & bit != 0;
    Output {
        xml: has(output::XML),
        extended: has(output::EXTENDED),
        timestamp: has(output::TIMESTAMP),
        id: has(output::ID),
        kernel_timestamp: has(output::KERNEL_TIMESTAMP),
        labels: has(output::LABELS),
        userspace: has(output::USERSPACE),
        save: has(output::SAVE),
    }
}
