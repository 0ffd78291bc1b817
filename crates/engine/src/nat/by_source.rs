//! Connections by their source, so that a client keeps its mapping
//! (`nf_nat_bysource`, `nf_nat_core.c`, Linux 6.12).
//!
//! The kernel lists every connection with a source binding. Here only those are listed whose
//! source was changed: the others map it to itself, and a range that would take that mapping has
//! taken the source as it is before.

use crate::entry::NOWHERE;
use crate::extension::{Extensions, has};
use crate::hash::Hasher;
use crate::tuple::Tuple;

/// Heads of chains of extensions, newest first. Memory is taken with the first connection.
#[derive(Debug)]
pub(crate) struct BySource {
    /// Places plus one, 0 for an empty chain.
    heads: Vec<u32>,
    chains: usize,
    hasher: Hasher,
}

impl BySource {
    pub(crate) fn new(connections: u32, seed: u64) -> Self {
        // Not the key of the table: what is learnt about one says nothing of the other.
        let hasher = Hasher::new(!seed);
        Self { heads: Vec::new(), chains: chains(connections), hasher }
    }

    /// Bytes of memory for a table of so many connections, once any is translated.
    pub(crate) const fn bytes_at(connections: u32) -> usize {
        chains(connections) * size_of::<u32>()
    }

    /// Bytes of memory taken.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.heads)
    }

    fn chain(&self, original: &Tuple, zone: u16, namespace: u16) -> u32 {
        let source = Tuple { destination: 0, destination_id: 0, ..*original };
        self.hasher.directional(&source, zone, namespace) & (self.chains as u32 - 1)
    }
}

const fn chains(connections: u32) -> usize {
    // Not more than u32 can count.
    let wanted = if connections > 1 << 31 { 1 << 31 } else { connections };
    (wanted as usize).next_power_of_two()
}

impl Extensions {
    /// Lists a connection by the source of its original tuple; `zone` is the id that counts in
    /// the original direction.
    pub(crate) fn list_by_source(
        &mut self,
        place: u32,
        original: &Tuple,
        zone: u16,
        namespace: u16,
    ) {
        if self.by_source.heads.is_empty() {
            self.by_source.heads = vec![0; self.by_source.chains];
        }
        let chain = self.by_source.chain(original, zone, namespace);
        let next = self.by_source.heads[chain as usize].wrapping_sub(1);
        self.by_source.heads[chain as usize] = place + 1;
        let extension = self.at_mut(place);
        extension.has |= has::BY_SOURCE;
        extension.chain = chain;
        extension.next = next;
        extension.previous = NOWHERE;
        if next != NOWHERE {
            self.at_mut(next).previous = place;
        }
    }

    /// Takes a connection off its list, if it is on one.
    pub(crate) fn unlist_by_source(&mut self, place: u32) {
        let extension = self.at_mut(place);
        if extension.has & has::BY_SOURCE == 0 {
            return;
        }
        extension.has &= !has::BY_SOURCE;
        let (next, previous, chain) = (extension.next, extension.previous, extension.chain);
        if previous == NOWHERE {
            self.by_source.heads[chain as usize] = next.wrapping_add(1);
        } else {
            self.at_mut(previous).next = next;
        }
        if next != NOWHERE {
            self.at_mut(next).previous = previous;
        }
    }

    /// Places of the extensions whose connections may have the source of this original tuple,
    /// newest first. Others may be among them.
    pub(crate) fn with_source(
        &self,
        original: &Tuple,
        zone: u16,
        namespace: u16,
    ) -> impl Iterator<Item = u32> {
        let chain = self.by_source.chain(original, zone, namespace);
        let head = self.by_source.heads.get(chain as usize).map_or(NOWHERE, |h| h.wrapping_sub(1));
        std::iter::successors((head != NOWHERE).then_some(head), |place| {
            let next = self.at(*place).next;
            (next != NOWHERE).then_some(next)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ctkeeper_flow::Family;
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;
    use crate::entry::Entry;

    fn client(number: u16) -> Tuple {
        Tuple {
            source: 0x0a00_0000 + u128::from(number),
            destination: 0xc000_0201,
            source_id: 40_000,
            destination_id: 53,
            protocol: 17,
            family: Family::Ipv4,
        }
    }

    proptest! {
        /// After any sequence of listing and unlisting each client's connections are found,
        /// newest first, whatever shares their chains.
        #[test]
        fn every_connection_is_found_under_its_source(
            steps in prop::collection::vec((0u16..6, any::<bool>(), any::<prop::sample::Index>()), 1..80),
        ) {
            let mut extensions = Extensions::new(2, 7);
            let mut model = HashMap::<u16, Vec<u32>>::new();
            for (number, is_new, index) in steps {
                let places = model.entry(number).or_default();
                if is_new || places.is_empty() {
                    let mut entry = Entry::new_zeroed();
                    entry.extension = NOWHERE;
                    extensions.ensure(0, &mut entry);
                    extensions.list_by_source(entry.extension, &client(number), 0, 0);
                    places.insert(0, entry.extension);
                } else {
                    extensions.free(places.remove(index.index(places.len())));
                }
                for (number, places) in &model {
                    let found: Vec<u32> = extensions
                        .with_source(&client(*number), 0, 0)
                        .filter(|place| places.contains(place))
                        .collect();
                    prop_assert_eq!(&found, places);
                }
            }
        }
    }

    #[test]
    fn the_number_of_chains_is_bounded() {
        assert_eq!(BySource::bytes_at(0), 4);
        assert_eq!(BySource::bytes_at(1_000_000), 4 << 20);
        assert_eq!(BySource::bytes_at(u32::MAX), 4 << 31);
    }
}
