//! `-S`: what each CPU has counted.

use std::fs;

use ctkeeper_netlink::{Conntrack, ExpectationStatistics};

use crate::Streams;
use crate::failure::Failure;
use crate::invocation::{Invocation, Table};

/// The same in words and hexadecimal numbers, for whoever may not ask by netlink.
const PROC: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// Prints a line for each CPU. Whoever may not ask is told what the file says, and the refusal.
pub(crate) fn run(invocation: &Invocation, streams: &mut Streams<'_>) -> Result<u64, Failure> {
    let lines = Conntrack::open().and_then(|mut table| match invocation.table {
        Table::Expect => Ok(lines(&table.expectation_statistics()?, of_expectations)),
        _ => Ok(lines(&table.statistics()?, |cpu, line| {
            for (statistic, value) in cpu.iter() {
                line.push_str(&format!("{}={value} ", statistic.name()));
            }
        })),
    });
    let error = match lines {
        Ok(lines) => return Ok(streams.out.write_all(lines.as_bytes()).map(|()| 0)?),
        Err(error) => error,
    };
    let lines = fs::read_to_string(PROC)
        .ok()
        .and_then(|text| of_proc(&text))
        .ok_or_else(|| Failure::problem("Can't open /proc interface"))?;
    streams.out.write_all(lines.as_bytes())?;
    Err(Failure::operation(&error, &invocation.command, invocation.table))
}

fn lines<T>(cpus: &[T], write: impl Fn(&T, &mut String)) -> String {
    let mut out = String::new();
    for (number, cpu) in cpus.iter().enumerate() {
        out.push_str(&format!("cpu={number:<4}\t"));
        write(cpu, &mut out);
        out.push('\n');
    }
    out
}

fn of_expectations(cpu: &ExpectationStatistics, line: &mut String) {
    let ExpectationStatistics { met, created, deleted } = cpu;
    line.push_str(&format!("expect_new={met} expect_create={created} expect_delete={deleted} "));
}

/// The first line of the file names the columns; `None` if there is nothing below it.
fn of_proc(text: &str) -> Option<String> {
    let mut rows = text.lines().map(|row| row.split_ascii_whitespace());
    let names: Vec<&str> = rows.next()?.collect();
    let cpus: Vec<_> = rows.collect();
    if cpus.is_empty() {
        return None;
    }
    Some(lines(&cpus, |row, line| {
        for (name, value) in names.iter().zip(row.clone()) {
            let value = u32::from_str_radix(value, 16).unwrap_or(0);
            line.push_str(&format!("{name}={value} "));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_words() {
        let text = "entries  clashres found\n0000001f  00000000 00000002\n0000001f 0 a\n";
        assert_eq!(
            of_proc(text).unwrap(),
            "cpu=0   \tentries=31 clashres=0 found=2 \ncpu=1   \tentries=31 clashres=0 found=10 \n"
        );
        assert_eq!(of_proc("entries\n"), None);
    }
}
