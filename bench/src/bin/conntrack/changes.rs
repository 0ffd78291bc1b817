//! Deleting and loading.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::ControlFlow;

use anyhow::ensure;
use ctkeeper_flow::{Flow, Mark};
use ctkeeper_tests::{Filling, Namespace, filled};

use crate::pair::{Pair, RUNS};

/// Entries made beside those of the lists.
pub(crate) const MOST: u64 = DELETED + LINES;
/// Deleted at a time.
const DELETED: u64 = 50_000;
const DELETED_MARK: u32 = 88;
/// Lines loaded.
const LINES: u64 = 200_000;

pub(crate) fn compare(namespace: &Namespace, entries: u64) -> anyhow::Result<()> {
    let mut table = namespace.conntrack()?;
    // A whole block of the filling shares a source.
    let first = entries.next_multiple_of(DELETED);
    let doomed = || (first..first + DELETED).map(marked);
    let source = marked(first).original.source.to_string();
    let mut refill = || {
        let batch = table.create_batch(doomed(), |_, _| ControlFlow::Continue(()))?;
        ensure!(batch.done == DELETED, "{batch:?}");
        Ok(())
    };
    let mark = DELETED_MARK.to_string();
    for (arguments, name) in [
        (["-D", "-s", &source].as_slice(), "a source"),
        (&["-D", "-f", "ipv4", "-m", &mark], "family and mark"),
    ] {
        let pair = namespace.enter(|| Pair::run(RUNS, arguments, &mut refill))??;
        pair.print(&format!("-D of {DELETED}, {name}"), 0.4);
    }
    load()
}

fn marked(number: u64) -> Flow {
    let mut flow = filled(number, Filling::Established { timeout: 431_000 });
    flow.mark = Some(Mark(DELETED_MARK));
    flow
}

fn load() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    namespace.track()?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(lines().as_bytes())?;
    let path = file.path().to_string_lossy().into_owned();
    let mut table = namespace.conntrack()?;
    let mut empty = || Ok(table.flush()?);
    let arguments = ["-R", path.as_str()];
    let pair = namespace.enter(|| Pair::run(RUNS, &arguments, &mut empty))??;
    pair.print(&format!("-R of {LINES} lines"), 0.5);
    println!();
    let (count, _) = namespace.count_and_limit()?;
    ensure!(count == LINES, "{count} of {LINES} lines made an entry");
    Ok(())
}

/// As `conntrack -L -o save` writes them, made again by -I.
fn lines() -> String {
    let mut text = String::new();
    for number in 0..LINES {
        let flow = filled(number, Filling::Established { timeout: 431_000 });
        let (from, to) = (flow.original, flow.reply);
        let port = |port: Option<u16>| port.unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "-I -t 43100 -u SEEN_REPLY,ASSURED -s {} -d {} -r {} -q {} -p tcp --sport {} --dport {} \
             --reply-port-src {} --reply-port-dst {} --state ESTABLISHED",
            from.source,
            from.destination,
            to.source,
            to.destination,
            port(from.source_port()),
            port(from.destination_port()),
            port(to.source_port()),
            port(to.destination_port()),
        );
    }
    text
}
