//! What of this module is reached no other way.

use crate::config::model::Piece;

/// The pieces of a format string.
pub(in crate::config) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    super::access_log::format_text(text)
}
