//! Connection tracking as the Linux kernel does it, without I/O and without a clock.
//!
//! What `nf_conntrack` decides for a packet, this engine decides; what its table would hold, this
//! one holds. Packets and the time go in, what becomes of each comes out: for replaying captures,
//! for trying rules and limits before a host does, for planning capacity, for data planes in user
//! space.
//!
//! ```
//! use ctkeeper_engine::{Class, Config, Engine, Packet, Settings, Time};
//!
//! // Two DNS packets from the network header on: a question and its answer.
//! let question = [
//!     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 53, // IPv4, UDP
//!     0x9c, 0x40, 0, 53, 0, 8, 0, 0, // port 40000 to port 53, no payload, no checksum
//! ];
//! let mut answer = question;
//! answer[12..20].rotate_left(4);
//! answer[20..24].rotate_left(2);
//!
//! let mut engine = Engine::new(Config { limit: 1000, ..Config::default() })?;
//! engine.add_namespace(Settings::default());
//! let outcome = engine.packet(Time::from_seconds(1), &Packet::new(&question), &mut ());
//! assert_eq!(outcome.class, Class::New);
//! let outcome = engine.packet(Time::from_millis(1_020), &Packet::new(&answer), &mut ());
//! assert_eq!(outcome.class, Class::Established);
//! for (_, flow) in engine.connections(Time::from_seconds(5)) {
//!     println!("{} for {} s more", flow.original, flow.timeout.unwrap_or(0));
//! }
//! # assert_eq!(engine.connections(Time::from_seconds(5)).count(), 1);
//! # Ok::<(), ctkeeper_engine::OutOfMemory>(())
//! ```
//!
//! # What goes in
//!
//! A [`Packet`] is bytes from the network header on and where it is: its namespace, its [`Route`],
//! its interfaces. [`Engine::packet`] takes one, [`Engine::batch`] many, which is faster where
//! connections are many. A [`Ruleset`] is asked at the hooks, as nftables would be; `()` has no
//! rules, [`rules::Rules`] is a small list of them, or write your own. The [`Config`] says what is
//! global to a host (limit, buckets), [`Settings`] what each namespace sets: every
//! `nf_conntrack_*` sysctl.
//!
//! # What comes out
//!
//! An [`Outcome`]: verdict, `ct state`, direction, why it was refused, and a [`Handle`] of its
//! connection. [`Engine::connection`] and [`Engine::connections`] show connections as
//! `ctkeeper_flow::Flow`s, the value that a dump of the kernel gives; [`Engine::statistics`] the
//! counters of `conntrack -S`; [`Engine::events`] what `conntrack -E` would print;
//! [`Engine::translate`] the bytes behind NAT. [`Engine::image`] is the whole table as a value to
//! be stored, [`Engine::restore`] goes on from it.
//!
//! # Two modes
//!
//! | | [`Mode::Fast`] | [`Mode::Exact`] |
//! |---|---|---|
//! | verdicts and states below the limit | the kernel's | the kernel's |
//! | table | tags in cache lines, one place a connection | the kernel's chains, head first, with their length limit |
//! | whom early drop ends | unassured ones from a few buckets of its own | all unassured ones of the first of eight chains that has any |
//! | expired connections | gone within [`Config::sweep`] | when the kernel's worker comes by, or a lookup meets them |
//! | listing | by place in memory | the kernel's order |
//!
//! Which tuples share a chain is in neither mode the kernel's: its hash has a key that nobody sees.
//! What is drawn at random here follows from [`Config::seed`].
//!
//! # Bounds
//!
//! Memory is known before ([`Engine::bytes_at`]), and no packet waits for expiry: the collector
//! does a little whenever packets come, [`Engine::collect`] lets it work when none do. Each engine
//! is for one thread; [`Packet::shard`] tells which of several a packet belongs to.
//!
//! # Which kernel
//!
//! [`Profile`] says. Every rule names the kernel file that it was read from. A differential test
//! sends the same packets through the kernel (6.1, 6.12 and 6.18) and through the engine, and
//! compares class, verdict, translation and table.
//!
//! Not there: DCCP's tracker (6.1 and 6.12 have one; here it is a protocol without ports), SYNPROXY,
//! helpers other than FTP, rewriting of payload for helpers (FTP behind NAT), timeout policies,
//! offload.

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
