//! Just enough of an HTTP/1.1 response to know when it is whole.

use memchr::memmem;

/// What a buffer that should hold one response holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// More must come.
    Part,
    /// Exactly one 200.
    Whole,
    /// Anything else, and why.
    Bad(String),
}

/// Looks at everything received since the request was sent.
pub(super) fn look(received: &[u8]) -> Seen {
    let Some(head) = memmem::find(received, b"\r\n\r\n") else { return Seen::Part };
    let (head, rest) = received.split_at(head + 4);
    if !head.starts_with(b"HTTP/1.1 200") {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Seen::Bad(format!("answered: {}", String::from_utf8_lossy(line)));
    }
    match content_length(head) {
        None => Seen::Bad("an answer without content-length".to_owned()),
        Some(length) if rest.len() < length => Seen::Part,
        Some(length) if rest.len() == length => Seen::Whole,
        Some(_) => Seen::Bad("more than one answer".to_owned()),
    }
}

/// The body that follows the head.
pub(super) fn body(received: &[u8]) -> &[u8] {
    memmem::find(received, b"\r\n\r\n").and_then(|head| received.get(head + 4..)).unwrap_or_default()
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let value = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    })?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}
