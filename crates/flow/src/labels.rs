//! The names of connection labels.

use crate::Labels;

/// Which label bit has which name, as an administrator chose them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelNames(Vec<Option<Box<str>>>);

impl LabelNames {
    /// The names of bits. Bits above 127 do not exist and are left out; of two names for one bit
    /// the first counts.
    pub fn new<'n>(names: impl IntoIterator<Item = (u8, &'n str)>) -> Self {
        let mut by_bit = vec![None; 128];
        for (bit, name) in names {
            if let Some(place @ None) = by_bit.get_mut(usize::from(bit)) {
                *place = Some(name.into());
            }
        }
        Self(by_bit)
    }

    /// The name of a bit, if it has one.
    pub fn name(&self, bit: u8) -> Option<&str> {
        self.0.get(usize::from(bit))?.as_deref()
    }

    /// The names of the labels that are set, lowest bit first; those without a name are passed
    /// over.
    pub fn names(&self, labels: Labels) -> impl Iterator<Item = &str> {
        labels.bits().filter_map(|bit| self.name(bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_of_bits() {
        let names = LabelNames::new([(40, "forty"), (1, "one"), (127, "last"), (1, "uno")]);
        let labels = Labels::from_bits([127, 40, 1, 2]);
        assert_eq!(names.names(labels).collect::<Vec<_>>(), ["one", "forty", "last"]);
        assert_eq!(LabelNames::new([(200, "none")]).name(200), None);
    }
}
