//! What a client may say first.

use rustls::server::Acceptor;

use super::{Inspected, judge};

/// The length of the pieces in which it comes, and the bytes.
pub(crate) fn hello(data: &[u8]) {
    let Some((step, text)) = data.split_first() else { return };
    let judged = |step: usize| {
        let mut acceptor = Acceptor::default();
        text.chunks(step).find_map(|mut piece| judge(&mut acceptor, &mut piece))
    };
    let whole = judged(text.len().max(1));
    let parts = judged(1 + usize::from(*step));
    // What is no hello may be refused for what comes first, or for what stands behind it.
    if let Some(Inspected::Tls(_)) = whole {
        assert_eq!(parts, whole);
    }
}
