//! Requests that carry exactly what they are given, and what the kernel says to them.

use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use ctkeeper_flow::{
    Labels, Mark, Protocol, ProtocolState, SctpState, Status, TcpFlags, Tuple, Zone,
};
use ctkeeper_netlink::{Conntrack, DumpFilter, EntryRequest, TrackerRequest, Translation, Verb};

use crate::support::{table, tcp, udp, v4, v6};

const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

/// The least that makes a UDP entry.
fn least(number: u32) -> EntryRequest {
    let original = udp(number).original;
    EntryRequest { original, reply: original.inverted(), timeout: Some(100), ..Default::default() }
}

fn refused(table: &mut Conntrack, verb: Verb, request: &EntryRequest) -> anyhow::Result<i32> {
    let error = table.request_entry(verb, request).err();
    let error = error.with_context(|| format!("{verb:?} was done: {request:?}"))?;
    Ok(error.errno().with_context(|| error.to_string())?.0)
}

pub(crate) fn refusals_carry_the_kernels_number() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    for verb in [Verb::Update, Verb::Delete] {
        ensure!(refused(&mut table, verb, &least(1))? == ENOENT, "{verb:?}");
    }
    let missing = table.look_up(&least(1)).unwrap_err();
    ensure!(missing.errno().map(|errno| errno.0) == Some(ENOENT), "{missing}");
    let lasting_nothing = EntryRequest { timeout: None, ..least(1) };
    ensure!(refused(&mut table, Verb::Create, &lasting_nothing)? == EINVAL);
    let expected = EntryRequest { status: Some(Status::EXPECTED), ..least(1) };
    ensure!(refused(&mut table, Verb::Create, &expected)? == EBUSY);
    let two_zones = EntryRequest { zone: Some(1), zone_original: Some(2), ..least(1) };
    ensure!(refused(&mut table, Verb::Create, &two_zones)? == EINVAL);

    table.request_entry(Verb::Create, &least(1))?;
    ensure!(refused(&mut table, Verb::Create, &least(1))? == EEXIST);
    let stands = table.look_up(&least(1))?;
    ensure!(stands.status.contains(Status::CONFIRMED) && !stands.is_replied(), "{stands:?}");
    let other_id = EntryRequest { id: stands.id.map(|id| !id), ..least(1) };
    ensure!(refused(&mut table, Verb::Delete, &other_id)? == ENOENT);
    table.request_entry(Verb::Delete, &EntryRequest { id: stands.id, ..least(1) })?;
    ensure!(table.count_and_limit()?.entries == 0);
    Ok(())
}

pub(crate) fn every_attribute_arrives() -> anyhow::Result<()> {
    let (namespace, mut table) = table()?;
    namespace.nft(
        "table inet t {\nchain c {\ntype filter hook input priority 0;\nct label set 3\n}\n}\n",
    )?;
    let liberal = TcpFlags { flags: 10, mask: 10 };
    let original = tcp(1).original;
    let request = EntryRequest {
        original,
        reply: original.inverted(),
        zone: Some(7),
        status: Some(Status::SEEN_REPLY | Status::ASSURED),
        timeout: Some(300),
        mark: Some(Mark(0xbeef)),
        tracker: Some(TrackerRequest::Tcp { state: Some(3), flags: Some((liberal, liberal)) }),
        source_translation: Some(Translation { address: Some(v4(99)), port: Some(5000) }),
        destination_translation: Some(Translation { address: Some(v4(98)), port: None }),
        labels: Some(Labels::from_bits([1, 127])),
        ..EntryRequest::default()
    };
    table.request_entry(Verb::Create, &request)?;
    let stands = table.look_up(&request)?;
    let server = (v4(98), original.destination_port().context("no port")?);
    let reply = Tuple::with_ports(Protocol::TCP, server, (v4(99), 5000));
    ensure!(stands.reply == reply, "{}", stands.reply);
    ensure!(stands.zone == Zone::both(7) && stands.mark == Some(Mark(0xbeef)), "{stands:?}");
    ensure!(stands.labels == Some(Labels::from_bits([1, 127])), "{:?}", stands.labels);
    ensure!(stands.is_assured() && stands.is_source_translated(), "{}", stands.status);
    let ProtocolState::Tcp(tracking) = stands.state else { anyhow::bail!("{stands:?}") };
    let flags = tracking.flags.context("no flags")?;
    ensure!(flags.0.flags == 10 && flags.1.flags == 10, "{flags:?}");

    // Under a mask, only the bits of the mask change.
    let change = EntryRequest {
        labels: Some(Labels::from_bits([5])),
        labels_mask: Some(Labels::from_bits([1, 5])),
        mark: Some(Mark(0x1)),
        mark_mask: Some(0xf),
        ..EntryRequest::naming(&stands)
    };
    table.request_entry(Verb::Update, &change)?;
    let stands = table.look_up(&change)?;
    ensure!(stands.labels == Some(Labels::from_bits([5, 127])), "{:?}", stands.labels);
    ensure!(stands.mark == Some(Mark(0xbee1)), "{:?}", stands.mark);

    let ends = ((v6(1), 1), (v6(2), 2));
    let original = Tuple::with_ports(Protocol::SCTP, ends.0, ends.1);
    let tags = (Some(1), Some(2));
    let request = EntryRequest {
        original,
        reply: original.inverted(),
        zone_original: Some(9),
        timeout: Some(100),
        tracker: Some(TrackerRequest::Sctp { state: Some(4), verification_tags: tags }),
        ..EntryRequest::default()
    };
    table.request_entry(Verb::Create, &request)?;
    let stands = table.look_up(&request)?;
    let ProtocolState::Sctp(tracking) = stands.state else { anyhow::bail!("{stands:?}") };
    ensure!(tracking.state == SctpState::Established, "{tracking:?}");
    ensure!(tracking.verification_tags == Some((1, 2)), "{tracking:?}");
    ensure!(EntryRequest::naming(&stands).zone_original == Some(9), "{:?}", stands.zone);
    Ok(())
}

pub(crate) fn a_batch_mixes_verbs_in_order() -> anyhow::Result<()> {
    let (_namespace, mut table) = table()?;
    // Each entry is made, changed, deleted, and made again: out of order, something is refused.
    let marked = |number| EntryRequest { mark: Some(Mark(number)), ..least(number) };
    let requests = (0..1000).flat_map(|number| {
        [
            (Verb::Create, least(number)),
            (Verb::Update, EntryRequest { mark: Some(Mark(7)), ..least(number) }),
            (Verb::Delete, least(number)),
            (Verb::Create, marked(number)),
        ]
    });
    let batch = table.request_batch(requests, |index, error| {
        eprintln!("{index}: {error}");
        ControlFlow::Continue(())
    })?;
    ensure!((batch.done, batch.failed) == (4000, 0), "{batch:?}");
    let stand = table.collect(&DumpFilter::ALL)?;
    ensure!(
        stand.len() == 1000
            && stand
                .iter()
                .all(|flow| flow.mark != Some(Mark(7)) || flow.original == least(7).original)
    );

    let mut refusals = Vec::new();
    let requests = [
        (Verb::Delete, least(1)),
        (Verb::Delete, least(1)),
        (Verb::Create, least(2)),
        (Verb::Update, least(1)),
        (Verb::Create, least(1)),
    ];
    table.request_batch(requests, |index, error| {
        refusals.push((index, error.errno().map(|errno| errno.0)));
        ControlFlow::Continue(())
    })?;
    ensure!(refusals == [(1, Some(ENOENT)), (2, Some(EEXIST)), (3, Some(ENOENT))], "{refusals:?}");
    Ok(())
}
