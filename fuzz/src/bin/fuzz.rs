//! The target of libFuzzer: `cargo xtask fuzz` builds it with coverage counters and runs it.

#![cfg_attr(not(test), no_main)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ctkeeper_fuzz::run(data));
