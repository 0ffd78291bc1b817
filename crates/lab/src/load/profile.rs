//! What a load is: its traffic, where it goes, where it comes from, how much of it.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LoadError;
use super::target::{MAX_TARGETS, PortRange, Target};
use super::time;
use super::traffic::Traffic;

/// The highest rate of arrivals, a second.
pub const MAX_RATE: f64 = 1_000_000.0;
/// The most arrivals of one load.
pub const MAX_COUNT: u64 = 200_000_000;
/// The longest time during which arrivals come, and during which a connection is held.
pub const MAX_DURATION: Duration = Duration::from_secs(3600);
/// How long arrivals come if the profile gives neither count nor duration.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(60);
/// The longest answer timeout and connect timeout.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// The largest payload, in bytes.
pub const MAX_PAYLOAD: u32 = 16 * 1024;

/// A load. Write it in Rust from [`Profile::new`], or in TOML:
///
/// ```toml
/// targets = ["10.77.1.1:80"]          # ADDRESS:PORT or ADDRESS:PORT-PORT; IPv6 in brackets
/// sources = { first = "10.77.16.1", count = 1000 }
/// rate = 1_000                        # arrivals a second
/// count = 10_000                      # or duration = "30s", or both: whichever is reached first
/// connect_timeout = "3s"
/// answer_timeout = "3s"
/// traffic = { kind = "tcp_held", probe_every = "1s", exchange = { http = { path = "/" } } }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What an arrival does.
    pub traffic: Traffic,
    /// Where arrivals go, in turns; one IP version for all. Every port of a range is a target.
    pub targets: Vec<Target>,
    /// Where they come from; without it, the address that the kernel chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Sources>,
    /// Arrivals a second, up to [`MAX_RATE`].
    pub rate: f64,
    /// How many arrivals, up to [`MAX_COUNT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// For how long arrivals come; [`DEFAULT_DURATION`] if there is no count either, at most
    /// [`MAX_DURATION`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::optional")]
    pub duration: Option<Duration>,
    /// When a connect is given up, counted from when it was tried.
    #[serde(default = "three_seconds", with = "time")]
    pub connect_timeout: Duration,
    /// When an answer is given up, counted from when the request was sent.
    #[serde(default = "three_seconds", with = "time")]
    pub answer_timeout: Duration,
    /// Chooses the ports (and sequence numbers) of packets that are made by hand: the same seed,
    /// the same packets.
    #[serde(default)]
    pub seed: u64,
}

/// Where arrivals come from: arrival `n` has address `n modulo count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// The first address. It and those that follow must be the namespace's own (`ip route add local
    /// 10.77.16.0/22 dev lo` makes a whole network its own) unless packets are made by hand.
    pub first: IpAddr,
    /// How many addresses, counting upwards.
    #[serde(default = "one")]
    pub count: u32,
    /// Source ports, used in turn as the addresses come round; without it the kernel chooses, at
    /// connect (`IP_BIND_ADDRESS_NO_PORT`), so that a port serves many targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
}

const fn three_seconds() -> Duration {
    Duration::from_secs(3)
}

const fn one() -> u32 {
    1
}

impl Profile {
    /// A load on one target, everything else as by default.
    pub fn new(traffic: Traffic, target: Target, rate: f64) -> Self {
        Self {
            traffic,
            targets: vec![target],
            sources: None,
            rate,
            count: None,
            duration: None,
            connect_timeout: three_seconds(),
            answer_timeout: three_seconds(),
            seed: 0,
        }
    }

    /// For how long arrivals can come: what the profile says, bounded in any case.
    pub fn span(&self) -> Duration {
        let unset = if self.count.is_some() { MAX_DURATION } else { DEFAULT_DURATION };
        self.duration.unwrap_or(unset).min(MAX_DURATION)
    }

    /// Says what makes no sense or goes beyond the lab's bounds. [`Load::start`](super::Load::start)
    /// asks too.
    pub fn check(&self) -> Result<(), LoadError> {
        check_rate(self.rate)?;
        within("count", self.count.unwrap_or(1), 1, MAX_COUNT)?;
        span_within("duration", self.duration.unwrap_or(MAX_DURATION), MAX_DURATION)?;
        span_within("connect_timeout", self.connect_timeout, MAX_TIMEOUT)?;
        span_within("answer_timeout", self.answer_timeout, MAX_TIMEOUT)?;
        self.check_addresses()?;
        self.traffic.check()
    }

    fn check_addresses(&self) -> Result<(), LoadError> {
        let advice = "give at least one, ADDRESS:PORT or ADDRESS:PORT-PORT";
        let first =
            self.targets.first().ok_or_else(|| LoadError::profile("targets", "empty", advice))?;
        let stranger = self.targets.iter().find(|t| t.address.is_ipv4() != first.address.is_ipv4());
        if let Some(stranger) = stranger {
            let advice = format!("all targets have one IP version, and {first} has the other");
            return Err(LoadError::profile("targets", stranger, advice));
        }
        let ports = self.targets.iter().map(|target| u64::from(target.ports.count())).sum();
        within("targets", ports, 1, MAX_TARGETS)?;
        let Some(sources) = &self.sources else { return Ok(()) };
        if sources.first.is_ipv4() != first.address.is_ipv4() {
            let advice = format!("give the IP version of the target {first}");
            return Err(LoadError::profile("sources.first", sources.first, advice));
        }
        within("sources.count", u64::from(sources.count), 1, 1 << 24)?;
        if sources.address(u64::from(sources.count) - 1).is_none() {
            let advice = format!("fewer: they run beyond the last address after {}", sources.first);
            return Err(LoadError::profile("sources.count", sources.count, advice));
        }
        Ok(())
    }
}

