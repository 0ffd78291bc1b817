//! What files will hold: our own with their header, somebody else's with a line commented out.

use ctkeeper_host::settings;

use crate::plan::{FileStep, Plan};
use ctkeeper_flow::hostile::masked;

/// Who changes, when, under which name.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) id: String,
    pub(crate) time: String,
    pub(crate) by: String,
}

impl Stamp {
    fn signature(&self) -> String {
        let Self { id, time, by } = self;
        format!("ctkeeper {} for {} on {time} (change {id})", env!("CARGO_PKG_VERSION"), masked(by))
    }
}

/// The text of one of our own files.
pub(crate) fn own_file(lines: &[String], why: &str, plan: &Plan, stamp: &Stamp) -> Vec<u8> {
    let mut text = format!("# Written by {}.\n# This file {why}.\n", stamp.signature());
    for reason in &plan.why {
        text.push_str(&format!("# {}: {}\n", reason.about, masked(&reason.text)));
    }
    text.push_str(&format!("# Undo it with: ctkeeper fix --undo {}\n", stamp.id));
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text.into_bytes()
}

/// Why a line cannot be commented out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    #[error("the line does not say what it did when this was planned; run `ctkeeper fix` again")]
    Changed,
    #[error(
        "programs that read this file disagree about where its lines end (a carriage return or NUL \
         within a line); edit it by hand, then run `ctkeeper fix` again"
    )]
    Ends,
    #[error("the line is continued over several; edit it by hand, then run `ctkeeper fix` again")]
    Continued,
}

/// `content` with the line of a [`FileStep::CommentOut`] commented out. Other options on the line
/// of a module stay in force.
pub(crate) fn without_line(
    content: &[u8],
    step: &FileStep,
    stamp: &Stamp,
) -> Result<Vec<u8>, EditError> {
    let FileStep::CommentOut { line, key, value, module_option, .. } = step else {
        return Ok(content.to_vec());
    };
    let mut lines: Vec<Vec<u8>> =
        content.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let index = (*line as usize).checked_sub(1).ok_or(EditError::Changed)?;
    let continued = index.checked_sub(1).and_then(|i| lines.get(i)).is_some_and(|l| continues(l));
    let reason = if ends_are_odd(content) { EditError::Ends } else { EditError::Changed };
    let old = lines.get_mut(index).ok_or(reason)?;
    let text = String::from_utf8_lossy(old).into_owned();
    let rest = if *module_option {
        if continued || continues(old) {
            return Err(EditError::Continued);
        }
        settings::without_hashsize(&text, value).ok_or(reason)?
    } else {
        let is_it = settings::gives(old, *key, value);
        if is_it && ends_are_odd(old) {
            return Err(EditError::Ends);
        }
        is_it.then(String::new).ok_or(reason)?
    };
    let mut new = format!("# commented out by {}: ", stamp.signature()).into_bytes();
    new.extend_from_slice(old);
    if !rest.is_empty() {
        if !new.ends_with(b"\n") {
            new.push(b'\n');
        }
        new.extend_from_slice(rest.as_bytes());
        new.push(b'\n');
    }
    *old = new;
    Ok(lines.concat())
}

fn continues(line: &[u8]) -> bool {
    line.trim_ascii_end().ends_with(b"\\")
}

/// Whether a line holds what ends a line for systemd alone, or hides the rest from procps alone.
fn ends_are_odd(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n');
    lines
        .any(|line| line.strip_suffix(b"\r").unwrap_or(line).iter().any(|b| matches!(b, b'\r' | 0)))
}

#[cfg(test)]
mod tests {
    use ctkeeper_snapshot::SettingKey;
    use proptest::prelude::*;

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            id: "20261122-173600".to_owned(),
            time: "2026-11-22 17:36:00 UTC".to_owned(),
            by: "root".to_owned(),
        }
    }

    fn step(line: u32, value: &str, module_option: bool) -> FileStep {
        FileStep::CommentOut {
            path: "/etc/sysctl.conf".into(),
            line,
            key: if module_option { SettingKey::Buckets } else { SettingKey::Limit },
            value: value.to_owned(),
            module_option,
            why: String::new(),
        }
    }

    fn edited(content: &str, line: u32, value: &str, module: bool) -> Result<String, EditError> {
        let edited = without_line(content.as_bytes(), &step(line, value, module), &stamp())?;
        Ok(String::from_utf8(edited).unwrap().replace(&stamp().signature(), "SIGNED"))
    }

    #[test]
    fn sysctl_lines_in_every_spelling_are_commented_out() {
        for line in [
            "net.netfilter.nf_conntrack_max = 600000",
            "-net/netfilter/nf_conntrack_max=600000",
            "  net.nf_conntrack_max =600000  ",
            "net.netfilter.* = 600000",
            "net.netfilter.nf_conntrack_ma? = 600000",
            "net/netfilter/nf_conntrack_m[a-c]x = 600000\r",
        ] {
            let content = format!("# max\n{line}\nvm.swappiness = 1\n");
            let expected = format!("# max\n# commented out by SIGNED: {line}\nvm.swappiness = 1\n");
            assert_eq!(edited(&content, 2, "600000", false), Ok(expected));
        }
    }

    #[test]
    fn a_last_line_without_an_end_stays_without() {
        let line = "net.netfilter.nf_conntrack_max=1";
        let expected = format!("a=1\n# commented out by SIGNED: {line}");
        assert_eq!(edited(&format!("a=1\n{line}"), 2, "1", false), Ok(expected));
    }

    #[test]
    fn lines_that_readers_take_apart_differently_are_left_to_people() {
        let line = "net.netfilter.nf_conntrack_max=1";
        for content in [format!("a=1\r{line}\n"), format!("a=1\r\n{line}\0{line}\n")] {
            assert_eq!(edited(&content, 2, "1", false), Err(EditError::Ends), "{content:?}");
        }
    }

    #[test]
    fn a_line_that_changed_meanwhile_is_not_touched() {
        let content = "# net.netfilter.nf_conntrack_max = 1\nvm.swappiness = 1\nnf_conntrack_max\n";
        for line in 0..6 {
            assert_eq!(edited(content, line, "1", false), Err(EditError::Changed), "{line}");
        }
    }

    #[test]
    fn other_module_options_stay_in_force() {
        let content = "options nf_conntrack hashsize=512 acct=1\n";
        let expected = format!("# commented out by SIGNED: {content}options nf_conntrack acct=1\n");
        assert_eq!(edited(content, 1, "512", true), Ok(expected));
        let quoted = "options nf-conntrack hashsize=\"512\" acct=1 hashsize=9\n";
        let expected = format!("# commented out by SIGNED: {quoted}options nf-conntrack acct=1\n");
        assert_eq!(edited(quoted, 1, "512", true), Ok(expected));
        let alone = "options nf_conntrack hashsize=512\n";
        let expected = format!("# commented out by SIGNED: {alone}");
        assert_eq!(edited(alone, 1, "512", true), Ok(expected));
        let continued = "options nf_conntrack hashsize=512 \\\nacct=1\n";
        assert_eq!(edited(continued, 1, "512", true), Err(EditError::Continued));
    }

    proptest! {
        #[test]
        fn any_bytes_are_edited_or_refused(content: Vec<u8>, line in 0u32..9, module: bool) {
            let _ = without_line(&content, &step(line, "1", module), &stamp());
        }
    }
}
