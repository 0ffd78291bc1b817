//! Growth from two looks at the same panel of a real table.

use ctkeeper_tests::sampling::growing;
use ctkeeper_tests::{Namespace, ensure_harmless};

use crate::coverage::dice;

pub(crate) fn of_a_panel() -> anyhow::Result<()> {
    ensure_harmless(8000)?;
    let namespace = Namespace::create()?;
    let sizes = (6000, 1500, 40);
    let coverage = growing(&mut namespace.conntrack()?, sizes, &mut || Ok(()), &mut dice())?;
    println!("{coverage}");
    coverage.check()
}
