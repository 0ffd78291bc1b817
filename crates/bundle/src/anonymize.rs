//! Pseudonyms in place of everything that names somebody.
//!
//! Two rules keep names in: values are taken apart field by field, so that a field added to the
//! snapshot does not compile before somebody has said here what becomes of it ([`values`]); and in
//! texts only what is known to be harmless stays ([`words`]), everything else is replaced.

mod address;
mod names;
mod path;
mod pseudonym;
mod text;
mod values;
mod words;

pub use pseudonym::Key;
use pseudonym::Pseudonyms;
use values::Anonymize;

use crate::Bundle;

/// The bundle with pseudonyms; its report is left as it is, to be made anew.
pub(crate) fn bundle(bundle: Bundle, key: &Key) -> Bundle {
    let mut pseudonyms = Pseudonyms::new(key);
    // The first round learns every name, so that the second finds them in texts that come earlier.
    let _ = Anonymize::anonymized(bundle.clone(), &mut pseudonyms);
    Anonymize::anonymized(bundle, &mut pseudonyms)
}
