//! Causes of tracking outside nftables: legacy iptables, IPVS, Open vSwitch, traffic control.
//!
//! Their rules are not read here (the legacy tool creates tables by looking), so what is found
//! leaves open whether tracking is needed.

use std::io;
use std::path::Path;

use ctkeeper_snapshot::{Tracker, Tracking};

use crate::read;

/// Lists of legacy tables of the thread's namespace (`/proc/net` would be the first thread's);
/// reading them creates nothing.
const LISTS: [(&str, &str); 2] = [
    ("iptables-legacy", "proc/thread-self/net/ip_tables_names"),
    ("ip6tables-legacy", "proc/thread-self/net/ip6_tables_names"),
];

/// Modules whose rules can send packets through tracking.
const MODULES: [(&str, &str); 2] = [("openvswitch", "Open vSwitch"), ("act_ct", "tc action ct")];

pub(super) fn add(root: &Path, tracking: &mut Tracking) {
    for (tool, list) in LISTS {
        add_tables(tool, &root.join(list), tracking);
    }
    add_ipvs(root, tracking);
    for (module, place) in MODULES {
        if read::number(root.join("sys/module").join(module).join("refcnt")).is_some_and(|n| n > 0)
        {
            add_open(tracking, place.to_owned(), "rules that were not read");
        }
    }
}

/// A table is there once the legacy tool has touched it; whether it has rules is not told.
fn add_tables(tool: &str, list: &Path, tracking: &mut Tracking) {
    match read::text(list) {
        Ok(tables) => {
            for table in tables.lines() {
                add_open(tracking, format!("{tool} {table}"), "a table whose rules were not read");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => tracking.complete = false,
    }
}

/// IPVS tracks its connections where `net.ipv4.vs.conntrack` is on.
fn add_ipvs(root: &Path, tracking: &mut Tracking) {
    if read::number(root.join("proc/sys/net/ipv4/vs/conntrack")).is_some_and(|on| on != 0) {
        tracking.trackers.push(Tracker {
            place: "IPVS (net.ipv4.vs.conntrack)".to_owned(),
            what: "connections of its services".to_owned(),
            needed: true,
            ..Tracker::default()
        });
    }
}

fn add_open(tracking: &mut Tracking, place: String, what: &str) {
    tracking.complete = false;
    tracking.trackers.push(Tracker { place, what: what.to_owned(), ..Tracker::default() });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Tracking {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut tracking = Tracking { trackers: Vec::new(), complete: true };
        add(root.path(), &mut tracking);
        tracking
    }

    #[test]
    fn nothing_found_is_complete() {
        assert_eq!(found(&[("proc/thread-self/net/ip_tables_names", "")]).needed(), Some(false));
    }

    #[test]
    fn legacy_tables_leave_it_open() {
        let tracking = found(&[("proc/thread-self/net/ip_tables_names", "nat\nfilter\n")]);
        assert_eq!(tracking.trackers[0].place, "iptables-legacy nat");
        assert_eq!((tracking.trackers.len(), tracking.needed()), (2, None));
    }

    #[test]
    fn ipvs_needs_it_and_open_vswitch_may() {
        assert_eq!(found(&[("proc/sys/net/ipv4/vs/conntrack", "1\n")]).needed(), Some(true));
        assert_eq!(found(&[("proc/sys/net/ipv4/vs/conntrack", "0\n")]).needed(), Some(false));
        assert_eq!(found(&[("sys/module/openvswitch/refcnt", "3\n")]).needed(), None);
        assert_eq!(found(&[("sys/module/openvswitch/refcnt", "0\n")]).needed(), Some(false));
    }
}
