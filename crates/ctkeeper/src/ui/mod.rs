//! How values are drawn: colours, numbers, hostile text.

mod numbers;
mod screen;
mod text;

#[expect(unused_imports, reason = "used as the commands land")]
pub(crate) use numbers::{count, duration, mebibytes, percent};
pub(crate) use screen::Screen;
#[expect(unused_imports, reason = "used as the commands land")]
pub(crate) use text::{printable, wrap};
