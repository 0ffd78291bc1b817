//! How values are drawn: colours, widths, hostile text. Numbers are `ctkeeper_flow::units`.

mod entries;
mod expectations;
pub(crate) mod explanation;
mod output;
pub(crate) mod report;
mod say;
mod screen;
pub(crate) mod summary;
mod table;
mod text;
pub(crate) mod who;

pub(crate) use ctkeeper_flow::hostile::escaped as printable;
pub(crate) use entries::{EntryWriter, Extras, Format};
pub(crate) use expectations::ExpectationWriter;
pub(crate) use output::Output;
pub(crate) use say::{notice, say};
pub(crate) use screen::Screen;
pub(crate) use table::{Cell, Column, Table};
pub(crate) use text::wrap;
