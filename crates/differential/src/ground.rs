//! The ground that sequences are played on: sysctls and rules, as the kernel is told them.

use std::fmt::Write;

use ctkeeper_engine::rules::{
    DestinationAction, FilterAction, Match, Prefix, RawAction, Rules, SourceAction,
};
use ctkeeper_engine::{Class, Range, Settings};
use ctkeeper_flow::{Family, Protocol, SctpState, Zone, ZoneDirection};
use serde::{Deserialize, Serialize};

use crate::addresses::{Place, network, translated, translated_range};
use crate::sequence::{Host, Side, Treatment};

/// What sequences are played on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ground {
    /// The namespace's sysctls at the beginning.
    pub settings: Settings,
    /// What they become, one after the other and round again, each after a few packets of every
    /// sequence.
    pub changes: Vec<Settings>,
    /// The networks that rules treat.
    pub treatments: Vec<Treatment>,
    /// Whether events are listened to.
    pub listens: bool,
}

/// Zone of [`Treatment::Zone`] and the directional ones.
pub const ZONE: u16 = 7;
/// Mark of [`Treatment::Mark`].
pub const MARK: u32 = 0x2a;
/// Ports of [`Treatment::SourceNatPorts`].
pub const PORTS: (u16, u16) = (20_000, 20_003);
/// Port of [`Treatment::DestinationNatPort`].
pub const PORT: u16 = 8080;
/// Ports of [`Treatment::DestinationPorts`].
pub const SERVER_PORTS: (u16, u16) = (8001, 8003);
/// The interface on each side.
pub const INTERFACES: [&str; 2] = ["client", "server"];

/// The sysctls below `netfilter/` that hold a namespace's settings.
pub fn sysctls(settings: &Settings) -> Vec<(String, String)> {
    let mut lines: Vec<(&str, u32)> = vec![
        ("tcp_loose", settings.tcp_loose.into()),
        ("tcp_be_liberal", settings.tcp_be_liberal.into()),
        ("tcp_ignore_invalid_rst", settings.tcp_ignore_invalid_rst.into()),
        ("tcp_max_retrans", settings.tcp_max_retrans.into()),
        ("checksum", settings.checksum.into()),
        ("acct", settings.accounting.into()),
        ("timestamp", settings.timestamps.into()),
    ];
    let timeouts = &settings.timeouts;
    lines.extend([
        ("udp_timeout", timeouts.udp),
        ("udp_timeout_stream", timeouts.udp_stream),
        ("icmp_timeout", timeouts.icmp),
        ("icmpv6_timeout", timeouts.icmpv6),
        ("generic_timeout", timeouts.generic),
        ("gre_timeout", timeouts.gre),
        ("gre_timeout_stream", timeouts.gre_stream),
    ]);
    let mut all: Vec<_> =
        lines.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
    all.extend(
        TCP.iter()
            .map(|(place, name)| (format!("tcp_timeout_{name}"), timeouts.tcp[*place].to_string())),
    );
    let sctp = SctpState::ALL.iter().skip(1).zip(timeouts.sctp.iter().skip(1));
    all.extend(sctp.map(|(state, value)| {
        (format!("sctp_timeout_{}", state.to_string().to_lowercase()), value.to_string())
    }));
    let named = |(name, value)| (format!("netfilter/nf_conntrack_{name}"), value);
    all.into_iter().map(named).collect()
}

/// Places in [`ctkeeper_engine::Timeouts::tcp`] that have a sysctl.
const TCP: [(usize, &str); 10] = [
    (1, "syn_sent"),
    (2, "syn_recv"),
    (3, "established"),
    (4, "fin_wait"),
    (5, "close_wait"),
    (6, "last_ack"),
    (7, "time_wait"),
    (8, "close"),
    (10, "max_retrans"),
    (11, "unacknowledged"),
];

/// The classes by the code that packets carry out of the router, in the upper bits of the traffic
/// class; packets of the reply direction have [`REPLY`] beside.
pub const CLASSES: [&str; 6] = ["", "new", "established", "related", "invalid", "untracked"];
/// Bit of the reply direction.
pub const REPLY: u8 = 8;

/// Mark of the copies of packets that stay on the router: they come out on the servers' side.
const COPY: u32 = 0xd0;
/// Mark of what sequences send from the router itself.
pub const OWN: u32 = 0xd1;

