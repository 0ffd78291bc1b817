//! The engine against the kernel: packet sequences, transcripts of what a kernel made of them, and
//! their comparison with what the engine makes of them.
//!
//! Nothing here talks to a kernel: the recorder is in `tests/`, and a transcript can be replayed
//! anywhere (`engine-replay FILE`), without privileges.

pub mod actors;
pub mod addresses;
pub mod campaign;
mod compare;
pub mod dice;
mod events;
mod foretold;
pub mod generate;
pub mod ground;
pub mod replay;
pub mod sequence;
pub mod shrink;
pub mod transcript;
pub mod wire;

use std::time::Duration;

/// What a pause is a multiple of.
///
/// No multiple of it lies within a quarter of a second of a timeout of 1, 2, 4, 5 or 7 seconds, so
/// that it does not matter on which side of a tick a packet falls.
pub const SLOT: Duration = Duration::from_millis(750);
