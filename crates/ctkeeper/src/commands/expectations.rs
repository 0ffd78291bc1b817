//! Expectations: `list` and `watch` with `--table expectations`.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctkeeper_flow::units;
use ctkeeper_netlink::{Conntrack, ExpectationEvent, ExpectationEvents, Groups};

use super::namespaces::Selection;
use super::watch::{ONE_NAMESPACE, PATIENCE};
use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{ExpectationWriter, Format, Screen, say};

/// Said to whoever wants some of them only.
pub(super) const NO_FILTER: &str =
    "filters and --resync are for entries: expectations are shown all";

/// Lists them.
pub(super) fn list(
    output: Option<Format>,
    limit: Option<u64>,
    global: &Global,
) -> anyhow::Result<ExitCode> {
    let screen = Screen::stdout(global.color);
    let format = Format::choose(output, global.json, &screen)?;
    let mut writer = ExpectationWriter::new(format, false, screen)?;
    let (mut shown, limit) = (0, limit.unwrap_or(u64::MAX));
    let complete = Selection::of(global)?.each_table(|table, label| {
        shown += of_table(table, label, limit - shown, &mut writer)?;
        Ok(())
    })?;
    writer.finish()?;
    say!("{} shown.", units::counted(shown, "expectation", "expectations"));
    Ok(ExitCode::from(if complete { exit::OK } else { exit::FAILURE }))
}

/// Shows up to `limit` of them; returns how many.
fn of_table(
    table: &mut Conntrack,
    label: Option<&str>,
    limit: u64,
    writer: &mut ExpectationWriter,
) -> anyhow::Result<u64> {
    let (mut shown, mut written) = (0, Ok(()));
    if limit == 0 {
        return Ok(0);
    }
    table.expectations(|expectation| {
        written = writer.expectation(&expectation, label, None);
        shown += 1;
        if written.is_ok() && shown < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    written?;
    Ok(shown)
}

/// What is watched, and until when.
pub(super) struct Watch {
    pub(super) output: Option<Format>,
    pub(super) groups: Groups,
    /// Bytes of kernel memory for events that wait.
    pub(super) buffer: usize,
    /// Events that may still be shown.
    pub(super) left: u64,
    pub(super) deadline: Option<Instant>,
}

impl Watch {
    /// Shows events until told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool, global: &Global) -> anyhow::Result<ExitCode> {
        let screen = Screen::stdout(global.color);
        let format = Format::choose(self.output, global.json, &screen)?;
        let mut writer = ExpectationWriter::new(format, true, screen)?;
        let mut events = match &Selection::of(global)? {
            Selection::Own => ExpectationEvents::subscribe(self.groups, self.buffer)?,
            Selection::One(namespace) => {
                ExpectationEvents::subscribe_in(namespace, self.groups, self.buffer)?
            }
            Selection::All(_) => return Err(UsageError(ONE_NAMESPACE.to_owned()).into()),
        };
        let (mut shown, mut lost) = (0, 0);
        while self.left > 0 && !stop.load(Ordering::Relaxed) {
            let rest = self.deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) {
                break;
            }
            let patience = rest.map_or(PATIENCE, |rest| rest.min(PATIENCE));
            let (now_shown, now_lost) = self.read(&mut events, patience, &mut writer)?;
            (shown, lost) = (shown + now_shown, lost + now_lost);
        }
        writer.finish()?;
        say!("{} events shown, {} lost.", units::count(shown), units::count(lost));
        Ok(ExitCode::from(exit::OK))
    }

    /// Reads once; returns how many events were shown and lost.
    fn read(
        &mut self,
        events: &mut ExpectationEvents,
        patience: Duration,
        writer: &mut ExpectationWriter,
    ) -> anyhow::Result<(u64, u64)> {
        let (mut shown, mut written) = (0, Ok(()));
        let reading = events.read(patience, |ExpectationEvent { kind, expectation, .. }| {
            if self.left > 0 && written.is_ok() {
                self.left -= 1;
                shown += 1;
                written = writer.expectation(expectation, None, Some(kind));
            }
        })?;
        written?;
        writer.flush()?;
        let lost = reading.lost + reading.undecodable + u64::from(reading.lost_uncounted);
        if lost > 0 {
            say!("ctkeeper: {} lost", units::counted(lost, "event", "events"));
        }
        Ok((shown, lost))
    }
}