/// The rules for nft. Every packet that leaves carries its class out of them; what the router itself
/// has to say never leaves.
pub fn rules(treatments: &[Treatment]) -> String {
    let (mut raw, mut filter) = (String::new(), String::new());
    let (mut before, mut after) = (String::new(), String::new());
    for family in [Family::Ipv4, Family::Ipv6] {
        for &treatment in treatments {
            raw += &raw_rules(family, treatment);
            filter += &filter_rules(family, treatment);
            before += &destination_rules(family, treatment);
            after += &source_rules(family, treatment);
        }
    }
    let helpers = if treatments.contains(&Treatment::Helped) { HELPERS } else { "" };
    let mut text = format!(
        "table inet sequences {{\n{helpers}\
         chain raw {{ type filter hook prerouting priority -300; policy accept;\n{raw}}}\n\
         chain through {{ type filter hook forward priority 0; policy accept;\n{filter}}}\n"
    );
    if treatments.iter().any(|treatment| treatment.translates()) {
        text += &format!(
            "chain before {{ type nat hook prerouting priority -100; policy accept;\n{before}}}\n\
             chain after {{ type nat hook postrouting priority 100; policy accept;\n{after}}}\n"
        );
    }
    text += &verdict_rules("verdict", "postrouting", &format!("meta mark {COPY} accept"));
    text += &format!(
        "chain own {{ type filter hook output priority -450; policy accept;\n\
         meta mark != {{ {COPY}, {OWN} }} drop\n}}\n"
    );
    if treatments.iter().any(|treatment| treatment.is_local()) {
        text += &verdict_rules("staying", "input", "");
        return text + "}\n" + &copying_rules();
    }
    text + "}\n"
}

/// What stays on the router is copied to the servers' side, with its class.
fn copying_rules() -> String {
    let table = |ip: &str, family: Family| {
        let gateway = Place { family, treatment: Treatment::Plain, slot: 0 }.address(Host::Server);
        let [client, server] = INTERFACES;
        format!(
            "table {ip} copies {{\nchain staying {{ type filter hook input priority 301;\n\
             iifname {client} meta mark set {COPY} dup to {gateway} device {server}\n}}\n}}\n"
        )
    };
    table("ip", Family::Ipv4) + &table("ip6", Family::Ipv6)
}

const HELPERS: &str = "ct helper ftp { type \"ftp\" protocol tcp; l3proto ip; }\n\
     ct helper ftp6 { type \"ftp\" protocol tcp; l3proto ip6; }\n";

/// Where FTP is spoken.
pub const FTP: u16 = 21;

fn word(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    }
}

fn raw_rules(family: Family, treatment: Treatment) -> String {
    let action = match treatment {
        Treatment::Untracked => "notrack".to_owned(),
        Treatment::Zone => format!("ct zone set {ZONE}"),
        Treatment::OriginalZone => format!("ct original zone set {ZONE}"),
        Treatment::ReplyZone => format!("ct reply zone set {ZONE}"),
        _ => return String::new(),
    };
    let ip = word(family);
    let clients = network(family, treatment, Host::Client);
    let servers = network(family, treatment, Host::Server);
    let answers = match treatment {
        // A zone of one direction is set on that direction's packets alone.
        Treatment::OriginalZone => String::new(),
        _ => format!("{ip} saddr {servers} {action}\n"),
    };
    let questions = match treatment {
        Treatment::ReplyZone => String::new(),
        _ => format!("{ip} saddr {clients} {action}\n"),
    };
    questions + &answers
}

fn filter_rules(family: Family, treatment: Treatment) -> String {
    let action = match treatment {
        Treatment::DropNew => "ct state new drop".to_owned(),
        Treatment::DropInvalid => "ct state invalid drop".to_owned(),
        Treatment::Mark => format!("ct state new ct mark set {MARK}"),
        Treatment::Helped => {
            let helper = if family == Family::Ipv4 { "ftp" } else { "ftp6" };
            format!("tcp dport {FTP} ct helper set \"{helper}\"")
        }
        _ => return String::new(),
    };
    let ip = word(family);
    let clients = network(family, treatment, Host::Client);
    let servers = network(family, treatment, Host::Server);
    format!("{ip} saddr {clients} {action}\n{ip} saddr {servers} {action}\n")
}

