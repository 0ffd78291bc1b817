//! Helps and their width: prose is as wide as the terminal, examples and tables stay as they are.

use clap::{Arg, ArgAction, Command};

/// The command, its helps' prose unbroken: clap breaks it for the terminal, which is not as wide as
/// the source.
pub(crate) fn with_unbroken_prose(mut command: Command) -> Command {
    if let Some(text) = command.get_after_help().map(ToString::to_string) {
        command = command.after_help(unbroken(&text));
    }
    if let Some(text) = command.get_after_long_help().map(ToString::to_string) {
        command = command.after_long_help(unbroken(&text));
    }
    command.mut_subcommands(with_unbroken_prose)
}

/// Commands that work in one namespace.
const ONE_NAMESPACE: [&str; 9] =
    ["get", "watch", "add", "update", "delete", "flush", "save", "restore", "conntrack"];

/// The command, its helps without offers that it refuses: `--netns all`, and conntrack's `--json`.
pub(crate) fn with_own_options(mut command: Command) -> Command {
    for name in ONE_NAMESPACE {
        command = command.mut_subcommand(name, |command| command.arg(one_namespace()));
    }
    let hidden = Arg::new("json").long("json").global(true).action(ArgAction::SetTrue).hide(true);
    command.mut_subcommand("conntrack", |command| command.arg(hidden))
}

fn one_namespace() -> Arg {
    Arg::new("netns").long("netns").global(true).value_name("NAME|PID|PATH|INODE").help(
        "Work in this network namespace: a name, pid, path or inode; `current` or `host` (the \
         initial one)",
    )
}

/// Joins the lines of each paragraph. Indented lines and headings are no prose; a paragraph ends
/// with an empty line, or where a line ends well before the edge.
fn unbroken(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut goes_on = false;
    for line in text.lines() {
        let is_prose = !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
        if !whole.is_empty() {
            whole.push(if goes_on && is_prose { ' ' } else { '\n' });
        }
        whole.push_str(line);
        goes_on = is_prose && line.chars().count() > EDGE;
    }
    whole
}

/// A line of prose that is shorter ends its paragraph.
const EDGE: usize = 80;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    const WIDTH: usize = 80;

    #[test]
    fn prose_is_joined_and_examples_are_not() {
        let long = "word ".repeat(18);
        let text = format!("Examples:\n  one\n  two\n\n{long}and\nthe rest.\nAnother.");
        let expected = format!("Examples:\n  one\n  two\n\n{long}and the rest.\nAnother.");
        assert_eq!(unbroken(&text), expected);
    }

    #[test]
    fn helps_offer_what_is_taken() {
        let mut command = crate::cli::command();
        command.build();
        for name in ONE_NAMESPACE {
            let help = command.find_subcommand_mut(name).map(|c| c.render_long_help().to_string());
            let help = help.unwrap_or_default();
            assert!(help.contains("--netns <NAME|PID|PATH|INODE>"), "{name}: {help}");
            assert!(name != "conntrack" || !help.contains("--json"), "{help}");
        }
        for line in ["ctkeeper --netns blue save", "ctkeeper save --netns blue"] {
            let matches = crate::cli::command().try_get_matches_from(line.split(' ')).unwrap();
            let cli = <Cli as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.global.netns.as_deref(), Some("blue"), "{line}");
        }
    }

    /// No help is wider than a terminal, and what may be copied from it is not broken.
    #[test]
    fn helps_fit_a_terminal() {
        let mut too_wide = Vec::new();
        let mut commands = vec![with_unbroken_prose(Cli::command())];
        while let Some(mut command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let name = command.get_name().to_owned();
            let indented = |text: String| {
                text.lines().filter(|l| l.starts_with(' ')).map(str::to_owned).collect::<Vec<_>>()
            };
            let texts = [command.get_after_help(), command.get_after_long_help()];
            let fixed: Vec<_> =
                texts.into_iter().flatten().flat_map(|text| indented(text.to_string())).collect();
            command = command.term_width(WIDTH);
            let shown = command.render_long_help().to_string();
            let wide = shown.lines().filter(|line| line.chars().count() > WIDTH);
            too_wide.extend(wide.map(|line| format!("{name}: {line}")));
            let broken = fixed.iter().filter(|line| line.chars().count() > WIDTH);
            too_wide.extend(broken.map(|line| format!("{name}: {line}")));
        }
        assert!(too_wide.is_empty(), "{}", too_wide.join("\n"));
    }
}
