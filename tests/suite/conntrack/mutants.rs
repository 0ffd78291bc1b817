//! Programs that are wrong on purpose: Debian's own, with one thing spoilt. Each must be caught, by
//! a case that is about that thing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};
use ctkeeper_tests::conntrack::{Judgement, Program, REFERENCE, Suite};

/// A spoilt program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// A shell's, where `real` is Debian's program.
    script: &'static str,
    /// Cases that must catch it, every one.
    cases: &'static [&'static str],
}

pub(crate) const ALL: &[Mutant] = &[
    Mutant {
        name: "drops_a_column",
        script: "real \"$@\" | sed 's/ use=[0-9]*//'",
        cases: &["list-inserted-text", "list-wired-id"],
    },
    Mutant {
        name: "pads_one_blank_more",
        script: "real \"$@\" | sed 's/^icmp     1/icmp      1/'",
        cases: &["list-inserted-text"],
    },
    Mutant {
        name: "leaves_a_trailing_blank",
        script: "real \"$@\" | sed 's/$/ /'",
        cases: &["list-wired-text", "list-inserted-save"],
    },
    Mutant {
        name: "counts_ten_seconds_more",
        script: "real \"$@\" | awk '{ sub(\"17 \" $3 \" \", \"17 \" $3 + 10 \" \") } 1'",
        cases: &["list-inserted-text"],
    },
    Mutant { name: "sorts", script: "real \"$@\" | sort", cases: &["list-inserted-text"] },
    Mutant {
        name: "says_another_id",
        script: "real \"$@\" | sed 's/ id=\\([0-9]*\\)$/ id=1\\1/'",
        cases: &["list-inserted-id"],
    },
    Mutant {
        name: "exits_with_another_code",
        script: "real \"$@\"; code=$?; [ $code = 2 ] && exit 64; exit $code",
        cases: &["bad-no-such-option", "option-L-timeout"],
    },
    Mutant {
        name: "is_content_when_nothing_was_deleted",
        script: "real \"$@\"; code=$?; [ $code = 1 ] && exit 0; exit $code",
        cases: &["delete-inserted-nothing"],
    },
    Mutant {
        name: "swallows_standard_error",
        script: "real \"$@\" 2>/dev/null",
        cases: &["list-inserted-text", "bad-no-such-option"],
    },
    Mutant {
        name: "says_on_standard_output_what_belongs_on_error",
        script: "real \"$@\" 2>&1",
        cases: &["list-inserted-text"],
    },
    Mutant {
        name: "deletes_one_entry_more",
        script: "case \"$*\" in *-D*) real -D -p icmp -s 10.0.0.1 --icmp-type 8 >/dev/null 2>&1;; esac; exec real \"$@\"",
        cases: &["delete-inserted-sport"],
    },
    Mutant {
        name: "deletes_while_it_looks",
        script: "real \"$@\"; code=$?; real -D -p gre >/dev/null 2>&1; exit $code",
        cases: &["list-inserted-text", "bad-no-such-option"],
    },
    Mutant {
        name: "deletes_nothing",
        script: "case \"$*\" in *-D*) exec real \"$@\" -w 4711;; esac; exec real \"$@\"",
        cases: &["delete-inserted-sport"],
    },
    Mutant {
        name: "ignores_a_filter",
        script: "args=$(printf '%s\\n' \"$*\" | sed 's/--sport [0-9]*//'); exec real $args",
        cases: &["filter-inserted-sport", "delete-inserted-sport"],
    },
    Mutant {
        name: "ignores_zones",
        script: "args=$(printf '%s\\n' \"$*\" | sed 's/-w [0-9]*//'); exec real $args",
        cases: &["filter-inserted-zone", "create-udp-zone"],
    },
    Mutant {
        name: "does_not_flush",
        script: "case \"$*\" in *-F*) echo 'conntrack v1.4.7 (conntrack-tools): connection tracking table has been emptied.' >&2; exit 0;; esac; exec real \"$@\"",
        cases: &["flush-all"],
    },
    Mutant {
        name: "creates_with_another_mark",
        script: "args=$(printf '%s\\n' \"$*\" | sed 's/-m \\([0-9]\\)/-m 1\\1/'); exec real $args",
        cases: &["create-udp-mark"],
    },
    Mutant {
        name: "loads_a_file_up_to_its_fault",
        script: "case \"$1\" in -R) sed '/-p nonsense/,$d' \"$2\" | real -R -; exec real \"$@\";; esac; exec real \"$@\"",
        cases: &["load-fault-in-the-middle"],
    },
    Mutant {
        name: "tells_no_destroy_events",
        script: "case \"$*\" in *-E*) exec real -e NEW,UPDATES \"$@\";; esac; exec real \"$@\"",
        cases: &["events-tcp-text"],
    },
    Mutant {
        name: "keeps_a_privilege_error_to_itself",
        script: "real \"$@\" 2>/dev/null; echo 'conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown.' >&2; exit 0",
        cases: &["without-net-admin-list"],
    },
];

impl Mutant {
    /// Every case named must tell it from the reference.
    pub(crate) fn is_caught(&self, suite: &Suite) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("ctk-mutant-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let path = folder.path().join("conntrack");
        let script = self.script.replace("real ", &format!("{REFERENCE} "));
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let mutant = [Program::spoilt_reference(&path)];
        for name in self.cases {
            let case = suite.cases().iter().find(|case| case.name == *name);
            let case = case.with_context(|| format!("there is no case {name}"))?;
            let judged = suite.judge(case, &mutant)?;
            ensure!(matches!(judged, Judgement::Different(_)), "{name} does not see it");
        }
        Ok(())
    }
}
