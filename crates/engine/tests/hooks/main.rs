//! Rules, translation and helpers through the whole engine, packet by packet.

mod capacity;
mod kernel;
mod nat;
mod properties;
mod related;
mod router;
mod rules;
