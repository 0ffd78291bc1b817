//! What turned connection tracking on in a namespace, and whether anything acts on it.
//!
//! A namespace tracks from the moment a rule, an object or a module asks for it (`nf_ct_netns_get`,
//! Linux 6.12), be it never hooked in: measured on 6.18, a `ct state` rule in a dormant table and a
//! masquerade in a chain without a hook do, an empty chain of type nat and `notrack` do not.

mod legacy;
mod rules;

use std::path::Path;

use ctkeeper_netlink::nftables::RulesetSummary;
use ctkeeper_snapshot::{Gap, GapKind, Tracker, Tracking};

use crate::module;

/// Looks for what turned tracking on in the calling thread's namespace. Nothing is loaded or made by
/// looking; a cause that cannot be read leaves [`Tracking::complete`] off and a gap.
pub fn find() -> (Tracking, Vec<Gap>) {
    let mut gaps = Vec::new();
    let mut tracking = Tracking { trackers: Vec::new(), complete: true };
    match RulesetSummary::read() {
        Ok(summary) => rules::add(&summary.unwrap_or_default(), &mut tracking),
        Err(error) => {
            tracking.complete = false;
            gaps.push(unread_rules(&error));
        }
    }
    legacy::add(Path::new("/"), &mut tracking);
    add_parameter(&mut tracking);
    (tracking, gaps)
}

fn unread_rules(error: &ctkeeper_netlink::Error) -> Gap {
    let kind = if error.is_permission() { GapKind::Privilege } else { GapKind::Unavailable };
    Gap {
        kind,
        what: "the nftables rules".to_owned(),
        cause: error.to_string(),
        remedy: error.advice().unwrap_or("run as root").to_owned(),
    }
}

/// With `enable_hooks` every namespace tracks from its start.
fn add_parameter(tracking: &mut Tracking) {
    if module::enables_hooks() == Some(true) {
        tracking.trackers.push(Tracker {
            place: "module parameter enable_hooks".to_owned(),
            what: "tracking in every namespace".to_owned(),
            ..Tracker::default()
        });
    }
}
