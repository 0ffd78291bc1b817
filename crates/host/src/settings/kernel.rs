//! How the kernel sizes the table by itself.
//!
//! Source: `nf_conntrack_init_start` and `nf_ct_alloc_hashtable` of
//! `net/netfilter/nf_conntrack_core.c`, before and after commit d532bcd0 (Linux 5.15).

use std::ops::RangeInclusive;

use ctkeeper_flow::{Limit, Limits};
use ctkeeper_snapshot::{EntrySize, SettingKey};

use super::number::kernel_integer;

const GIB: u64 = 1 << 30;

/// Entries a bucket when the number of buckets was given as a module option.
const FACTOR_WHEN_GIVEN: u64 = 8;

/// Most buckets that the kernel can allocate: the table is at most `INT_MAX` bytes (`kvmalloc`).
pub const MOST_BUCKETS: u64 = 0x7fff_ffff / EntrySize::BUCKET;

/// Limit and buckets that a kernel of this release chooses on a 64-bit host of this much memory
/// (`MemTotal`, bytes); `None` when the release is not understood.
pub fn kernel_default(memory_total: u64, release: &str) -> Option<Limits> {
    let sizing = if version(release)? >= (5, 15) { SINCE_5_15 } else { BEFORE_5_15 };
    if memory_total == 0 {
        return None;
    }
    let buckets = round_up(sizing.buckets(memory_total));
    Some(Limits { limit: Limit(buckets * sizing.factor), buckets })
}

/// Limit and buckets that the module takes when it is loaded with `hashsize=`; `None` for 0, which
/// stands for the kernel's own choice.
pub(super) fn with_hashsize(hashsize: u32) -> Option<Limits> {
    if hashsize == 0 {
        return None;
    }
    let buckets = round_up(u64::from(hashsize));
    Some(Limits { limit: Limit((buckets * FACTOR_WHEN_GIVEN) & 0xffff_ffff), buckets })
}

/// The value that stands after `text` has been written to a setting, if the kernel takes it.
pub(super) fn accepted(key: SettingKey, text: &str, release: &str) -> Option<u64> {
    match key {
        SettingKey::Limit => limit(text, release),
        SettingKey::Buckets => written_buckets(text).map(round_up),
    }
}

/// The number in a line, as [`ctkeeper_snapshot::Assignment::value`] has it: not rounded.
pub(super) fn written_number(key: SettingKey, text: &str, release: &str) -> Option<u64> {
    match key {
        SettingKey::Limit => limit(text, release),
        SettingKey::Buckets => written_buckets(text),
    }
}

/// Up to a page full of buckets, as the kernel allocates them: a multiple of 512 where a page has
/// 4096 bytes.
pub fn round_up(buckets: u64) -> u64 {
    let page = (rustix::param::page_size() as u64 / EntrySize::BUCKET).max(1);
    buckets.div_ceil(page).saturating_mul(page)
}

const INT: RangeInclusive<i64> = 0..=0x7fff_ffff;

/// Linux 6.15 bounds it to 0 and more; before, a negative number was a very large one.
fn limit(text: &str, release: &str) -> Option<u64> {
    if version(release).is_some_and(|version| version < (6, 15)) {
        return kernel_integer(text, &(-0x8000_0000..=0x7fff_ffff)).map(|n| u64::from(n as u32));
    }
    kernel_integer(text, &INT).map(|number| number as u64)
}

fn written_buckets(text: &str) -> Option<u64> {
    let number = kernel_integer(text, &INT)? as u64;
    (number > 0 && round_up(number) <= MOST_BUCKETS).then_some(number)
}

/// `(6, 1)` of `6.1.0-18-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// One of the two formulas.
struct Sizing {
    /// Buckets above 1 GiB and above 4 GiB of memory.
    steps: (u64, u64),
    least: u64,
    factor: u64,
}

const SINCE_5_15: Sizing = Sizing { steps: (65_536, 262_144), least: 1024, factor: 1 };
const BEFORE_5_15: Sizing = Sizing { steps: (16_384, 65_536), least: 32, factor: 4 };

impl Sizing {
    /// A sixteen-thousandth of memory, up to 1 GiB.
    fn buckets(&self, memory: u64) -> u64 {
        let buckets = match memory {
            memory if memory > 4 * GIB => self.steps.1,
            memory if memory > GIB => self.steps.0,
            memory => memory / 16_384 / EntrySize::BUCKET,
        };
        buckets.max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pair(memory: u64, release: &str) -> (u64, u64) {
        let limits = kernel_default(memory, release).unwrap();
        (limits.limit.0, limits.buckets)
    }

    /// The first three pairs were seen on real machines (6.18 with 24 GiB; 6.1 and 6.12 in virtual
    /// machines of 512 and 768 MiB, whose `MemTotal` is a little less).
    #[test]
    fn defaults_are_those_of_real_machines() {
        assert_eq!(pair(24_684_092 * 1024, "6.18.44"), (262_144, 262_144));
        for seen in [470 * MIB, 512 * MIB] {
            assert_eq!(pair(seen, "6.1.0-18-amd64"), (4096, 4096));
        }
        for seen in [710 * MIB, 768 * MIB] {
            assert_eq!(pair(seen, "6.12.117"), (6144, 6144));
        }
        for seen in [961 * MIB, GIB] {
            assert_eq!(pair(seen, "6.1.0"), (8192, 8192));
        }
        assert_eq!(pair(2 * GIB, "5.15.0-91-generic"), (65_536, 65_536));
        assert_eq!(pair(2 * GIB, "5.10.0"), (65_536, 16_384));
        assert_eq!(pair(8 * GIB, "5.4.0"), (262_144, 65_536));
        assert_eq!(pair(16 * MIB, "6.1"), (1024, 1024));
        assert_eq!(pair(16 * MIB, "4.19.0"), (2048, 512));
        assert_eq!(kernel_default(GIB, "unknown"), None);
        assert_eq!(kernel_default(0, "6.1"), None);
    }

    #[test]
    fn a_hashsize_brings_eight_entries_a_bucket() {
        let limits = with_hashsize(150_000).unwrap();
        assert_eq!((limits.buckets, limits.limit.0), (150_016, 1_200_128));
        assert_eq!(with_hashsize(0), None);
    }

    #[test]
    fn buckets_are_refused_at_both_ends() {
        let buckets = |text| accepted(SettingKey::Buckets, text, "6.1");
        assert_eq!(buckets("600000"), Some(600_064));
        assert_eq!(buckets("1"), Some(512));
        for refused in ["0", "-1", "268435456", "2147483647"] {
            assert_eq!(buckets(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_negative_limit_was_once_taken() {
        assert_eq!(accepted(SettingKey::Limit, "-1", "6.1.0"), Some(u64::from(u32::MAX)));
        assert_eq!(accepted(SettingKey::Limit, "-1", "6.18.44"), None);
        assert_eq!(accepted(SettingKey::Limit, "0", "6.18.44"), Some(0));
    }
}
