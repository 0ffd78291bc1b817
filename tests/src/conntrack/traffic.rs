//! Steps, one a line, by which a table comes about:
//!
//! * `-I …`, `-A …`, `-U …`, `-D …`: the reference does it (consecutive lines in one process);
//! * `wire …`: hand-made packets pass a router, see [`super::wire`];
//! * `socket …`: real sockets, see [`super::sockets`];
//! * `create LINE`, `destroy LINE`, `mark N LINE`: our netlink library makes, deletes or marks the
//!   entry that a line of `conntrack -L` describes; its socket lives on, so that listeners can tell
//!   whose it is; `flush` deletes all entries by it;
//! * `wait MILLISECONDS`;
//! * `#` begins a comment.

use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_flow::{Mark, text};
use ctkeeper_netlink::Change;

use super::case::{Case, words};
use super::program::Program;
use super::stage::Stage;

impl Stage {
    /// Performs steps.
    pub(super) fn perform(&mut self, steps: &str) -> anyhow::Result<()> {
        let lines: Vec<_> = steps.lines().map(str::trim).collect();
        let lines = lines.into_iter().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut batch = String::new();
        for line in lines {
            if line.starts_with('-') && !line.contains(" expect ") {
                batch += &format!("{line}\n");
                continue;
            }
            self.load(&std::mem::take(&mut batch))?;
            self.step(line).with_context(|| line.to_owned())?;
        }
        self.load(&batch)
    }

    fn step(&mut self, line: &str) -> anyhow::Result<()> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "wire" => self.wire()?.play(rest),
            "socket" => self.socket(rest),
            "create" => Ok(self.library()?.create(&text::parse(rest)?)?),
            "destroy" => {
                ensure!(self.library()?.delete(&text::parse(rest)?)?, "there is no such entry");
                Ok(())
            }
            "mark" => {
                let (mark, rest) = rest.split_once(' ').context("mark N LINE")?;
                let flow = text::parse(rest)?;
                let change =
                    Change { mark: Some((Mark(mark.parse()?), u32::MAX)), ..Change::default() };
                Ok(self.library()?.update(&flow.original, flow.zone, &change)?)
            }
            "flush" => Ok(self.library()?.flush()?),
            "wait" => {
                std::thread::sleep(Duration::from_millis(rest.parse()?));
                Ok(())
            }
            _ if verb.starts_with('-') => self.reference(&words(line)?, ""),
            _ => anyhow::bail!("there is no step {verb}"),
        }
    }

    fn load(&self, commands: &str) -> anyhow::Result<()> {
        if commands.is_empty() {
            return Ok(());
        }
        self.reference(&["-R".to_owned(), "-".to_owned()], commands)
    }

    /// The reference must succeed.
    fn reference(&self, arguments: &[String], stdin: &str) -> anyhow::Result<()> {
        let case = Case::silent(stdin);
        let said = Program::reference().call(arguments, &case, &self.place())?;
        ensure!(said.end == "exit 0", "conntrack refuses: {said:?}\n{stdin}");
        Ok(())
    }
}
