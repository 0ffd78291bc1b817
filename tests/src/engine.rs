//! Packet sequences on the real kernel: a router of its own that every packet goes through and
//! comes out of with its class, and a table that is read in between.

mod campaign;
mod coverage;
mod devices;
mod own;
mod recorder;
mod router;

pub use campaign::{Campaign, Found, Plan, alone};
pub use coverage::coverage;
pub use recorder::Detail;
pub use router::Router;
