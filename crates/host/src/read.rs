//! Bounded reading of small files, and naming what could not be read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ctkeeper_snapshot::{Gap, GapKind};

/// Longest file that is taken for a settings file or a `/proc` value list.
pub(crate) const LIMIT: u64 = 4 << 20;

/// The bytes of a file, at most [`LIMIT`] of them.
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut content)?;
    Ok(content)
}

/// The text of a file; bytes that are no UTF-8 are replaced.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    bytes(path).map(|content| String::from_utf8_lossy(&content).into_owned())
}

/// The trimmed text of a file of one value.
pub(crate) fn value(path: impl AsRef<Path>) -> io::Result<String> {
    text(path.as_ref()).map(|content| content.trim().to_owned())
}

/// The number that a file holds, if it is there and holds one.
pub(crate) fn number(path: impl AsRef<Path>) -> Option<u64> {
    value(path).ok()?.parse().ok()
}

/// Names what `path` would have told.
pub(crate) fn gap(what: impl Into<String>, path: &Path, error: &io::Error) -> Gap {
    let kind = gap_kind(error);
    let remedy = match kind {
        GapKind::Privilege => "run as root",
        GapKind::Unavailable => "mount /proc and /sys, or run on the host itself",
        GapKind::BrokenFile => "look at the file; it is ignored until it can be read",
        GapKind::Vanished => "run again",
    };
    let cause = format!("reading {}: {error}", path.display());
    Gap { kind, what: what.into(), cause, remedy: remedy.to_owned() }
}

fn gap_kind(error: &io::Error) -> GapKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => GapKind::Privilege,
        io::ErrorKind::NotFound => GapKind::Unavailable,
        _ => GapKind::BrokenFile,
    }
}
