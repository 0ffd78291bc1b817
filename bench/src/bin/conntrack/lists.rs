//! Listing.

use std::process::Command;

use ctkeeper_bench::{Cost, measure, peak_resident};

use crate::pair::{self, Pair, RUNS, seconds};
use crate::{MARK, SOURCE, SOURCE_V6, ZONE};

pub(crate) fn compare(entries: u64) -> anyhow::Result<()> {
    println!("{entries} entries; medians of {RUNS} runs in turns");
    let whole = [["-L"].as_slice(), &["-L", "-o", "xml"], &["-L", "-o", "save"]];
    let floor = floor()?;
    println!("{:34} CPU {:7.1} ms", "the kernel's dump, headers only", floor * 1e3);
    for arguments in whole {
        let pair = Pair::run(RUNS, arguments, || Ok(()))?;
        pair.print(&arguments.join(" "), 0.52);
        let by_floor = seconds(&pair.own, Cost::cpu) / floor;
        let resident = peak_resident(&mut pair::own(arguments))?;
        println!("{:34} {by_floor:.3} of the kernel's dump (goal 1.1), resident {resident}", "");
    }
    let (mark, zone) = (MARK.to_string(), ZONE.to_string());
    let (source, source_v6) = (SOURCE.to_string(), SOURCE_V6.to_string());
    let filtered: [(&[&str], f64); 9] = [
        (&["-L", "-s", &source], 0.15),
        (&["-L", "-f", "ipv4", "-m", &mark], 0.15),
        (&["-L", "-f", "ipv4", "-u", "UNREPLIED"], 0.15),
        (&["-L", "-f", "ipv4", "-w", &zone], 0.15),
        (&["-L", "-p", "udp"], 0.25),
        (&["-L", "-s", "10.1.2.0/24"], 0.52),
        (&["-L", "-s", &source_v6], 0.52),
        (&["-L", "-d", "fd01::/16"], 0.52),
        (&["-L", "-n"], 0.52),
    ];
    for (arguments, goal) in filtered {
        Pair::run(RUNS, arguments, || Ok(()))?.print(&arguments.join(" "), goal);
    }
    println!();
    Ok(())
}

fn floor() -> anyhow::Result<f64> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(measure(Command::new(std::env::current_exe()?).arg("--floor"), &[0])?);
    }
    Ok(seconds(&runs, Cost::cpu))
}
