//! What libFuzzer's bytes mean, and what must hold whatever they are.
//!
//! The first byte says what the rest is: bytes that need not be a packet, or a program: how an
//! engine is set up and which packets it sees when.

mod image;
mod input;
mod scene;
mod trial;
mod views;
mod wire;
mod world;

/// Takes one input of the fuzzer.
///
/// # Panics
/// Where the engine errs: that is what is looked for.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((0..40, bytes)) => views::look(bytes),
        Some((_, program)) => trial::run(&mut input::Input::new(program)),
        None => {}
    }
}
