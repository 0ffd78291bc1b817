//! Command lines and files that are refused, and the list.

use std::fs;

use anyhow::ensure;
use ctkeeper_tests::{ctkeeper, run};
use serde_json::Value;

const USAGE: Option<i32> = Some(64);

pub(crate) fn files() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mine.toml");
    let path = file.display().to_string();
    let base =
        "title = \"t\"\nabout = \"a\"\n[[namespace]]\nname = \"box\"\n[[phase]]\ntitle = \"p\"\n";
    for (text, said) in [
        (base.replace("about", "abuot"), "abuot"),
        (format!("{base}jugde = []\n"), "jugde"),
        (format!("{base}do = [{{ flush = \"bx\" }}]\n"), "no namespace \"bx\"; there is: box"),
        (base.replace("\"box\"", "\"a/../b\""), "lower-case"),
        ("title = 1".to_owned(), "title"),
    ] {
        fs::write(&file, &text)?;
        let output = run(&mut ctkeeper(&["lab", "run", &path]))?;
        ensure!(output.code == USAGE, "{text}: {output:?}");
        ensure!(output.stderr.contains(said), "{text}: {output:?}");
        ensure!(output.stdout.is_empty(), "{output:?}");
    }
    Ok(())
}

pub(crate) fn names() -> anyhow::Result<()> {
    let unknown = run(&mut ctkeeper(&["lab", "run", "nonsense"]))?;
    ensure!(unknown.code == USAGE && unknown.stderr.contains("docker-nat"), "{unknown:?}");
    let elsewhere = run(&mut ctkeeper(&["lab", "run", "full", "--netns", "host"]))?;
    ensure!(elsewhere.code == USAGE, "{elsewhere:?}");
    let absent = run(&mut ctkeeper(&["lab", "run", "/nowhere/at/all.toml"]))?;
    ensure!(absent.code == Some(1) && absent.stderr.contains("/nowhere/at/all.toml"), "{absent:?}");
    Ok(())
}

pub(crate) fn listed() -> anyhow::Result<()> {
    let text = run(&mut ctkeeper(&["lab", "list"]))?;
    let json = run(&mut ctkeeper(&["lab", "list", "--json"]))?;
    let rows: Vec<Value> = serde_json::from_str(&json.stdout)?;
    let all = crate::matrix::all()?;
    ensure!(rows.len() == all.len() && text.stdout.lines().count() == all.len() + 1, "{text:?}");
    for (row, scenario) in rows.iter().zip(&all) {
        ensure!(row["name"] == *scenario.name && text.stdout.contains(&scenario.title), "{row}");
    }
    Ok(())
}
