//! From tuples to records.

pub(crate) mod chains;
pub(crate) mod eviction;
pub(crate) mod records;
pub(crate) mod tags;
