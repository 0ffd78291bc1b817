//! `ctkeeper doctor`: one Snapshot, judged.

use std::process::ExitCode;

use clap::Args;

use crate::cli::Global;
use crate::exit;
use crate::ui::Screen;

/// Options of `ctkeeper doctor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {}

/// Takes or loads a Snapshot, judges it, prints the findings.
pub(crate) fn run(_args: &DoctorArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let _screen = Screen::stdout(global.color);
    Ok(ExitCode::from(exit::OK))
}
