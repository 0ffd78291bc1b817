//! `engine-replay FILE`: goes through the transcripts of a file, one to a line, with the engine;
//! fails with the first on which they disagree.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::ExitCode;

use ctkeeper_differential::replay::{Manner, Report, replay};
use ctkeeper_differential::transcript::Transcript;

/// Disagreements that are shown.
const SHOWN: usize = 5;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("engine-replay FILE");
        return ExitCode::from(2);
    };
    match agrees(&file) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("engine-replay: {file}: {error}");
            ExitCode::from(2)
        }
    }
}

fn agrees(file: &str) -> Result<bool, Box<dyn Error>> {
    for line in BufReader::new(File::open(file)?).lines() {
        let transcript: Transcript = serde_json::from_str(&line?)?;
        for manner in [Manner::BATCHES, Manner::COUNTED] {
            let report = replay(&transcript, manner)?;
            if !report.disagreements.is_empty() {
                show(&transcript, &report);
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn show(transcript: &Transcript, report: &Report) {
    for one in report.disagreements.iter().take(SHOWN) {
        let played = one.sequence.and_then(|number| transcript.played.get(number as usize));
        let name = played.map_or("all", |(_, sequence)| &sequence.name);
        println!("{name}, step {}: {}", one.step, one.text);
    }
}
