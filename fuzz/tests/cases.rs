//! What once failed does so no more, and what nobody looked for yet does not either.

use std::path::Path;

use proptest::prelude::*;

#[test]
fn inputs_that_once_failed_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        ctkeeper_fuzz::run(&std::fs::read(path).unwrap());
    }
}

proptest! {
    #[test]
    fn any_input_passes(data in prop::collection::vec(any::<u8>(), 0..600)) {
        ctkeeper_fuzz::run(&data);
    }
}
