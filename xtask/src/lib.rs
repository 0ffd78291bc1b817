//! The repository's chores as a library: building static binaries, and virtual machines with
//! Debian's own kernels, which the suite `vm` of the tests and `cargo xtask vm shell` start.

pub mod build;
pub mod fuzz;
pub mod vm;
