//! The numbers by which namespaces know each other, as the kernel confirms them.

use std::collections::HashMap;

use ctkeeper_netlink::links::Links;
use ctkeeper_netlink::netns::{Enumeration, FoundNamespace};

use super::wiring::Prove;

/// Sockets kept open meanwhile: most questions are about few namespaces.
const OPEN: usize = 16;

/// What the kernel has told.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// By the namespace that knows, and the one that is known.
    numbers: HashMap<(u64, u64), u32>,
    /// Interfaces whose other end was not seen at the last look.
    pub(super) unseen: usize,
}

impl Numbers {
    /// Forgets what is known of a namespace: another one may have its inode now.
    pub(super) fn forget(&mut self, inode: u64) {
        self.numbers.retain(|(from, other), _| *from != inode && *other != inode);
    }

    /// Forgets those that have gone.
    pub(super) fn keep(&mut self, is_there: impl Fn(u64) -> bool) {
        self.numbers.retain(|(from, other), _| is_there(*from) && is_there(*other));
    }
}

/// Asks the kernel.
pub(super) struct Prover<'a> {
    known: &'a mut Numbers,
    found: HashMap<u64, &'a FoundNamespace>,
    open: HashMap<u64, Option<Links>>,
}

impl<'a> Prover<'a> {
    pub(super) fn new(known: &'a mut Numbers, enumeration: &'a Enumeration) -> Self {
        let found = enumeration.namespaces.iter().map(|found| (found.inode, found)).collect();
        Self { known, found, open: HashMap::new() }
    }

    fn ask(&mut self, from: u64, other: u64) -> Option<u32> {
        if self.open.len() >= OPEN && !self.open.contains_key(&from) {
            self.open.clear();
        }
        let found = &self.found;
        let links = self.open.entry(from).or_insert_with(|| {
            let namespace = found.get(&from)?.open().ok()?;
            Links::open_in(&namespace).ok()
        });
        let other = self.found.get(&other)?.open().ok()?;
        links.as_mut()?.number_of(&other).ok().flatten()
    }
}

impl Prove for Prover<'_> {
    fn knows(&mut self, from: u64, number: u32, other: u64) -> bool {
        let known = self.known.numbers.get(&(from, other)).copied();
        // One that has no number yet may get one.
        let known = known.or_else(|| {
            let told = self.ask(from, other)?;
            self.known.numbers.insert((from, other), told);
            Some(told)
        });
        known == Some(number)
    }
}
