//! Packet sequences on the real kernel: a router of its own that every packet goes through and
//! comes out of with its class, and a table that is read in between.

mod devices;
mod recorder;
mod router;

pub use recorder::Detail;
pub use router::Router;
