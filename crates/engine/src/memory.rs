//! The table's memory: lines of records, huge pages, prefetch.
//!
//! The only place of this crate where `unsafe` may stand.

mod advise;
mod arena;
mod bytes;
mod prefetch;

pub(crate) use advise::want_huge_pages;
pub(crate) use arena::Arena;
pub(crate) use bytes::equal_bytes;
pub(crate) use prefetch::prefetch;
