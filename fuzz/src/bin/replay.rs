//! Runs every input of some folders once: `cargo xtask fuzz` counts by it which lines were reached.
//! With `CTKEEPER_FUZZ_TELL` set it prints each packet and what became of it.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut inputs = 0_u64;
    for folder in std::env::args_os().skip(1).map(PathBuf::from) {
        let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for file in files {
            let path = file?.path();
            let data = fs::read(&path).with_context(|| path.display().to_string())?;
            ctkeeper_fuzz::run(&data);
            inputs += 1;
        }
    }
    println!("{inputs} inputs replayed");
    Ok(())
}
