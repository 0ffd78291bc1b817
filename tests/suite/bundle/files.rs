//! Where a bundle goes, and what must not happen on the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use ctkeeper_tests::{HostValues, Output, ctkeeper, ctkeeper_path, report_of, run};
use serde_json::Value;

fn bundle(file: &Path, more: &[&str]) -> anyhow::Result<Output> {
    let path = file.display().to_string();
    run(ctkeeper(&["bundle", "--window", "10ms", "-o", &path]).args(more))
}

fn names_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

pub(crate) fn a_file_that_is_there() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, link) = (folder.path().join("there.json"), folder.path().join("link.json"));
    fs::write(&file, "precious")?;
    symlink("nowhere", &link)?;
    for there in [&file, &link] {
        let output = bundle(there, &[])?;
        ensure!(output.code == Some(1) && output.stderr.contains("is there already"), "{output:?}");
    }
    ensure!(fs::read_to_string(&file)? == "precious" && fs::read_link(&link).is_ok());
    ensure!(names_in(folder.path())?.len() == 2, "a draft is left");
    // Healthy neighbours: told to, and another name.
    for (file, more) in [(&file, &["--force"][..]), (&folder.path().join("new.json"), &[])] {
        let output = bundle(file, more)?;
        ensure!(output.code == Some(0), "{output:?}");
        ensure!(fs::metadata(file)?.permissions().mode() & 0o777 == 0o600, "{}", file.display());
        ensure!(serde_json::from_slice::<Value>(&fs::read(file)?)?.is_object());
    }
    ensure!(names_in(folder.path())?.len() == 3, "a draft is left");
    Ok(())
}

pub(crate) fn names_by_default() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    let made_in = |folder: &Path, arguments: &[&str]| -> anyhow::Result<String> {
        let before = names_in(folder)?;
        let mut command = ctkeeper(&["bundle", "--window", "10ms"]);
        let output = run(command.args(arguments).current_dir(folder))?;
        ensure!(output.code == Some(0), "{output:?}");
        let new = names_in(folder)?.into_iter().find(|name| !before.contains(name));
        new.context("no file was made")
    };
    let named = made_in(folder.path(), &[])?;
    ensure!(named.starts_with(&format!("ctkeeper-{hostname}-2")), "{named}");
    let anonymous = made_in(folder.path(), &["--anonymize"])?;
    ensure!(anonymous.len() == "ctkeeper-20261122-204107.json".len(), "{anonymous}");
    // A folder to put it in.
    let other = tempfile::tempdir()?;
    let path = other.path().display().to_string();
    let elsewhere =
        run(ctkeeper(&["bundle", "--window", "10ms", "-o", &path, "--json"])
            .current_dir(folder.path()))?;
    let told: Value = serde_json::from_str(&elsewhere.stdout)?;
    let file = told["file"].as_str().context("no file is named")?;
    ensure!(told["bytes"] == fs::metadata(file)?.size() && told["anonymized"] == false, "{told}");
    ensure!(file.starts_with(&path) && names_in(other.path())?.len() == 1, "{told}");
    Ok(())
}

/// Without the right to write there, and where there is no such folder: said before the wait, and
/// nothing is left. The neighbour may write.
pub(crate) fn a_folder_for_others() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("ctkeeper");
    fs::copy(ctkeeper_path(), &copy)?;
    let (locked, open) = (folder.path().join("locked"), folder.path().join("open"));
    for (path, mode) in [(&locked, 0o755), (&open, 0o777)] {
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let as_nobody = |into: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        run(command.args(["bundle", "--window", "10ms", "-o"]).arg(into.join("b.json")))
    };
    let refused = as_nobody(&locked)?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("cannot write to"), "{refused:?}");
    let nowhere = as_nobody(&folder.path().join("nowhere"))?;
    ensure!(nowhere.code == Some(1) && nowhere.stderr.contains("no folder"), "{nowhere:?}");
    ensure!(names_in(&locked)?.is_empty());
    let made = as_nobody(&open)?;
    // It was not allowed to see much, and says so.
    ensure!(made.code == Some(0) && made.stdout.contains("privilege-missing"), "{made:?}");
    ensure!(fs::metadata(open.join("b.json"))?.permissions().mode() & 0o777 == 0o600);
    Ok(())
}

/// No room for it: nothing is left, not even a part.
pub(crate) fn a_full_disk() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let with_size = |size: &str| {
        let script = format!(
            "mount -t tmpfs -o size={size} none \"$1\" && \
             \"$0\" bundle --window 10ms -o \"$1/b.json\"; code=$?; ls -A \"$1\"; exit $code"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        run(command.arg(ctkeeper_path()).arg(folder.path()))
    };
    let full = with_size("4k")?;
    ensure!(full.code == Some(1) && full.stdout.is_empty(), "{full:?}");
    ensure!(full.stderr.contains("No space left") && full.stderr.contains("b.json"), "{full:?}");
    let roomy = with_size("64M")?;
    ensure!(roomy.code == Some(0) && roomy.stdout.ends_with("b.json\n"), "{roomy:?}");
    Ok(())
}

/// From one ctkeeper to the next, and to somebody who stops reading.
pub(crate) fn pipes() -> anyhow::Result<()> {
    let piped = "\"$0\" bundle --window 10ms -o - | \"$0\" doctor --json --from -";
    let report = report_of(Command::new("bash").args(["-c", piped]).arg(ctkeeper_path()))?;
    ensure!(report.0["schema"] == "ctkeeper.report/1", "{report:?}");
    for arguments in ["-o -", "-o \"$1/$RANDOM$RANDOM.json\""] {
        let folder = tempfile::tempdir()?;
        let script = format!(
            "(sleep 0.1; \"$0\" bundle --window 10ms {arguments} 2>&1) | true; \
             exit ${{PIPESTATUS[0]}}"
        );
        let mut command = Command::new("bash");
        let output = run(command.args(["-c", &script]).arg(ctkeeper_path()).arg(folder.path()))?;
        ensure!(output.code == Some(0), "{arguments}: {output:?}");
        // Whether or not anybody reads what is said of it, the file is whole.
        for name in names_in(folder.path())? {
            let text = fs::read(folder.path().join(name))?;
            ensure!(serde_json::from_slice::<Value>(&text)?["schema"] == "ctkeeper.bundle/1");
        }
    }
    let full = Command::new("bash")
        .args(["-c", "\"$0\" bundle --window 10ms -o - > /dev/full"])
        .arg(ctkeeper_path())
        .output()?;
    ensure!(full.status.code() == Some(1), "{full:?}");
    Ok(())
}

/// The next doctor's rates are held against what doctor saw last. Under the lock: other tests look
/// as well, though without note.
pub(crate) fn looking_leaves_the_note() -> anyhow::Result<()> {
    let _host = HostValues::lock()?;
    let note = Path::new("/run/ctkeeper/last-look.json");
    let state =
        || fs::metadata(note).ok().map(|found| (found.mtime(), found.mtime_nsec(), found.ino()));
    let before = state();
    let folder = tempfile::tempdir()?;
    ensure!(bundle(&folder.path().join("b.json"), &[])?.code == Some(0));
    ensure!(state() == before, "the note of the last look has changed");
    Ok(())
}
