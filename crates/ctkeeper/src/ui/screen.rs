//! Where output goes: its width, and whether colours are welcome.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};
use clap::ColorChoice;

/// What standard output can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    colours: bool,
    terminal: bool,
    width: usize,
}

impl Screen {
    /// Width of text that goes to a file or a pipe.
    const PLAIN_WIDTH: usize = 100;

    /// Standard output. Colours are used on a terminal unless `NO_COLOR` is set, or as told.
    pub(crate) fn stdout(choice: ColorChoice) -> Self {
        let terminal = io::stdout().is_terminal();
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let colours = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !forbidden,
        };
        let width = terminal_size::terminal_size()
            .filter(|_| terminal)
            .map_or(Self::PLAIN_WIDTH, |(width, _)| usize::from(width.0));
        Self { colours, terminal, width: width.clamp(40, 400) }
    }

    /// A terminal of some width without colours.
    #[cfg(test)]
    pub(crate) const fn plain(width: usize) -> Self {
        Self { colours: false, terminal: true, width }
    }

    /// Whether a person is looking.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Columns to fill.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// `text` in a style, or plain where colours are not welcome.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.colours { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// New connections are refused, or soon will be.
    pub(crate) const CRITICAL: Style = AnsiColor::Red.on_default().bold();
    /// Something wants attention.
    pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    /// What would have to be seen could not be.
    pub(crate) const UNKNOWN: Style = AnsiColor::Magenta.on_default().bold();
    /// All is well.
    pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
    /// Worth knowing.
    pub(crate) const NOTE: Style = AnsiColor::Cyan.on_default();
    /// Names, headings.
    pub(crate) const STRONG: Style = Style::new().bold();
    /// What may be passed over.
    pub(crate) const FAINT: Style = Style::new().dimmed();
}
