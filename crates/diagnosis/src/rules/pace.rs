//! How fast a counter moves, in words.

use std::time::Duration;

use ctkeeper_flow::units::{count, duration};
use ctkeeper_snapshot::{EvidenceSource, Rates};

use crate::context::Context;

/// Rates are stated over windows from this on.
const SHORTEST: Duration = Duration::from_millis(200);

/// Time between the two looks.
pub(super) fn window(rates: &Rates) -> Duration {
    Duration::from_millis(rates.window_ms)
}

/// Whether what moved still goes on, as far as one can tell: the earlier look is not long ago.
pub(super) fn is_recent(context: &Context<'_>, rates: &Rates) -> bool {
    window(rates).as_secs() <= context.thresholds.rate_window
}

/// `312 packets/s`, or without a rate where the earlier look is long ago.
pub(super) fn pace(context: &Context<'_>, rates: &Rates, amount: u64, things: &str) -> String {
    let window = window(rates);
    // A rate over days means little, and so does one over milliseconds.
    if !is_recent(context, rates) || window < SHORTEST {
        return format!("{} {things} in the last {}", count(amount), duration(window));
    }
    let rate = per_second(rates, amount);
    match rates.since {
        EvidenceSource::Window => format!("{rate} {things}/s"),
        EvidenceSource::LastRun => {
            format!("{rate} {things}/s since the last look {} ago", duration(window))
        }
    }
}

/// `312`, `0.4`.
fn per_second(rates: &Rates, amount: u64) -> String {
    let rate = rates.per_second(amount as f64);
    if rate >= 10.0 { count(rate.round() as u64) } else { format!("{rate:.1}") }
}