fn destination_rules(family: Family, treatment: Treatment) -> String {
    let ports = "meta l4proto { tcp, udp, sctp, udplite }";
    let ip = word(family);
    let place = match treatment {
        Treatment::Redirect => {
            let place = network(family, treatment, Host::Virtual);
            return format!("{ip} daddr {place} {ports} redirect to :{PORT}\n");
        }
        treatment if treatment.is_virtual() => network(family, treatment, Host::Virtual),
        _ => return String::new(),
    };
    let to = translated(family, treatment, Side::Server);
    let (first, last) = translated_range(family, treatment, Side::Server);
    let (low, high) = SERVER_PORTS;
    let to = match (treatment, family) {
        (Treatment::DestinationRange, _) => format!("{first}-{last}"),
        (Treatment::DestinationPorts, Family::Ipv4) => format!("{to}:{low}-{high}"),
        (Treatment::DestinationPorts, Family::Ipv6) => format!("[{to}]:{low}-{high}"),
        (Treatment::DestinationNatPort, Family::Ipv4) => format!("{to}:{PORT}"),
        (Treatment::DestinationNatPort, Family::Ipv6) => format!("[{to}]:{PORT}"),
        _ => to.to_string(),
    };
    let of_ports = matches!(treatment, Treatment::DestinationNatPort | Treatment::DestinationPorts);
    let ports = if of_ports { ports } else { "" };
    format!("{ip} daddr {place} {ports} dnat {ip} to {to}\n")
}

fn source_rules(family: Family, treatment: Treatment) -> String {
    let ip = word(family);
    let clients = network(family, treatment, Host::Client);
    let to = translated(family, treatment, Side::Client);
    let (one, other) = translated_range(family, treatment, Side::Client);
    let (first, last) = PORTS;
    match (treatment, family) {
        (Treatment::SourceRange, _) => format!("{ip} saddr {clients} snat {ip} to {one}-{other}\n"),
        (Treatment::SourceRangePersistent, _) => {
            format!("{ip} saddr {clients} snat {ip} to {one}-{other} persistent\n")
        }
        (Treatment::SourceRandom, _) => format!("{ip} saddr {clients} snat {ip} to {to} random\n"),
        (Treatment::SourceNat | Treatment::BothNat, _) => {
            format!("{ip} saddr {clients} snat {ip} to {to}\n")
        }
        (Treatment::SourceNatPorts, Family::Ipv4) => format!(
            "ip saddr {clients} meta l4proto {{ tcp, udp, sctp, udplite }} snat ip to {to}:{first}-{last}\n"
        ),
        (Treatment::SourceNatPorts, Family::Ipv6) => format!(
            "ip6 saddr {clients} meta l4proto {{ tcp, udp, sctp, udplite }} snat ip6 to [{to}]:{first}-{last}\n"
        ),
        (Treatment::Masquerade, _) => format!("{ip} saddr {clients} masquerade\n"),
        _ => String::new(),
    }
}

fn verdict_rules(chain: &str, hook: &str, first: &str) -> String {
    let mut text =
        format!("chain {chain} {{ type filter hook {hook} priority 300; policy accept;\n{first}\n");
    for ip in ["ip", "ip6"] {
        let family = if ip == "ip" { "ipv4" } else { "ipv6" };
        for (code, class) in CLASSES.iter().enumerate().skip(1) {
            let one = format!("meta nfproto {family} ct state {class}");
            let _ = writeln!(text, "{one} {ip} dscp set {code}");
            if matches!(*class, "new" | "established" | "related") {
                let reply = code + usize::from(REPLY);
                let _ = writeln!(text, "{one} ct direction reply {ip} dscp set {reply}");
            }
        }
    }
    text + "}\n"
}

/// Number of the first helper that an engine takes in.
pub const HELPER: u16 = 1;

/// Numbers of [`INTERFACES`] to the engine.
pub const fn interface(side: Side) -> u32 {
    side as u32 + 1
}

/// The same rules for the engine.
pub fn engine_rules(treatments: &[Treatment]) -> Rules {
    let mut rules = Rules::default();
    for family in [Family::Ipv4, Family::Ipv6] {
        let own = translated(family, Treatment::Masquerade, Side::Client);
        rules = rules.with_address(interface(Side::Server), own);
        let own = translated(family, Treatment::Redirect, Side::Server);
        rules = rules.with_address(interface(Side::Client), own);
        for &treatment in treatments {
            rules = with_treatment(rules, family, treatment);
        }
    }
    if treatments.iter().any(|treatment| treatment.translates()) {
        rules = rules.with_nat(0);
    }
    rules
}

