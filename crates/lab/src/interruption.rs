//! Signals become an error where the lab waits, so that its guards run.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::LabError;

/// How long a signal may go unnoticed.
const STEP: Duration = Duration::from_millis(20);
/// How often something waited for is looked at.
const LOOK: Duration = Duration::from_millis(2);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP do not end this process but interrupt the lab: every wait
/// returns [`LabError::Interrupted`].
pub fn catch_signals() -> Result<(), LabError> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    let register = |signal| signal_hook::flag::register(signal, Arc::clone(flag)).map(drop);
    [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .try_for_each(register)
        .map_err(|source: io::Error| LabError::system("catch", "signals")(source))
}

/// Whether a signal has asked the lab to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Fails if a signal has asked the lab to stop.
pub fn check_interrupted() -> Result<(), LabError> {
    if interrupted() { Err(LabError::Interrupted) } else { Ok(()) }
}

/// Waits, unless a signal comes.
pub fn pause(time: Duration) -> Result<(), LabError> {
    let end = Instant::now() + time;
    loop {
        check_interrupted()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(STEP));
    }
}

/// Waits until `happened` says so, for `limit` at most; `what` names it in the error.
pub fn wait_for(
    what: &str,
    limit: Duration,
    mut happened: impl FnMut() -> Result<bool, LabError>,
) -> Result<(), LabError> {
    let end = Instant::now() + limit;
    while !happened()? {
        if Instant::now() >= end {
            let (what, seconds) = (what.to_owned(), limit.as_secs());
            return Err(LabError::Timeout { what, seconds, detail: "it did not come".to_owned() });
        }
        pause(LOOK)?;
    }
    Ok(())
}
