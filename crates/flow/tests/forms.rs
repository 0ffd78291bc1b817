//! Every written form gives back what it carries, and no text makes a reader panic.

mod strategy;

use ctkeeper_flow::{EventKind, TcpTracking};
use ctkeeper_flow::{Flow, Helper, ProtocolState, SctpTracking, Status, json, text};
use proptest::prelude::*;

/// What the text form carries of an entry.
fn carried_by_text(flow: &Flow) -> Flow {
    let shown = Status::SEEN_REPLY
        | if flow.status.contains(Status::HW_OFFLOAD) {
            Status::HW_OFFLOAD
        } else if flow.status.contains(Status::OFFLOAD) {
            Status::OFFLOAD
        } else {
            Status::ASSURED
        };
    let helper = flow
        .helper
        .as_ref()
        .map(|helper| Box::new(Helper { name: helper.name.clone(), info: Box::default() }));
    let state = match flow.state {
        ProtocolState::Tcp(tcp) => {
            ProtocolState::Tcp(TcpTracking { window_scale: None, flags: None, ..tcp })
        }
        ProtocolState::Sctp(sctp) => {
            ProtocolState::Sctp(SctpTracking { verification_tags: None, ..sctp })
        }
        ProtocolState::Dccp { state, .. } => {
            ProtocolState::Dccp { state, role: None, handshake_sequence: None }
        }
        ProtocolState::None => ProtocolState::None,
    };
    Flow {
        status: flow.status & shown,
        state,
        helper,
        timestamps: None,
        labels: None,
        master: None,
        sequence_adjustment: None,
        synproxy: None,
        event_time: None,
        ..flow.clone()
    }
}

fn line(flow: &Flow, options: &text::TextOptions<'_>) -> String {
    let mut out = Vec::new();
    text::write(flow, options, &mut out);
    String::from_utf8(out).unwrap()
}

fn event() -> impl Strategy<Value = Option<EventKind>> {
    proptest::option::of(proptest::sample::select(EventKind::ALL.to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn text_gives_back_what_it_carries(
        flow in strategy::flow(), extended: bool, event in event(), now: u64,
        namespace in proptest::option::of(strategy::hostile_text()),
    ) {
        let namespace = namespace.as_deref();
        let options = text::TextOptions {
            event, extended, id: true, now, namespace, ..Default::default()
        };
        let written = line(&flow, &options);
        prop_assert!(written.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{written}");
        prop_assert!(!written.ends_with(' '));
        let read = text::parse_line(&written).unwrap();
        prop_assert_eq!(read.event, event);
        prop_assert_eq!(read.namespace.as_deref(), namespace);
        let inferred = Status::CONFIRMED | Status::SRC_NAT | Status::DST_NAT;
        let read = Flow { status: read.flow.status & !inferred, ..read.flow };
        prop_assert_eq!(read, carried_by_text(&flow));
    }

    #[test]
    fn json_gives_back_everything(
        flow in strategy::flow(), event in event(),
        namespace in proptest::option::of(strategy::hostile_text()),
    ) {
        let mut out = Vec::new();
        let options = json::JsonOptions { event, namespace: namespace.as_deref() };
        json::write(&flow, &options, &mut out);
        let written = String::from_utf8(out).unwrap();
        prop_assert!(written.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{written}");
        let read = json::parse_line(&written).unwrap();
        prop_assert_eq!(read.event, event);
        prop_assert_eq!(read.namespace, namespace);
        prop_assert_eq!(read.flow, flow);
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        let _ = text::parse_line(&text);
        let _ = json::parse_line(&text);
    }

    /// A line with a character replaced, removed or doubled: read or refused, with a column inside.
    #[test]
    fn a_damaged_line_is_read_or_refused(
        flow in strategy::flow(), at: prop::sample::Index, with in "\\PC|", extended: bool,
    ) {
        let options = text::TextOptions { extended, ..Default::default() };
        let mut damaged: Vec<char> = line(&flow, &options).chars().collect();
        let at = at.index(damaged.len());
        damaged.splice(at..=at, with.chars());
        let damaged: String = damaged.into_iter().collect();
        if let Err(error) = text::parse(&damaged) {
            prop_assert!((1..=damaged.chars().count() + 1).contains(&error.column));
        }
    }

    #[test]
    fn a_cut_object_is_refused(flow in strategy::flow(), at: prop::sample::Index) {
        let mut out = Vec::new();
        json::write(&flow, &json::JsonOptions::default(), &mut out);
        let written = String::from_utf8(out).unwrap();
        let cut = &written[..at.index(written.len())];
        prop_assert!(json::parse(cut).is_err());
    }
}
