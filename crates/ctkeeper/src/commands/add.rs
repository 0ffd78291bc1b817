//! `ctkeeper add`: makes an entry.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ctkeeper_flow::filter::Naming;
use ctkeeper_flow::{
    Flow, Helper, Labels, Layer4, Mark, Protocol, ProtocolState, SctpState, SctpTracking, Status,
    TcpState, Tuple,
};
use ctkeeper_netlink::{Errno, Error};
use rustix::io::Errno as Number;

use super::get::TupleArgs;
use super::namespaces::Selection;
use super::outcome::told;
use super::values;
use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{EntryWriter, Extras, Format, Screen, printable, say};

const EXAMPLES: &str = "\
Examples:
  ctkeeper add udp 10.0.0.1:5000 10.0.0.53:53 --timeout 30s
  ctkeeper add tcp 10.0.0.1:4000 10.0.0.2:80 --timeout 5d \\
      --state ESTABLISHED --status assured,seen_reply
  ctkeeper add tcp 10.0.0.1:4000 10.0.0.9:80 --timeout 1h \\
      --dnat 192.0.2.2:8080 --mark 0x10
  ctkeeper add icmp 10.0.0.1 10.0.0.2 icmp-id 77 zone 5 --timeout 1m

The entry that the kernel made is shown: a translated port may be another than the one asked for if
that is taken. An entry that exists is left alone, which is a failure; `ctkeeper update` changes it.

Exit codes: 0 made; 1 exists already, or failed; 64 wrong command line.";

/// Options of `ctkeeper add`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    tuple: TupleArgs,

    /// When it expires unless a packet comes: 30s, 5m, 2h, 5d
    #[arg(long, value_name = "TIME", value_parser = values::lifetime)]
    timeout: Duration,

    /// The tracker's state, for TCP and SCTP [default: ESTABLISHED]
    #[arg(long, value_name = "STATE")]
    state: Option<String>,

    /// Status bits: assured, seen_reply, fixed_timeout
    #[arg(long, value_name = "BIT,…", value_delimiter = ',', value_parser = values::status)]
    status: Vec<Status>,

    /// The mark
    #[arg(long, value_name = "MARK", value_parser = values::mark)]
    mark: Option<Mark>,

    /// Translate the destination to this
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = values::endpoint)]
    dnat: Option<(IpAddr, Option<u16>)>,

    /// Translate the source to this
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = values::endpoint)]
    snat: Option<(IpAddr, Option<u16>)>,

    /// Labels, by their bits; they stick only where a rule of the namespace uses `ct label`
    #[arg(long, value_name = "BIT,…", value_delimiter = ',', value_parser = values::label())]
    label: Vec<u8>,

    /// Attach this helper
    #[arg(long, value_name = "NAME")]
    helper: Option<Box<str>>,

    /// How to write it
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Show the kernel's id of the entry
    #[arg(long)]
    id: bool,
}

/// Makes the entry and shows it.
pub(crate) fn run(args: &AddArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let flow = args.flow()?;
    let screen = Screen::stdout(global.color);
    let format = Format::choose(args.output, global.json, &screen)?;
    let mut table = Selection::of(global)?.only_table(ONE_NAMESPACE)?;
    table.create(&flow).map_err(|error| args.explain(error, &flow))?;
    let made = table.get(&flow.original, flow.zone)?;
    if let Some(made) = &made {
        let extras = Extras { id: args.id, ..Extras::default() };
        let mut writer = EntryWriter::new(format, extras, screen);
        let written = writer.entry(made, None, None).and_then(|()| writer.finish());
        told(written, || "1 entry added.".to_owned())?;
    }
    say!("1 entry added.");
    let made_timeout = made.as_ref().and_then(|made| made.timeout);
    if let Some(text) = values::shortened(values::seconds(args.timeout), made_timeout) {
        say!("{text}");
    }
    if !args.label.is_empty() && made.is_some_and(|made| made.labels.is_none()) {
        say!("Its labels did not stick: no rule of the namespace uses `ct label`.");
    }
    Ok(ExitCode::from(exit::OK))
}

