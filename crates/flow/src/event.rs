//! The kinds of event that the kernel tells of an entry.

use std::fmt;

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// It entered the table.
    New,
    /// Its state, status, mark or another attribute changed.
    Update,
    /// It left the table.
    Destroy,
}

impl EventKind {
    /// Every kind, in the order in which an entry goes through them.
    pub const ALL: [Self; 3] = [Self::New, Self::Update, Self::Destroy];

    /// `new`, `update` or `destroy`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Update => "update",
            Self::Destroy => "destroy",
        }
    }

    /// The kind of a name, in any case; `updates` and `destroyed` are taken too.
    pub fn from_name(name: &str) -> Option<Self> {
        let known = |kind: &Self| name.eq_ignore_ascii_case(kind.name());
        Self::ALL.into_iter().find(known).or_else(|| match name.to_ascii_lowercase().as_str() {
            "updates" => Some(Self::Update),
            "destroyed" => Some(Self::Destroy),
            _ => None,
        })
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
