//! One command line of conntrack, understood.

use std::net::IpAddr;
use std::path::PathBuf;

use ctkeeper_flow::{Direction, Family, Labels, Protocol, Status};

/// What to do. With [`Table`] it is one of conntrack's commands; which pairs exist, the parser knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-L`.
    List,
    /// `-G`.
    Get,
    /// `-D`.
    Delete,
    /// `-I`.
    Create,
    /// `-A`: create, unless it is there already.
    Add,
    /// `-U`.
    Update,
    /// `-E`.
    Events,
    /// `-F`.
    Flush,
    /// `-C`.
    Count,
    /// `-S`.
    Statistics,
    /// `-R FILE`, where `-` is standard input: a command line in each line.
    Load(PathBuf),
    /// `-V`.
    Version,
    /// `-h`, and no arguments at all.
    Help,
}

/// What it is done to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// The connections.
    #[default]
    Conntrack,
    /// The expectations.
    Expect,
    /// Connections that are deleted and not yet told to listeners.
    Dying,
    /// Connections whose first packet is on its way.
    Unconfirmed,
}

/// A command line, legal as conntrack sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// With what.
    pub table: Table,
    /// The family asked for, or that of the addresses given; some commands take IPv4 without one.
    pub family: Option<Family>,
    /// Which options were given.
    pub options: Options,
    /// What the options say of a connection.
    pub template: Template,
    /// How to write entries.
    pub output: Output,
    /// `-e`: which events; `None` without it.
    pub events: Option<EventMask>,
    /// `-b`, bytes.
    pub buffer_size: Option<usize>,
    /// Whether the line names no command, which shows the help too.
    pub no_command: bool,
    /// Warnings that conntrack writes to standard error while it reads the arguments, each a line.
    pub warnings: Vec<String>,
}

/// Options given, general ones only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options(pub u32);

impl Options {
    /// `-s`.
    pub const ORIGINAL_SOURCE: Self = Self(1);
    /// `-d`.
    pub const ORIGINAL_DESTINATION: Self = Self(1 << 1);
    /// `-r`.
    pub const REPLY_SOURCE: Self = Self(1 << 2);
    /// `-q`.
    pub const REPLY_DESTINATION: Self = Self(1 << 3);
    /// `-p`.
    pub const PROTOCOL: Self = Self(1 << 4);
    /// `-t`.
    pub const TIMEOUT: Self = Self(1 << 5);
    /// `-u`.
    pub const STATUS: Self = Self(1 << 6);
    /// `-z`.
    pub const ZERO: Self = Self(1 << 7);
    /// `-e`.
    pub const EVENT_MASK: Self = Self(1 << 8);
    /// `--tuple-src`.
    pub const TUPLE_SOURCE: Self = Self(1 << 9);
    /// `--tuple-dst`.
    pub const TUPLE_DESTINATION: Self = Self(1 << 10);
    /// `--mask-src`, or a prefix length with `-s` or `--tuple-src`.
    pub const MASK_SOURCE: Self = Self(1 << 11);
    /// `--mask-dst`, or a prefix length with `-d` or `--tuple-dst`.
    pub const MASK_DESTINATION: Self = Self(1 << 12);
    /// `-a`, which means nothing any more.
    pub const NAT_RANGE: Self = Self(1 << 13);
    /// `-m`.
    pub const MARK: Self = Self(1 << 14);
    /// `-i`.
    pub const ID: Self = Self(1 << 15);
    /// `-f`.
    pub const FAMILY: Self = Self(1 << 16);
    /// `-n`.
    pub const SOURCE_NAT: Self = Self(1 << 17);
    /// `-g`.
    pub const DESTINATION_NAT: Self = Self(1 << 18);
    /// `-o`.
    pub const OUTPUT: Self = Self(1 << 19);
    /// `-c`.
    pub const SECURITY_MARK: Self = Self(1 << 20);
    /// `-b`.
    pub const BUFFER_SIZE: Self = Self(1 << 21);
    /// `-j`.
    pub const ANY_NAT: Self = Self(1 << 22);
    /// `-w`.
    pub const ZONE: Self = Self(1 << 23);
    /// `-l`.
    pub const LABEL: Self = Self(1 << 24);
    /// `--label-add`.
    pub const LABEL_ADD: Self = Self(1 << 25);
    /// `--label-del`.
    pub const LABEL_DELETE: Self = Self(1 << 26);
    /// `--orig-zone`.
    pub const ORIGINAL_ZONE: Self = Self(1 << 27);
    /// `--reply-zone`.
    pub const REPLY_ZONE: Self = Self(1 << 28);

