//! The help, and the version.
//!
//! Commands, options, their arguments and the layout are conntrack's; what stands behind them is
//! said in our own words.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use crate::arguments::{etc_protocols, protocol};
use crate::invocation::Invocation;

/// What `-V` prints.
pub(crate) const VERSION: &[u8] = b"conntrack v1.4.7 (conntrack-tools)\n";

/// Writes the help, and that of a protocol if one is named.
pub(crate) fn write(
    program: &OsStr,
    invocation: &Invocation,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut text = b"Command line interface for the connection tracking system. Version 1.4.7\n\
                     Usage: "
        .to_vec();
    text.extend_from_slice(program.as_bytes());
    text.extend_from_slice(b" [commands] [options]\n");
    text.extend_from_slice(GENERAL.as_bytes());
    if let Some(number) = invocation.template.protocol {
        let by_alias = invocation.template.protocol_by_alias;
        let extension = if by_alias { &protocol::UNKNOWN } else { protocol::extension(number) };
        let listed = || etc_protocols::name(number.0);
        let name = match extension.name {
            "unknown" => listed().unwrap_or_else(|| b"unknown".to_vec()),
            name => name.into(),
        };
        text.extend([b"Proto `", &name[..], b"' help:\n", extension.help.as_bytes()].concat());
    }
    out.write_all(&text)
}

const GENERAL: &str = "
Commands:
  -L [table] [options]\t\tShow the entries of a table
  -G [table] parameters\t\tLook one entry up
  -D [table] parameters\t\tRemove the entries that match
  -I [table] parameters\t\tInsert an entry
  -U [table] parameters\t\tChange the entries that match
  -E [table] [options]\t\tFollow what happens to entries
  -F [table]\t\t\tEmpty a table
  -C [table]\t\t\tTell how many entries there are
  -S\t\t\t\tTell the counters of each CPU

Tables: conntrack, expect, dying, unconfirmed

Conntrack parameters and options:
  -n, --src-nat ip\t\t\ttranslated source
  -g, --dst-nat ip\t\t\ttranslated destination
  -j, --any-nat ip\t\t\ttranslated address, either one
  -m, --mark mark\t\t\tMark of the connection
  -c, --secmark secmark\t\t\tSELinux mark of the connection
  -e, --event-mask eventmask\t\tWhich events to follow: NEW, UPDATES, DESTROY, ALL
  -z, --zero \t\t\t\tSet the counters of what is listed back to 0
  -o, --output type[,...]\t\tHow to write entries: xml, save, extended, id ...
  -l, --label label[,...]\t\tlabels the connection carries

Expectation parameters and options:
  --tuple-src ip\tWhere the expected connection comes from
  --tuple-dst ip\tWhere the expected connection goes to

Updating parameters and options:
  --label-add label\tPut a label on
  --label-del label\tTake a label off

Common parameters and options:
  -s, --src, --orig-src ip\t\tWhere the connection comes from
  -d, --dst, --orig-dst ip\t\tWhere the connection goes to
  -r, --reply-src ip\t\tWhere answers come from
  -q, --reply-dst ip\t\tWhere answers go to
  -p, --protonum proto\t\tProtocol above IP, by name or number
  -f, --family proto\t\tipv4 or ipv6
  -t, --timeout timeout\t\tSeconds until the entry expires
  -u, --status status\t\tStatus flags, SEEN_REPLY,ASSURED for example
  -w, --zone value\t\tZone of both directions
  --orig-zone value\t\tZone of the original direction only
  --reply-zone value\t\tZone of the reply direction only
  -b, --buffer-size\t\tBytes of the event socket's receive buffer
  --mask-src ip\t\t\tWhich bits of the source count
  --mask-dst ip\t\t\tWhich bits of the destination count

";
