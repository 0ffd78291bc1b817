//! Time as the caller gives it and ticks as the tracker counts them.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A moment on the caller's clock: nanoseconds since any epoch of the caller's choice.
///
/// The engine never reads a clock. Moments given to one engine should not go backwards; one that
/// does is taken as it stands, as the kernel would take a jiffies counter that does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// A moment so many seconds after the epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// A moment so many milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }
}

/// A moment or a span in the kernel's jiffies, 32 bits wide and wrapping as they do.
///
/// Timeouts of connections are kept in these, so that rounding and the order of expiry are the
/// kernel's (`nf_ct_is_expired`, `include/net/netfilter/nf_conntrack.h`, Linux 6.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticks(pub u32);

/// Jiffies a second of the kernels that are modelled (`CONFIG_HZ` of Debian's kernels).
pub const TICKS_PER_SECOND: u32 = 250;

impl Ticks {
    /// The tick in which a moment lies.
    pub const fn at(time: Time) -> Self {
        Self((time.0 / (1_000_000_000 / TICKS_PER_SECOND as u64)) as u32)
    }

    /// So many seconds; a span that does not fit is the longest that does (`i32::MAX` ticks).
    pub const fn from_seconds(seconds: u32) -> Self {
        let ticks = seconds as u64 * TICKS_PER_SECOND as u64;
        Self(if ticks > i32::MAX as u64 { i32::MAX as u32 } else { ticks as u32 })
    }

    /// How long from `now` until this moment; negative when it has passed.
    pub const fn after(self, now: Self) -> i32 {
        self.0.wrapping_sub(now.0).cast_signed()
    }

    /// Whether this deadline has come: at the very tick it has.
    pub const fn is_due(self, now: Self) -> bool {
        self.after(now) <= 0
    }

    /// Whole seconds of a span, rounded down as the kernel shows timeouts.
    pub const fn seconds(self) -> u32 {
        self.0 / TICKS_PER_SECOND
    }
}

impl Add for Ticks {
    type Output = Self;
    fn add(self, span: Self) -> Self {
        Self(self.0.wrapping_add(span.0))
    }
}

impl Sub for Ticks {
    type Output = Self;
    fn sub(self, span: Self) -> Self {
        Self(self.0.wrapping_sub(span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_at_its_very_tick() {
        let deadline = Ticks::at(Time::from_seconds(10));
        assert!(!deadline.is_due(Ticks::at(Time::from_millis(9_996))));
        assert!(deadline.is_due(Ticks::at(Time::from_millis(10_000))));
    }

    #[test]
    fn deadlines_wrap() {
        let now = Ticks(u32::MAX - 10);
        let deadline = now + Ticks(20);
        assert_eq!(deadline, Ticks(9));
        assert_eq!(deadline.after(now), 20);
        assert!(!deadline.is_due(now));
    }
}