    /// Those that make a command compare entries with the [`Template`]'s tuples, zones, id, status
    /// and security mark; without any of them it looks at none of these.
    pub const COMPARED: Self = Self(
        Self::ORIGINAL_SOURCE.0
            | Self::ORIGINAL_DESTINATION.0
            | Self::REPLY_SOURCE.0
            | Self::REPLY_DESTINATION.0
            | Self::PROTOCOL.0
            | Self::MARK.0
            | Self::SECURITY_MARK.0
            | Self::STATUS.0
            | Self::ID.0
            | Self::ZONE.0
            | Self::LABEL.0
            | Self::ORIGINAL_ZONE.0
            | Self::REPLY_ZONE.0,
    );

    /// Whether all of these were given.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of these was given.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds an option.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What the options say of a connection; `None` where they say nothing. It is a filter for some
/// commands, the entry to make for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// `-s -d --sport …`.
    pub original: TupleTemplate,
    /// `-r -q --reply-port-src …`.
    pub reply: TupleTemplate,
    /// `--tuple-src …`: what is expected.
    pub expected: TupleTemplate,
    /// `--mask-src …` and prefix lengths: which bits of the original (or the expected) tuple count.
    pub mask: TupleTemplate,
    /// `-p`.
    pub protocol: Option<Protocol>,
    /// `-t`, seconds.
    pub timeout: Option<u32>,
    /// Whether `-p` was a name of /etc/protocols that conntrack does not know, though it knows the
    /// number under another name: no options then, whatever the number.
    pub protocol_by_alias: bool,
    /// `-u`: bits that must be set, or are to be.
    pub status: Option<Status>,
    /// `-u !FLAG`: bits that count in the kernel's comparison, `status & mask == wanted`. Without a
    /// negated flag they are the bits wanted by the first `-u`, whatever later ones add.
    pub status_mask: Status,
    /// `-m VALUE[/MASK]`; the value is that of a later `-u`, if there is one (a fault of 1.4.7).
    pub mark: Option<(u32, u32)>,
    /// `-m VALUE[/MASK]` as given, which the kernel compares besides when entries are listed or
    /// deleted.
    pub mark_in_kernel: Option<(u32, u32)>,
    /// `-c`.
    pub security_mark: Option<u32>,
    /// `-i`.
    pub id: Option<u32>,
    /// `-w`.
    pub zone: Option<u16>,
    /// `--orig-zone`.
    pub zone_original: Option<u16>,
    /// `--reply-zone`.
    pub zone_reply: Option<u16>,
    /// `-n` with an address; the option alone is in [`Options`].
    pub source_nat: Option<NatTemplate>,
    /// `-g` with an address.
    pub destination_nat: Option<NatTemplate>,
    /// `-l`: labels that must be set.
    pub labels: Option<Labels>,
    /// `--label-add`, `--label-del`; `None` with the latter means all of them.
    pub labels_changed: Option<Labels>,
    /// `--state`: the kernel's number of the protocol's state.
    pub state: Option<u8>,
    /// `--orig-vtag`, `--reply-vtag`.
    pub verification_tags: (Option<u32>, Option<u32>),
    /// `--role`: the kernel's number.
    pub dccp_role: Option<u8>,
}

/// Part of a tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TupleTemplate {
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Source port, or GRE's source key.
    pub source_port: Option<u16>,
    /// Destination port, or GRE's destination key.
    pub destination_port: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
    /// ICMP id.
    pub icmp_id: Option<u16>,
}

/// Where an address is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatTemplate {
    /// The address.
    pub address: IpAddr,
    /// The port, if one was named.
    pub port: Option<u16>,
}

impl Template {
    /// The tuple of a direction.
    pub const fn tuple(&self, direction: Direction) -> &TupleTemplate {
        match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        }
    }
}

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of -o")]
pub struct Output {
    /// XML.
    pub xml: bool,
    /// The layer 3 family in front.
    pub extended: bool,
    /// When each event came.
    pub timestamp: bool,
    /// The kernel's id.
    pub id: bool,
    /// When the connection began and ended, by the kernel.
    pub kernel_timestamp: bool,
    /// Labels by name.
    pub labels: bool,
    /// Which process made a change; always on where it is known.
    pub userspace: bool,
    /// As commands for `-R`.
    pub save: bool,
}

/// `-e`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventMask {
    /// NEW.
    pub new: bool,
    /// UPDATES.
    pub updates: bool,
    /// DESTROY.
    pub destroy: bool,
}
