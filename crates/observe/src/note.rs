//! The note of the last look: counters, so that the next look knows rates without waiting.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Pulse;

/// Where the note is kept: gone after a reboot, as the counters are.
pub const DEFAULT_NOTE: &str = "/run/ctkeeper/last-look.json";

/// A note being written: with the writer's pid behind it.
const DRAFT: &str = ".last-look.";

/// The last look's pulse, if there is a readable one.
pub(crate) fn read(path: &Path) -> Option<Pulse> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Keeps a pulse for the next look: whole or not at all. Failure is silent, as it takes nothing
/// from this look; the next one will know no rates.
pub(crate) fn write(path: &Path, pulse: &Pulse) {
    let (Some(folder), Ok(json)) = (path.parent(), serde_json::to_vec(pulse)) else { return };
    sweep(folder);
    let draft = folder.join(format!("{DRAFT}{}", std::process::id()));
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft))
        .and_then(|mut file| file.write_all(&json))
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // Nothing more can be done about a file that could not be written.
        let _ = fs::remove_file(&draft);
    }
}

/// Removes the drafts of runs that were killed.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer = name.to_str().and_then(|name| name.strip_prefix(DRAFT));
        if writer.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another run may have swept it.
            let _ = fs::remove_file(entry.path());
        }
    }
}