const ONE_NAMESPACE: &str = "add works in one namespace: name it with --netns";

impl AddArgs {
    /// The kernel's number alone does not say that it is the helper that is missing.
    fn explain(&self, error: Error, flow: &Flow) -> anyhow::Error {
        let is_unsupported = error.errno() == Some(Errno(Number::OPNOTSUPP.raw_os_error()));
        match self.helper.as_deref().filter(|_| is_unsupported) {
            Some(name) => anyhow::anyhow!(
                "cannot create the entry {}: the kernel has no helper `{}` for {} here; is its \
                 module loaded?",
                flow.original,
                printable(name),
                flow.protocol()
            ),
            None => error.into(),
        }
    }

    fn flow(&self) -> anyhow::Result<Flow> {
        let Naming { tuple, zone } = self.tuple.read()?;
        let mut status = self.status.iter().fold(Status::CONFIRMED, |all, bit| all | *bit);
        let mut reply = tuple.inverted().ok_or_else(|| {
            UsageError("no answer belongs to this ICMP type, so it makes no entry".to_owned())
        })?;
        if let Some((address, port)) = self.dnat {
            status |= Status::DST_NAT;
            reply.source = same_family(&tuple, address, "--dnat")?;
            self::port(&mut reply, port, "--dnat", |(source, _), port| *source = port)?;
        }
        if let Some((address, port)) = self.snat {
            status |= Status::SRC_NAT;
            reply.destination = same_family(&tuple, address, "--snat")?;
            self::port(&mut reply, port, "--snat", |(_, destination), port| *destination = port)?;
        }
        let helper = self.helper.clone().map(|name| Helper { name, info: Box::default() });
        Ok(Flow {
            original: tuple,
            reply,
            zone,
            status,
            state: self.protocol_state(tuple.protocol)?,
            timeout: Some(values::seconds(self.timeout)),
            mark: self.mark,
            labels: (!self.label.is_empty()).then(|| Labels::from_bits(self.label.iter().copied())),
            helper: helper.map(Box::new),
            ..Flow::default()
        })
    }

    fn protocol_state(&self, protocol: Protocol) -> Result<ProtocolState, UsageError> {
        let unknown =
            |name: &str| UsageError(format!("--state: `{name}` is no state of {protocol}"));
        let name = self.state.as_deref();
        match protocol {
            Protocol::TCP => {
                let state = name.map_or(Some(TcpState::Established), TcpState::from_name);
                let state = state.ok_or_else(|| unknown(name.unwrap_or_default()))?;
                Ok(ProtocolState::tcp(state))
            }
            Protocol::SCTP => {
                let state = name.map_or(Some(SctpState::Established), SctpState::from_name);
                let state = state.ok_or_else(|| unknown(name.unwrap_or_default()))?;
                Ok(ProtocolState::Sctp(SctpTracking { state, verification_tags: None }))
            }
            _ => match name {
                Some(_) => Err(UsageError(format!("--state: {protocol} has no states"))),
                None => Ok(ProtocolState::None),
            },
        }
    }
}

fn same_family(tuple: &Tuple, address: IpAddr, option: &str) -> Result<IpAddr, UsageError> {
    if address.is_ipv4() == tuple.source.is_ipv4() {
        return Ok(address);
    }
    Err(UsageError(format!("{option}: {address} is not of the family of the tuple's addresses")))
}

/// Puts a port into a reply that has ports.
fn port(
    reply: &mut Tuple,
    port: Option<u16>,
    option: &str,
    put: impl Fn((&mut u16, &mut u16), u16),
) -> Result<(), UsageError> {
    match (port, &mut reply.layer4) {
        (None, _) => Ok(()),
        (Some(port), Layer4::Ports { source, destination }) => {
            put((source, destination), port);
            Ok(())
        }
        _ => Err(UsageError(format!("{option}: {} has no ports", reply.protocol))),
    }
}
