//! The command by itself: `cargo run -p ctkeeper-conntrack --example conntrack -- -L`.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use ctkeeper_conntrack::Streams;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let streams = Streams { out: &mut out, err: &mut err };
    ExitCode::from(ctkeeper_conntrack::run(&arguments, streams))
}