pub(super) fn check_rate(rate: f64) -> Result<(), LoadError> {
    if rate.is_finite() && rate > 0.0 && rate <= MAX_RATE {
        return Ok(());
    }
    Err(LoadError::profile("rate", rate, format!("give over 0 and up to {MAX_RATE} a second")))
}

pub(super) fn within(
    field: &'static str,
    value: u64,
    least: u64,
    most: u64,
) -> Result<(), LoadError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(LoadError::profile(field, value, format!("give {least} to {most}")))
}

pub(super) fn span_within(
    field: &'static str,
    value: Duration,
    most: Duration,
) -> Result<(), LoadError> {
    if value > Duration::ZERO && value <= most {
        return Ok(());
    }
    let advice = format!("give over 0 and up to {} s", most.as_secs());
    Err(LoadError::profile(field, format!("{} s", value.as_secs_f64()), advice))
}

impl Sources {
    /// One address, its ports chosen by the kernel.
    pub const fn one(first: IpAddr) -> Self {
        Self { first, count: 1, ports: None }
    }

    /// So many addresses from the first.
    pub const fn range(first: IpAddr, count: u32) -> Self {
        Self { first, count, ports: None }
    }

    /// The address so far above the first; `None` beyond the last there is.
    pub fn address(&self, offset: u64) -> Option<IpAddr> {
        Some(match self.first {
            IpAddr::V4(first) => {
                IpAddr::V4(u32::from(first).checked_add(u32::try_from(offset).ok()?)?.into())
            }
            IpAddr::V6(first) => IpAddr::V6(u128::from(first).checked_add(offset.into())?.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Profile, toml::de::Error> {
        toml::from_str(text)
    }

    const HELD: &str = r#"
        targets = ["10.77.1.1:80-82", "10.77.1.2:443"]
        sources = { first = "10.77.16.1", count = 1000, ports = "20000-40000" }
        rate = 1_000
        count = 10_000
        connect_timeout = "500ms"
        traffic = { kind = "tcp_held", probe_every = "1s", exchange = { http = { path = "/" } } }
    "#;

    #[test]
    fn a_profile_survives_toml() {
        let profile = read(HELD).unwrap();
        profile.check().unwrap();
        assert_eq!(profile.connect_timeout, Duration::from_millis(500));
        assert_eq!(profile.answer_timeout, Duration::from_secs(3));
        let text = toml::to_string(&profile).unwrap();
        assert_eq!(read(&text).unwrap(), profile, "{text}");
    }

    #[test]
    fn unknown_fields_are_denied_everywhere() {
        for wrong in [
            HELD.replace("rate =", "speed = 3\nrate ="),
            HELD.replace("probe_every", "probe_evry"),
            HELD.replace("count = 1000", "number = 1000"),
            HELD.replace("path", "paht"),
            HELD.replace("tcp_held", "tcp_hold"),
            r#"targets = ["10.0.0.1:80"]
               rate = 1
               traffic = { kind = "tcp_short", rset = true }"#
                .to_owned(),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_goes_beyond_the_bounds_is_refused_by_name() {
        for (from, to, field) in [
            ("rate = 1_000", "rate = 0", "rate"),
            ("rate = 1_000", "rate = nan", "rate"),
            ("rate = 1_000", "rate = 1e9", "rate"),
            ("count = 10_000", "count = 0", "count"),
            ("count = 10_000", "duration = \"2h\"", "duration"),
            ("500ms", "0s", "connect_timeout"),
            ("first = \"10.77.16.1\"", "first = \"fd00::1\"", "sources.first"),
            ("first = \"10.77.16.1\"", "first = \"255.255.255.1\"", "sources.count"),
            ("10.77.1.2:443", "[fd00::2]:443", "targets"),
            (", exchange = { http = { path = \"/\" } }", "", "traffic.exchange"),
            ("path = \"/\"", "path = \"/ x\"", "exchange.http.path"),
        ] {
            let text = HELD.replace(from, to);
            assert_ne!(text, HELD);
            let error = read(&text).unwrap().check().unwrap_err();
            assert!(
                matches!(&error, LoadError::Profile { field: f, .. } if *f == field),
                "{error}"
            );
        }
    }

    #[test]
    fn every_kind_reads_as_it_is_documented() {
        let page = include_str!("../load.rs");
        let rows = page.lines().filter_map(|line| {
            line.split_once("| `{ kind = ")?.1.split_once("` |").map(|(row, _)| row.to_owned())
        });
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), 8, "{rows:?}");
        for row in rows {
            let traffic = format!("traffic = {{ kind = {row}");
            let text = format!("targets = [\"10.77.1.1:80\"]\nrate = 10\n{traffic}");
            read(&text).map_err(|error| format!("{text}: {error}")).unwrap().check().unwrap();
            // A field that is not there.
            let wrong = text.replace(" }", ", spped = 1 }");
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn time_is_bounded_even_if_nothing_is_said() {
        let text = HELD.replace("count = 10_000", "");
        assert_eq!(read(&text).unwrap().span(), DEFAULT_DURATION);
        assert_eq!(read(HELD).unwrap().span(), MAX_DURATION);
    }
}
