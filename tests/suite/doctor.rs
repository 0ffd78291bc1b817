//! `ctkeeper doctor` on the real kernel: each finding's experiment and its nearest healthy state.

use std::process::ExitCode;

use ctkeeper_tests::{Case, Namespace, Need, ctkeeper, main as harness, run};

fn main() -> ExitCode {
    harness(&[Case {
        name: "doctor_answers_on_this_host",
        needs: &[Need::Root, Need::Conntrack],
        run: doctor_answers_on_this_host,
    }])
}

fn doctor_answers_on_this_host() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    anyhow::ensure!(namespace.inode()? > 0);
    let output = run(&mut ctkeeper(&[]))?;
    anyhow::ensure!(output.code == Some(0), "{output:?}");
    Ok(())
}
