//! Sets of numbers as ranges.

/// Inclusive ranges, sorted, neither overlapping nor touching; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges(Box<[(u64, u64)]>);

impl Ranges {
    /// The set of some ranges, each with its low end first.
    pub(super) fn new(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged.into())
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&number))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// The only number of the set, if it has but one.
    pub(super) fn single(&self) -> Option<u64> {
        match *self.0 {
            [(low, high)] if low == high => Some(low),
            _ => None,
        }
    }

    /// The only range of the set, if it has but one.
    pub(super) fn only(&self) -> Option<(u64, u64)> {
        if let [range] = *self.0 { Some(range) } else { None }
    }
}
