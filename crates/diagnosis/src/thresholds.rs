//! The numbers at which rules speak, in one place.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Every threshold of every rule. Shares are of 1.
///
/// The defaults are read from a TOML file that names only what differs; an unknown name is an
/// error. `ctkeeper explain thresholds` prints them with this documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// `nearly-full` warns at this share of the limit.
    pub nearly_full_warning: f64,
    /// `nearly-full` is critical at this share, unless eviction can make room.
    pub nearly_full_critical: f64,
    /// `nearly-full` warns when growth fills the table within this many seconds, from half full on.
    pub time_to_full_warning: u64,
    /// `table-full` counts a namespace as full from this share on while packets are refused: near
    /// the limit the collector takes closing entries, so the count rests a little below.
    pub full_share: f64,
    /// `table-full` leaves a full table to `early-drop` while evictions make room for all but this
    /// share of the new connections.
    pub refused_share: f64,
    /// `table-full` states a rate only over windows up to this many seconds.
    pub rate_window: u64,
    /// `locked` and `soft` look at namespaces from this share of the limit on.
    pub room_share: f64,
    /// `locked` speaks when at least this share of the entries is locked.
    pub locked_share: f64,
    /// `soft` speaks when at most this share of the entries is assured; so does `early-drop` where
    /// more packets are refused than entries evicted.
    pub soft_share: f64,
    /// `snat-ports` speaks of refusals when at least this share of the ports that an address has
    /// towards one destination may be in use: the first searches fail at 0.6 (measured).
    pub snat_ports_used: f64,
    /// `snat-ports` asks for at least so many ports tried and found taken for each packet refused
    /// (four times as many where no group that is used up was seen).
    pub snat_searches: f64,
    /// `clash` warns at this many clashes a second, over at least a minute.
    pub clash_warning: f64,
    /// `clash` ignores fewer packets: two ports chosen at random are the same one now and then.
    pub clash_packets: u64,
    /// `invalid-packets` notes this many a second.
    pub invalid_note: f64,
    /// `invalid-packets` warns at this many a second.
    pub invalid_warning: f64,
    /// `invalid-packets` ignores fewer a second than this share of the namespace's entries.
    pub invalid_share: f64,
    /// `second-wall` notes a limit of this many entries a bucket.
    pub load_note: f64,
    /// `second-wall` warns at a limit of this many entries a bucket.
    pub load_warning: f64,
    /// `second-wall` is critical when the table carries this many entries a bucket: insertions
    /// begin to fail at 16 (measured).
    pub load_critical: f64,
    /// `memory-at-limit` notes a table that would take this share of the memory free to plan with.
    pub memory_note: f64,
    /// `memory-at-limit` warns at this share.
    pub memory_warning: f64,
    /// `memory-at-limit` is critical at this share.
    pub memory_critical: f64,
    /// `idle-established` looks at timeouts of at least this many seconds.
    pub idle_timeout: u32,
    /// `idle-established` speaks when at least this share of the entries is established and idle.
    pub idle_share: f64,
    /// `idle-established` ignores namespaces with fewer entries.
    pub idle_entries: u64,
    /// `kernel-log` warns of lines younger than this many seconds; older ones are notes, and of
    /// namespaces that have gone only younger ones are.
    pub log_recent: u64,
    /// `why-tracked` ignores namespaces with fewer entries.
    pub why_tracked_entries: u64,
    /// `expectations-full` warns at this share of the limit of expectations; at the limit it is
    /// critical.
    pub expectations_warning: f64,
    /// `two-entries` speaks from this many entries for each client connection on.
    pub two_entries_ratio: f64,
    /// `two-entries` speaks when reuse would free this share of the limit, or
    /// `two_entries_entries`.
    pub two_entries_share: f64,
    /// `two-entries` speaks when reuse would free so many entries, or `two_entries_share`.
    pub two_entries_entries: u64,
    /// `tracked-twice` speaks from this share of a namespace's entries on.
    pub tracked_twice_share: f64,
    /// `tracked-twice` speaks from so many entries on.
    pub tracked_twice_entries: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            nearly_full_warning: 0.80,
            nearly_full_critical: 0.95,
            time_to_full_warning: 3600,
            full_share: 0.94,
            refused_share: 0.01,
            rate_window: 600,
            room_share: 0.50,
            locked_share: 0.80,
            soft_share: 0.50,
            snat_ports_used: 0.55,
            snat_searches: 8.0,
            clash_warning: 0.1,
            clash_packets: 3,
            invalid_note: 20.0,
            invalid_warning: 100.0,
            invalid_share: 0.001,
            load_note: 2.0,
            load_warning: 4.0,
            load_critical: 16.0,
            memory_note: 0.10,
            memory_warning: 0.50,
            memory_critical: 1.0,
            idle_timeout: 86_400,
            idle_share: 0.25,
            idle_entries: 1000,
            log_recent: 3600,
            why_tracked_entries: 1,
            expectations_warning: 0.80,
            two_entries_ratio: 1.5,
            two_entries_share: 0.02,
            two_entries_entries: 10_000,
            tracked_twice_share: 0.5,
            tracked_twice_entries: 1000,
        }
    }
}

impl Thresholds {
    /// The thresholds of a TOML text; what it does not name keeps its default.
    pub fn from_toml(text: &str) -> Result<Self, ThresholdsError> {
        let thresholds: Self = toml::from_str(text)?;
        thresholds.check()?;
        Ok(thresholds)
    }

    /// The TOML form, every threshold named.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), ThresholdsError> {
        let ordered = [
            ("nearly_full_warning", self.nearly_full_warning, self.nearly_full_critical),
            ("invalid_note", self.invalid_note, self.invalid_warning),
            ("load_note", self.load_note, self.load_warning),
            ("load_warning", self.load_warning, self.load_critical),
            ("memory_note", self.memory_note, self.memory_warning),
            ("memory_warning", self.memory_warning, self.memory_critical),
        ];
        match ordered.into_iter().find(|(_, lower, higher)| !(*lower > 0.0 && lower <= higher)) {
            Some((name, lower, higher)) => Err(ThresholdsError::Disordered { name, lower, higher }),
            None => Ok(()),
        }
    }
}

/// Why a text gives no thresholds.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ThresholdsError {
    /// Not TOML, an unknown name, or a value of the wrong kind.
    #[error("not understood (`ctkeeper explain thresholds` lists every name with its default)")]
    Malformed(#[from] toml::de::Error),
    /// A milder threshold lies above a graver one, or is not above zero.
    #[error("{name} = {lower} must be above 0 and not above its graver neighbour, {higher}")]
    Disordered {
        /// The milder threshold.
        name: &'static str,
        /// Its value.
        lower: f64,
        /// The graver one's value.
        higher: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_form_is_read_back() {
        let defaults = Thresholds::default();
        assert_eq!(Thresholds::from_toml(&defaults.to_toml()).unwrap(), defaults);
    }

    #[test]
    fn only_what_differs_is_named() {
        let thresholds = Thresholds::from_toml("nearly_full_warning = 0.7").unwrap();
        assert_eq!((thresholds.nearly_full_warning, thresholds.load_note), (0.7, 2.0));
    }

    #[test]
    fn typos_and_nonsense_are_errors() {
        for text in ["nearly_ful = 0.7", "load_note = 99.0", "memory_note = -1.0", "load_note = \""]
        {
            assert!(Thresholds::from_toml(text).is_err(), "{text}");
        }
    }
}
