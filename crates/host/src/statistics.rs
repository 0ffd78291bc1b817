//! The table's counters as `/proc` shows them, for hosts whose kernel has connection tracking loaded
//! but not its netlink interface: asking there would load a module.

use std::path::Path;

use ctkeeper_flow::{Statistic, Statistics};
use ctkeeper_snapshot::{Gap, GapKind};

use crate::read;

/// Not `/proc/net`, which is the namespace of the process's first thread, wherever the caller's has
/// gone (`proc_self_get_link`, `fs/proc/self.c`, Linux 6.12).
const FILE: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// The counters of the calling thread's namespace by CPU.
///
/// The file is there only in kernels built with `CONFIG_NF_CONNTRACK_PROCFS`.
pub fn per_cpu() -> Result<Vec<Statistics>, Gap> {
    let text = read::text(Path::new(FILE)).map_err(|error| Gap {
        kind: GapKind::Unavailable,
        what: "the table's counters".to_owned(),
        cause: format!("reading {FILE}: {error}"),
        remedy: "load nf_conntrack_netlink, which offers them too".to_owned(),
    })?;
    Ok(parse(&text))
}

/// Reads the table: a line of names, then a line of hexadecimal numbers for each CPU. Names that are
/// not known, and numbers that are none, are passed over.
fn parse(text: &str) -> Vec<Statistics> {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split_whitespace().map(named).collect();
    lines.map(|line| cpu(line, &names)).collect()
}

fn cpu(line: &str, names: &[Option<Statistic>]) -> Statistics {
    let mut statistics = Statistics::default();
    for (number, name) in line.split_whitespace().zip(names) {
        if let (Some(name), Ok(number)) = (name, u64::from_str_radix(number, 16)) {
            statistics.set(*name, number);
        }
    }
    statistics
}

/// The names of `ct_cpu_seq_show` (`net/netfilter/nf_conntrack_standalone.c`, Linux 6.12) where they
/// differ from netlink's. `chainlength` counts chains too long.
fn named(column: &str) -> Option<Statistic> {
    match column {
        "clashres" => Some(Statistic::ClashResolve),
        "chainlength" => Some(Statistic::ChainTooLong),
        "icmp_error" => Some(Statistic::Error),
        name => Statistic::from_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modern_table_is_read_by_name() {
        let text = "entries  clashres found new invalid ignore delete chainlength insert \
                    insert_failed drop early_drop icmp_error  expect_new expect_create \
                    expect_delete search_restart\n\
                    000047bf  00000000 00000001 00000000 00000002 00000000 00000000 00002d71 \
                    00000000 00002d71 0000000a 00000003 00000004  00000000 00000000 00000000 00000005\n";
        let cpus = parse(text);
        assert_eq!(cpus.len(), 1);
        let values = [
            (Statistic::ChainTooLong, 0x2d71),
            (Statistic::InsertFailed, 0x2d71),
            (Statistic::Drop, 10),
            (Statistic::EarlyDrop, 3),
            (Statistic::Error, 4),
            (Statistic::SearchRestart, 5),
            (Statistic::Invalid, 2),
        ];
        for (name, value) in values {
            assert_eq!(cpus[0].get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn broken_tables_give_what_can_be_read() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("drop\n")[..], []);
        assert_eq!(parse("drop insert\nzz 5 7\n")[0].get(Statistic::Insert), Some(5));
        assert_eq!(parse("drop insert\nzz 5 7\n")[0].get(Statistic::Drop), None);
    }
}
