//! What libFuzzer's bytes mean, and what must hold whatever they are.

mod views;

/// Takes one input of the fuzzer.
///
/// # Panics
/// Where the engine errs: that is what is looked for.
pub fn run(data: &[u8]) {
    views::look(data);
}
