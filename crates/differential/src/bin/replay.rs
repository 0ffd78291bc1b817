//! `engine-replay FILE`: goes through a transcript with the engine; fails where they disagree.

use std::process::ExitCode;

use ctkeeper_differential::replay::replay;
use ctkeeper_differential::transcript::Transcript;
use ctkeeper_engine::Mode;

/// Disagreements that are shown.
const SHOWN: usize = 5;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("engine-replay FILE");
        return ExitCode::from(2);
    };
    let transcripts = match read(&file) {
        Ok(transcripts) => transcripts,
        Err(error) => {
            eprintln!("engine-replay: {file}: {error}");
            return ExitCode::from(2);
        }
    };
    let mut agreed = true;
    for transcript in &transcripts {
        let report = match replay(transcript, Mode::Fast, false) {
            Ok(report) => report,
            Err(error) => {
                eprintln!("engine-replay: {error}");
                return ExitCode::from(2);
            }
        };
        for one in report.disagreements.iter().take(SHOWN) {
            let name = one.sequence.and_then(|number| transcript.played.get(number as usize));
            let name = name.map_or("all", |(_, sequence)| &sequence.name);
            println!("{name}, step {}: {}", one.step, one.text);
        }
        agreed &= report.disagreements.is_empty();
    }
    if agreed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(file: &str) -> Result<Vec<Transcript>, Box<dyn std::error::Error>> {
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}
