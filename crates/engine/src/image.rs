//! Images: a whole table as a value that can be stored and brought back.

mod connection;
mod contents;

/// Why an image cannot be restored: it was damaged, or made by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Of a version that this program does not know.
    #[error(
        "the image is of version {0}, this program knows version 1: restore it with the one that made it"
    )]
    Version(u32),
    /// A connection cannot be.
    #[error("connection {number} of the image cannot be restored: {what}")]
    Connection {
        /// Its place in the image, from 0 on.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Something names a connection that is not there, or that cannot be what it is named for.
    #[error("the image names connection {0} where it has none that fits")]
    Reference(u32),
    /// A connection stands in its hash chains not at all, or twice.
    #[error("the hash chains of the image are torn at connection {0}")]
    Chain(u32),
    /// An expectation cannot be.
    #[error("expectation {0} of the image cannot be restored")]
    Expectation(usize),
    /// More or less namespaces than the parts of the image speak of.
    #[error("the parts of the image differ in their number of namespaces")]
    Namespaces,
    /// More connections than its own configuration has room for.
    #[error("the image holds {0} connections, more than its configuration has room for")]
    TooMany(usize),
    /// The collector's or the random generator's state cannot be.
    #[error("the state of the collector in the image cannot be")]
    Collector,
    /// Memory for as many connections as the image asks for cannot be had.
    #[error("memory for the image's configuration cannot be had: give it a lower capacity")]
    Memory,
}
