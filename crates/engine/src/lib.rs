//! Connection tracking as the Linux kernel does it, without I/O and without a clock.
//!
//! What `nf_conntrack` decides for a packet, this engine decides; what its table would hold, this
//! one holds.

mod batch;
#[doc(hidden)]
pub mod bound;
mod clash;
mod collection;
mod collector;
mod coverage;
mod engine;
mod entry;
mod event;
mod expect;
mod extension;
mod footprint;
mod hash;
pub mod helper;
mod hooks;
mod image;
mod index;
mod inspect;
mod memory;
mod namespace;
pub mod nat;
mod outcome;
pub mod packet;
mod random;
mod related;
pub mod rules;
mod settings;
mod short;
mod table;
mod time;
mod track;
pub mod tuple;
mod view;

pub use coverage::{Cell, Coverage};
pub use engine::{Engine, OutOfMemory};
pub use event::{Changes, Event};
pub use image::{Image, ImageError};
pub use nat::Range;
pub use outcome::{Class, Handle, Outcome, Reason, Verdict};
pub use packet::{Packet, Route};
pub use rules::Ruleset;
pub use settings::{Config, Mode, Profile, Settings, TcpTimeout, Timeouts};
pub use time::{TICKS_PER_SECOND, Ticks, Time};
pub use tuple::Tuple;
