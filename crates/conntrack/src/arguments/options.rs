//! The general options: their names, and which command takes which.

use super::getopt::{Code, LongOption, Value};
use crate::invocation::{Command, Table};

/// The short options, as getopt describes them. The brackets name options that have long names
/// only; getopt takes them behind a single dash all the same.
pub(super) const SHORT: &[u8] =
    b":L::I::U::D::G::E::F::A::hVs:d:r:q:p:t:u:e:a:z[:]:{:}:m:i:f:o:n::\
    g::c:b:C::Sj::w:l:<:>::(:):";

const fn long(name: &'static str, value: Value, letter: u8) -> LongOption {
    LongOption { name, value, code: Code::General(letter) }
}

/// The long options. `--id` takes its value from the next word too, as later releases have it:
/// 1.4.7 crashes without one in the same word.
pub(super) const LONG: [LongOption; 43] = [
    long("dump", Value::Optional, b'L'),
    long("create", Value::Optional, b'I'),
    long("add", Value::Optional, b'A'),
    long("delete", Value::Optional, b'D'),
    long("update", Value::Optional, b'U'),
    long("get", Value::Optional, b'G'),
    long("flush", Value::Optional, b'F'),
    long("event", Value::Optional, b'E'),
    long("counter", Value::Optional, b'C'),
    long("stats", Value::None, b'S'),
    long("version", Value::None, b'V'),
    long("help", Value::None, b'h'),
    long("orig-src", Value::Required, b's'),
    long("src", Value::Required, b's'),
    long("orig-dst", Value::Required, b'd'),
    long("dst", Value::Required, b'd'),
    long("reply-src", Value::Required, b'r'),
    long("reply-dst", Value::Required, b'q'),
    long("protonum", Value::Required, b'p'),
    long("timeout", Value::Required, b't'),
    long("status", Value::Required, b'u'),
    long("zero", Value::None, b'z'),
    long("event-mask", Value::Required, b'e'),
    long("tuple-src", Value::Required, b'['),
    long("tuple-dst", Value::Required, b']'),
    long("mask-src", Value::Required, b'{'),
    long("mask-dst", Value::Required, b'}'),
    long("nat-range", Value::Required, b'a'),
    long("mark", Value::Required, b'm'),
    long("secmark", Value::Required, b'c'),
    long("id", Value::Required, b'i'),
    long("family", Value::Required, b'f'),
    long("src-nat", Value::Optional, b'n'),
    long("dst-nat", Value::Optional, b'g'),
    long("output", Value::Required, b'o'),
    long("buffer-size", Value::Required, b'b'),
    long("any-nat", Value::Optional, b'j'),
    long("zone", Value::Required, b'w'),
    long("label", Value::Required, b'l'),
    long("label-add", Value::Required, b'<'),
    long("label-del", Value::Optional, b'>'),
    long("orig-zone", Value::Required, b'('),
    long("reply-zone", Value::Required, b')'),
];

/// The long name of a letter; the first if it has two.
pub(super) fn long_name(letter: u8) -> &'static str {
    let named = LONG.iter().find(|option| option.code == Code::General(letter));
    named.map_or("unknown", |option| option.name)
}

/// The names of the bits of [`Options`](crate::invocation::Options), lowest first, as messages have
/// them; they are checked in this order.
pub(super) const NAMES: [&str; 29] = [
    "src",
    "dst",
    "reply-src",
    "reply-dst",
    "protonum",
    "timeout",
    "status",
    "zero",
    "event-mask",
    "tuple-src",
    "tuple-dst",
    "mask-src",
    "mask-dst",
    "nat-range",
    "mark",
    "id",
    "family",
    "src-nat",
    "dst-nat",
    "output",
    "secmark",
    "buffer-size",
    "any-nat",
    "zone",
    "label",
    "label-add",
    "label-del",
    "orig-zone",
    "reply-zone",
];

/// What a command says of each option: `0` illegal, `1` required, `2` optional, `3` required in
/// pairs.
pub(super) type Legality = &'static [u8];

/// What a command says of the general options. A line without command allows none.
pub(super) fn legality(command: &Command, table: Table) -> Legality {
    use Command::{Add, Create, Delete, Events, Flush, Get, Help, List, Update};
    match (command, table == Table::Expect) {
        //                  sdrqptuze[]{}amifngocbjwl<>()
        (List, false) => b"22222022000220202222202220022",
        (Create | Add, false) => b"33331120000002200220000202022",
        (Update, false) => b"22222220000220222222000022200",
        (Delete, false) => b"22222220000220222222000220022",
        (Get, false) => b"33331000000000020002000020000",
        (Flush, false) => b"00000000000000002000000000000",
        (Events, false) => b"22222000200220202222222220022",
        (Help, _) => b"00002000000000000000000000000",
        (List, true) => b"00000000000000002002000000000",
        (Create, true) => b"11221120011110000000000000000",
        (Delete | Get, true) => b"11221000000000000000000000000",
        (Events, true) => b"00000000000000000002000000000",
        _ => b"00000000000000000000000000000",
    }
}

/// Holds the options given against what a command says of them; the error is conntrack's message.
///
/// Where options come in pairs, `pairs` are the bits of the two pairs and `demands` the messages
/// that ask for them; the second is used where only the second pair has been begun.
pub(super) fn check(
    given: u32,
    legality: Legality,
    names: &[&str],
    pairs: Option<([u32; 2], [&str; 2])>,
) -> Result<(), Vec<u8>> {
    for (bit, (rule, name)) in legality.iter().zip(names).enumerate() {
        match (rule, given & (1 << bit) != 0) {
            (b'1', false) => {
                return Err(
                    format!("You need to supply the `--{name}' option for this command").into()
                );
            }
            (b'0', true) => {
                return Err(format!("Illegal option `--{name}' with this command").into());
            }
            _ => {}
        }
    }
    let Some((pairs, demands)) = pairs.filter(|_| legality.contains(&b'3')) else {
        return Ok(());
    };
    if pairs.iter().any(|pair| given & pair == *pair) {
        return Ok(());
    }
    let second = given & pairs[0] == 0 && given & pairs[1] != 0;
    Err(demands[usize::from(second)].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_word_on_each_option() {
        let commands = [
            Command::List,
            Command::Get,
            Command::Delete,
            Command::Create,
            Command::Add,
            Command::Update,
            Command::Events,
            Command::Flush,
            Command::Count,
            Command::Statistics,
            Command::Version,
            Command::Help,
        ];
        for command in commands {
            for table in [Table::Conntrack, Table::Expect] {
                assert_eq!(legality(&command, table).len(), NAMES.len(), "{command:?} {table:?}");
            }
        }
    }
}
