//! How values are drawn: colours, widths, hostile text. Numbers are `ctkeeper_flow::units`.

mod screen;
mod text;

pub(crate) use screen::Screen;
#[expect(unused_imports, reason = "used as the commands land")]
pub(crate) use text::{printable, wrap};
