//! Fills a named namespace's table: `lab-fill NAMESPACE COUNT`. For looking at screens by hand.

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("which namespace?")?;
    let count = arguments.next().context("how many?")?.parse()?;
    let namespace = ctkeeper_tests::Namespace::existing(&name);
    let filling = ctkeeper_tests::Filling::Established { timeout: 429_700 };
    ctkeeper_tests::fill(&namespace, 0, count, filling)?;
    std::mem::forget(namespace);
    Ok(())
}
