//! Lines that chance puts together.

use anyhow::Context;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::both::Real;

const COMMANDS: &[&str] = &[
    "-L",
    "-G",
    "-D",
    "-I",
    "-A",
    "-U",
    "-E",
    "-F",
    "-C",
    "-S",
    "-V",
    "-h",
    "--dump",
    "--create",
    "--add",
    "--delete",
    "--update",
    "--get",
    "--flush",
    "--event",
    "--counter",
    "--stats",
    "--del",
    "--up",
    "--cre",
    "--count",
    "--version",
    "--help",
    "-LE",
    "-Lexpect",
    "--dump=expect",
];

const TABLES: &[&str] = &[
    "",
    "",
    "",
    "",
    "conntrack",
    "expect",
    "exp",
    "dying",
    "unconfirmed",
    "e",
    "c",
    "d",
    "u",
    "connx",
    "''",
];

/// Options that take a value, in all their spellings; `--id` alone makes conntrack crash.
const VALUED: &[&str] = &[
    "-s",
    "-d",
    "-r",
    "-q",
    "--src",
    "--dst",
    "--orig-src",
    "--orig-dst",
    "--reply-src",
    "--reply-dst",
    "--tuple-src",
    "--tuple-dst",
    "--mask-src",
    "--mask-dst",
    "-t",
    "-u",
    "-e",
    "-m",
    "-i",
    "-f",
    "-o",
    "-c",
    "-b",
    "-w",
    "-l",
    "--label-add",
    "-a",
    "--orig-zone",
    "--reply-zone",
    "--time",
    "--stat",
    "--mas",
    "--mask-s",
    "--orig",
    "--rep",
    "--tuple-d",
    "--zone",
    "--fam",
    "--sport",
    "--dport",
    "--orig-port-src",
    "--reply-port-src",
    "--reply-port-dst",
    "--state",
    "--mask-port-src",
    "--mask-port-dst",
    "--tuple-port-src",
    "--tuple-port-dst",
    "--orig-vtag",
    "--reply-vtag",
    "--role",
    "--icmp-type",
    "--icmp-code",
    "--icmp-id",
    "--icmpv6-type",
    "--icmpv6-code",
    "--srckey",
    "--dstkey",
    "--reply-key-src",
    "--sp",
    "--icmp",
    "--s",
    "-[",
    "-}",
    "-<",
    "-)",
];

/// Options that take none, or only one of their own choice.
const FREE: &[&str] = &[
    "-z",
    "--zero",
    "-n",
    "-g",
    "-j",
    "--src-nat",
    "--dst-nat",
    "--any-nat",
    "--label-del",
    "-x",
    "--zero=1",
    "--foo",
    "--",
    "-",
    "word",
    "-zx",
    "-zn",
    "-xz",
    "--any-nat=1.2.3.4",
    "--=",
    "->",
    "-n1.2.3.4",
];

const VALUES: &[&str] = &[
    "1.2.3.4",
    "10.0.0.0/8",
    "10.1",
    "fd00::1",
    "fd00::/64",
    "1.2.3.4/33",
    "::/0",
    "1.2.3.4:80",
    "[fd00::1]:80",
    "1.2.3.4:x",
    "5",
    "0x10",
    "-1",
    "ASSURED",
    "!ASSURED",
    "SEEN",
    "UNREPLIED",
    "NEW",
    "ALL,DESTROY",
    "xml",
    "id,extended",
    "save",
    "s",
    "d",
    "labels",
    "ipv4",
    "ipv6",
    "ESTABLISHED",
    "LISTEN",
    "OPEN",
    "client",
    "''",
    "-s",
    "255.255.0.0",
    "99999999999999999999",
    "1/2",
    "a,b",
];

const PROTOCOLS: &[&str] = &[
    "tcp",
    "udp",
    "udplite",
    "sctp",
    "dccp",
    "icmp",
    "icmpv6",
    "gre",
    "TCP",
    "6",
    "0x11",
    "58",
    "esp",
    "ipv6-icmp",
    "IGMP",
    "igmp",
    "255",
    "256",
    "200",
    "-1",
    "foo",
    "''",
    "\u{20}6",
    "6x",
];

