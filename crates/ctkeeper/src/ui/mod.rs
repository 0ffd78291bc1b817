//! How values are drawn: colours, widths, hostile text. Numbers are `ctkeeper_flow::units`.

pub(crate) mod explanation;
pub(crate) mod report;
mod screen;
mod text;

pub(crate) use screen::Screen;
pub(crate) use text::{printable, wrap};
