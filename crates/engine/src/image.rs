//! Images: a whole table as a value that can be stored and brought back.

mod connection;
mod contents;

use ctkeeper_flow::Statistic;
use serde::{Deserialize, Serialize};

use crate::collector::Collector;
use crate::engine::Engine;
use crate::index::Index;
use crate::random::Random;
use crate::settings::{Config, Settings};
use contents::{Contents, Empty, Parts};

/// The version of images that this program makes and knows.
const VERSION: u32 = 1;

/// An engine as a value: its configuration, its namespaces with their settings and statistics,
/// every connection with its trackers' state, expectations, and in exact mode the order of the hash
/// chains, the collector's position and the random generator's state.
///
/// A restored engine goes on as the one it was taken from would have. In exact mode that is so to
/// the last draw; in fast mode expired connections may go at other moments. Two things are not in
/// it: events and coverage that nobody has fetched yet, and the helpers themselves, which the
/// caller adds anew in the same order. Handles are of one engine and name nothing in another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    version: u32,
    config: Config,
    namespaces: Vec<Namespace>,
    contents: Contents,
    collector: Collector,
    random: Random,
    next_id: u32,
}

/// A namespace in an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Namespace {
    settings: Settings,
    /// By [`Statistic::ALL`].
    statistics: Vec<u64>,
}

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

impl Image {
    /// What its engine was built with. An image from elsewhere may ask for any amount of memory:
    /// look at its capacity and buckets before it is restored.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// How many connections it holds.
    pub const fn connections(&self) -> usize {
        self.contents.connections.len()
    }

    /// How many namespaces it holds.
    pub const fn namespaces(&self) -> usize {
        self.namespaces.len()
    }
}

impl Engine {
    /// The engine as a value.
    pub fn image(&self) -> Image {
        let table = &self.table;
        let chains = match &table.index {
            Index::Exact(chains) => Some(chains),
            Index::Fast(_) => None,
        };
        let contents = Contents::of(Parts {
            arena: &table.arena,
            extensions: &table.extensions,
            chains,
            expectations: &table.related.expectations,
            helpers: &table.related.helpers,
        });
        let namespaces = table.namespaces.iter().map(|namespace| Namespace {
            settings: namespace.settings.clone(),
            statistics: namespace.counters.to_vec(),
        });
        Image {
            version: VERSION,
            config: self.config.clone(),
            namespaces: namespaces.collect(),
            contents,
            collector: self.collector.clone(),
            random: table.random.clone(),
            next_id: table.next_id,
        }
    }

    /// An engine that goes on where an image was taken.
    ///
    /// # Errors
    /// [`ImageError`]: an image that no engine can have made is refused.
    pub fn restore(image: &Image) -> Result<Self, ImageError> {
        if image.version != VERSION {
            return Err(ImageError::Version(image.version));
        }
        if !image.collector.is_sound(&image.config) || image.next_id == 0 {
            return Err(ImageError::Collector);
        }
        let mut engine = Self::new(image.config.clone()).map_err(|_| ImageError::Memory)?;
        for namespace in &image.namespaces {
            engine.restore_namespace(namespace)?;
        }
        engine.restore_contents(&image.contents)?;
        engine.collector = image.collector.clone();
        engine.table.random = image.random.clone();
        engine.table.next_id = image.next_id;
        Ok(engine)
    }

    fn restore_namespace(&mut self, namespace: &Namespace) -> Result<(), ImageError> {
        let number = self.add_namespace(namespace.settings.clone());
        let number = usize::from(number.ok_or(ImageError::Namespaces)?);
        let counters: [u64; Statistic::ALL.len()] =
            namespace.statistics.as_slice().try_into().map_err(|_| ImageError::Namespaces)?;
        self.table.namespaces[number].counters = counters;
        Ok(())
    }

    fn restore_contents(&mut self, contents: &Contents) -> Result<(), ImageError> {
        let table = &mut self.table;
        let empty = Empty {
            arena: &mut table.arena,
            extensions: &mut table.extensions,
            expectations: &mut table.related.expectations,
            helpers: &mut table.related.helpers,
        };
        let chains = match &mut table.index {
            Index::Exact(chains) => Some(chains),
            Index::Fast(_) => None,
        };
        let lines = contents.put(table.namespaces.len(), empty, chains)?;
        for line in lines {
            table.namespaces[usize::from(table.arena.entry(line).namespace)].count += 1;
            if let Index::Fast(fast) = &mut table.index {
                let entered = fast.insert(&mut table.arena, &table.extensions, line);
                entered.map_err(|_| ImageError::TooMany(contents.connections.len()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