pub(crate) fn generated_lines_are_read_alike() -> anyhow::Result<()> {
    check(&lines(), 1500)
}

/// Every spelling of an address that is nearly one.
pub(crate) fn addresses_are_read_alike() -> anyhow::Result<()> {
    let spelled = prop_oneof![
        "(0x|0)?[0-9a-f]{1,4}(\\.(0x|0)?[0-9]{1,3}){0,4}( ?[0-9a-z/])?(/[ +-]?[0-9]{0,3}x?)?",
        "[0-9a-f:]{1,4}(:{1,2}[0-9a-f]{0,5}){1,8}(/[0-9]{0,4})?",
        "(::|[0-9a-f:]{1,9})[0-9]{1,3}(\\.[0-9]{1,3}){2,4}",
        "\\[?[0-9a-f:.]{0,12}\\]?:?[+0-9]{0,6}",
    ];
    let options = select(&["-s", "-r", "--mask-dst", "-n", "-j", "-d"][..]);
    let line = (options, spelled).prop_map(|(option, address)| {
        vec!["-D".to_owned(), option.to_owned(), address, "-t".to_owned()]
    });
    check(&line, 1500)
}

/// The same lines each time, unless `CTKEEPER_SEED` asks for others and `CTKEEPER_LINES` for more.
fn check(lines: &impl Strategy<Value = Vec<String>>, cases: u32) -> anyhow::Result<()> {
    let real = Real::new()?;
    let cases = number("CTKEEPER_LINES")?.map_or(cases, |lines| lines as u32);
    let seed = number("CTKEEPER_SEED")?.unwrap_or(1).to_le_bytes().repeat(4);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
        .run(lines, |line| {
            let words: Vec<Vec<u8>> = line.iter().map(|word| word.clone().into_bytes()).collect();
            real.agrees(&words).map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn number(variable: &str) -> anyhow::Result<Option<u64>> {
    let asked = std::env::var(variable).ok();
    asked.map(|text| text.parse().with_context(|| format!("{variable}={text}"))).transpose()
}

/// A command, mostly, and up to eight options in any order.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let command = (select(COMMANDS), select(TABLES))
        .prop_map(|(command, table)| [&[command][..], &words_of(table)].concat());
    let protocol = select(PROTOCOLS).prop_map(|name| vec!["-p", name]);
    let valued = (select(VALUED), select(VALUES)).prop_map(|(option, value)| vec![option, value]);
    let free = select(FREE).prop_map(|option| vec![option]);
    let optional = (select(FREE), select(VALUES)).prop_map(|(option, value)| vec![option, value]);
    let piece = prop_oneof![
        2 => command.clone(),
        3 => protocol,
        10 => valued,
        2 => free,
        2 => optional,
    ];
    let rest = prop::collection::vec(piece, 0..8);
    (command, rest, any::<bool>(), 0..3usize).prop_map(|(command, rest, first, glue)| {
        let rest: Vec<&str> = rest.concat();
        let line = if first { [command, rest].concat() } else { [rest, command].concat() };
        let mut line: Vec<String> =
            line.into_iter().map(|word| if word == "''" { "" } else { word }.to_owned()).collect();
        glue_values(&mut line, glue);
        line
    })
}

fn words_of(table: &'static str) -> Vec<&'static str> {
    if table.is_empty() { Vec::new() } else { vec![table] }
}

/// Joins some options with the word behind them, `--src=ADDRESS` and `-sADDRESS`.
fn glue_values(line: &mut Vec<String>, glue: usize) {
    for _ in 0..glue {
        let Some(at) = line.iter().rposition(|word| VALUED.contains(&word.as_str())) else {
            return;
        };
        if at + 1 < line.len() {
            let value = line.remove(at + 1);
            let equals = if line[at].starts_with("--") { "=" } else { "" };
            line[at] = format!("{}{equals}{value}", line[at]);
        }
    }
}
