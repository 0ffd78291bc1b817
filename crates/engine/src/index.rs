//! From tuples to records.

pub(crate) mod tags;
