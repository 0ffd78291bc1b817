//! What listeners are told, by the kernel and by the engine.
//!
//! An event of the kernel tells of what changed only (`ctnetlink_conntrack_event`,
//! `nf_conntrack_netlink.c`, Linux 6.12); one of the engine has the whole connection, and says what
//! changed. They are compared by what the kernel would tell of the engine's.

use std::collections::BTreeMap;

use ctkeeper_engine::{Changes, Event};
use ctkeeper_flow::{Flow, ProtocolState};

use crate::compare::{Key, comparable};
use crate::transcript::{Heard, HeardKind};

/// The events of both that are yet to be compared.
#[derive(Debug, Default)]
pub(crate) struct Ledger<'a> {
    heard: Vec<&'a Heard>,
    told: Vec<Event>,
}

/// In what order events are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// In the same.
    Whole,
    /// In the same about each connection: nobody knows where the kernel's collector and whoever
    /// lists its table go first.
    EachConnection,
}

/// What both tell about one connection: the kernel, the engine.
type Accounts = (Vec<String>, Vec<String>);

impl<'a> Ledger<'a> {
    /// What the kernel tells.
    pub(crate) fn hear(&mut self, heard: impl IntoIterator<Item = &'a Heard>) {
        self.heard.extend(heard);
    }

    /// What the engine tells.
    pub(crate) fn tell(&mut self, events: Vec<Event>) {
        self.told.extend(events);
    }

    /// Where the two differ, each with the connection that it is about if it is about one. All of
    /// it is forgotten.
    pub(crate) fn settle(&mut self, order: Order) -> Vec<(Option<Flow>, String)> {
        let heard: Vec<_> =
            self.heard.drain(..).map(|heard| (&heard.flow, theirs(heard))).collect();
        let told = std::mem::take(&mut self.told);
        let told: Vec<_> = told.iter().map(|event| (&event.flow, ours(event))).collect();
        if heard.iter().map(|one| &one.1).eq(told.iter().map(|one| &one.1)) {
            return Vec::new();
        }
        let mut different = by_connection(&heard, &told);
        if different.is_empty() && order == Order::Whole {
            let texts = |all: &[(&Flow, String)]| all.iter().map(|one| one.1.clone()).collect();
            different.push((None, difference(&(texts(&heard), texts(&told)))));
        }
        different
    }
}

fn by_connection(
    heard: &[(&Flow, String)],
    told: &[(&Flow, String)],
) -> Vec<(Option<Flow>, String)> {
    let mut connections: BTreeMap<Key, (&Flow, Accounts)> = BTreeMap::new();
    let fresh = |flow| (flow, Accounts::default());
    for &(flow, ref text) in heard {
        let (_, accounts) = connections.entry(Key::of(flow)).or_insert_with(|| fresh(flow));
        accounts.0.push(text.clone());
    }
    for &(flow, ref text) in told {
        let (_, accounts) = connections.entry(Key::of(flow)).or_insert_with(|| fresh(flow));
        accounts.1.push(text.clone());
    }
    let differ = connections.into_values().filter(|(_, (kernel, engine))| kernel != engine);
    differ.map(|(flow, accounts)| (Some(flow.clone()), difference(&accounts))).collect()
}

fn difference((kernel, engine): &Accounts) -> String {
    let list = |texts: &[String]| {
        if texts.is_empty() { "nothing".to_owned() } else { texts.join(", then ") }
    };
    format!("events: the kernel tells {}; the engine {}", list(kernel), list(engine))
}

/// What an event tells; `None` or the like where it does not say.
#[derive(Debug)]
#[expect(dead_code, reason = "its Debug form is what is compared")]
struct Account {
    kind: HeardKind,
    original: String,
    reply: String,
    zone: String,
    status: String,
    state: String,
    mark: u32,
    counters: String,
    helper: Option<String>,
    master: Option<String>,
    labels: String,
}

fn theirs(heard: &Heard) -> String {
    account(heard.kind, &heard.flow)
}

/// An event of the engine as the kernel would send it. The state, the master and the labels come
/// with those events that say so; counters with the last, which has nothing of the helper.
fn ours(event: &Event) -> String {
    let (kind, mut flow) = (kind_of(event.changes), event.flow.clone());
    let is_end = kind == HeardKind::Destroy;
    let says = |change| !is_end && event.changes.contains(change);
    if is_end {
        flow.helper = None;
    } else {
        (flow.counters_original, flow.counters_reply) = (None, None);
        if !says(Changes::PROTOCOL) {
            flow.state = ProtocolState::None;
        }
    }
    if !says(Changes::RELATED) {
        flow.master = None;
    }
    if !says(Changes::LABELS) {
        flow.labels = None;
    }
    account(kind, &flow)
}

const fn kind_of(changes: Changes) -> HeardKind {
    if changes.contains(Changes::DESTROY) {
        HeardKind::Destroy
    } else if changes.contains(Changes::NEW) || changes.contains(Changes::RELATED) {
        HeardKind::New
    } else {
        HeardKind::Update
    }
}

fn account(kind: HeardKind, flow: &Flow) -> String {
    let state = match kind {
        // The last event has the state's name and nothing of windows and tags.
        HeardKind::Destroy => flow.state.name().unwrap_or_default().to_owned(),
        _ => format!("{:?}", comparable(flow.state)),
    };
    let account = Account {
        kind,
        original: flow.original.to_string(),
        reply: flow.reply.to_string(),
        zone: format!("{:?}", flow.zone),
        status: flow.status.to_string(),
        state,
        mark: flow.mark.unwrap_or_default().0,
        counters: format!("{:?} {:?}", flow.counters_original, flow.counters_reply),
        helper: flow.helper.as_ref().map(|helper| helper.name.to_string()),
        master: flow.master.as_ref().map(ToString::to_string),
        labels: format!("{:?}", flow.labels.unwrap_or_default()),
    };
    format!("{account:?}")
}