fn prefix(family: Family, treatment: Treatment, host: Host) -> Prefix {
    let address = Place { family, treatment, slot: 0 }.address(host);
    Prefix::new(address, 16).unwrap_or_else(|_| Prefix::host(address))
}

fn with_treatment(rules: Rules, family: Family, treatment: Treatment) -> Rules {
    let from = |host| Match::all().source(prefix(family, treatment, host));
    let (clients, servers) = (from(Host::Client), from(Host::Server));
    let both = |rules: Rules, add: &dyn Fn(Rules, Match) -> Rules| {
        add(add(rules, clients.clone()), servers.clone())
    };
    let zone = |direction| RawAction::Zone(Zone { id: ZONE, direction });
    match treatment {
        Treatment::Plain => rules,
        Treatment::Untracked => both(rules, &|r, when| r.with_raw(when, RawAction::Untracked)),
        Treatment::Zone => both(rules, &|r, when| r.with_raw(when, zone(ZoneDirection::Both))),
        Treatment::OriginalZone => rules.with_raw(clients, zone(ZoneDirection::Original)),
        Treatment::ReplyZone => rules.with_raw(servers, zone(ZoneDirection::Reply)),
        Treatment::DropNew => {
            both(rules, &|r, when| r.with_filter(when.states([Class::New]), FilterAction::Drop))
        }
        Treatment::DropInvalid => {
            both(rules, &|r, when| r.with_filter(when.states([Class::Invalid]), FilterAction::Drop))
        }
        Treatment::Mark => both(rules, &|r, when| {
            r.with_filter(when.states([Class::New]), FilterAction::ConnectionMark(MARK))
        }),
        Treatment::Helped => both(rules, &|r, when| {
            let when = when.protocol(Protocol::TCP.0).destination_ports(FTP, FTP);
            r.with_filter(when, FilterAction::Helper(HELPER))
        }),
        _ => with_translation(rules, family, treatment, clients),
    }
}

/// Protocols whose ports rules speak of.
const WITH_PORTS: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDPLITE];

fn with_translation(
    mut rules: Rules,
    family: Family,
    treatment: Treatment,
    clients: Match,
) -> Rules {
    let to_virtual = Match::all().destination(prefix(family, treatment, Host::Virtual));
    let server = Range::to(translated(family, treatment, Side::Server));
    let client = Range::to(translated(family, treatment, Side::Client));
    let (first, last) = translated_range(family, treatment, Side::Client);
    let clients_range = Range::between(first, last);
    match treatment {
        Treatment::SourceNat => rules.with_source(clients, SourceAction::To(client)),
        Treatment::SourceNatPorts => {
            for protocol in WITH_PORTS {
                let to = SourceAction::To(client.ports(PORTS.0, PORTS.1));
                rules = rules.with_source(clients.clone().protocol(protocol.0), to);
            }
            rules
        }
        Treatment::DestinationNat => {
            rules.with_destination(to_virtual, DestinationAction::To(server))
        }
        Treatment::DestinationNatPort => {
            for protocol in WITH_PORTS {
                let to = DestinationAction::To(server.ports(PORT, PORT));
                rules = rules.with_destination(to_virtual.clone().protocol(protocol.0), to);
            }
            rules
        }
        Treatment::SourceRange => rules.with_source(clients, SourceAction::To(clients_range)),
        Treatment::SourceRangePersistent => {
            rules.with_source(clients, SourceAction::To(clients_range.persistent()))
        }
        Treatment::SourceRandom => rules.with_source(clients, SourceAction::To(client.random())),
        Treatment::DestinationRange => {
            let (first, last) = translated_range(family, treatment, Side::Server);
            rules.with_destination(to_virtual, DestinationAction::To(Range::between(first, last)))
        }
        Treatment::DestinationPorts => {
            for protocol in WITH_PORTS {
                let to = DestinationAction::To(server.ports(SERVER_PORTS.0, SERVER_PORTS.1));
                rules = rules.with_destination(to_virtual.clone().protocol(protocol.0), to);
            }
            rules
        }
        Treatment::Redirect => {
            for protocol in WITH_PORTS {
                let to = DestinationAction::redirect(PORT);
                rules = rules.with_destination(to_virtual.clone().protocol(protocol.0), to);
            }
            rules
        }
        Treatment::BothNat => rules
            .with_destination(to_virtual, DestinationAction::To(server))
            .with_source(clients, SourceAction::To(client)),
        Treatment::Masquerade => rules.with_source(clients, SourceAction::masquerade()),
        _ => rules,
    }
}
