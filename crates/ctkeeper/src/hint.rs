//! What to say to whoever types conntrack's options by habit.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::ui::printable;

/// Long options of conntrack(8) that no command of ours has.
const LONG: [&str; 40] = [
    "--dump",
    "--get",
    "--delete",
    "--create",
    "--add",
    "--update",
    "--event",
    "--flush",
    "--stats",
    "--load-file",
    "--src",
    "--orig-src",
    "--dst",
    "--orig-dst",
    "--reply-src",
    "--reply-dst",
    "--proto",
    "--protonum",
    "--family",
    "--zone",
    "--orig-zone",
    "--reply-zone",
    "--event-mask",
    "--any-nat",
    "--src-nat",
    "--dst-nat",
    "--sport",
    "--dport",
    "--orig-port-src",
    "--orig-port-dst",
    "--reply-port-src",
    "--reply-port-dst",
    "--icmp-type",
    "--icmp-code",
    "--icmp-id",
    "--mark",
    "--state",
    "--status",
    "--mask-src",
    "--mask-dst",
];

/// What is said instead of clap's error, if an unknown option is one of conntrack's.
pub(crate) fn for_conntracks_words(error: &Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = option.split('=').next().unwrap_or(option);
    let is_short = name.len() == 2 && name.starts_with('-') && name != "--";
    (is_short || LONG.contains(&name)).then(|| {
        format!(
            "`{}` is no option of this command. Filters are words: `ctkeeper list tcp dport 443`. \
             conntrack's options: `ctkeeper conntrack -L …`.",
            printable(name)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(line: &str) -> Option<String> {
        let arguments = line.split(' ');
        for_conntracks_words(&crate::cli::command().try_get_matches_from(arguments).unwrap_err())
    }

    #[test]
    fn conntracks_options_lead_to_words() {
        for line in [
            "ctkeeper list -p tcp --dport 443",
            "ctkeeper delete -s 10.0.0.1",
            "ctkeeper get -p tcp",
            "ctkeeper list --dport=443",
            "ctkeeper doctor -L",
        ] {
            let hint = hint(line).unwrap_or_default();
            assert!(hint.contains("Filters are words: `ctkeeper list tcp"), "{line}: {hint}");
            assert!(hint.contains("`ctkeeper conntrack -L"), "{line}: {hint}");
        }
    }

    #[test]
    fn other_mistakes_stay_claps() {
        for line in ["ctkeeper list --colour always", "ctkeeper frob", "ctkeeper list --limit x"] {
            assert_eq!(hint(line), None, "{line}");
        }
    }
}
