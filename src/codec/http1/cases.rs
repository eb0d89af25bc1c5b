//! How a sender wrote the names of its headers (`preserve_case`): names are compared and kept in lower case, and written as they came where somebody asks for it.

use bytes::Bytes;

/// Names as they came, and what becomes of those that did not come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cases {
    names: Vec<Bytes>,
    /// `formatter_type_on_envoy_headers: PROPER_CASE`: the words of other names begin with capitals.
    proper: bool,
    /// `forward_reason_phrase`: of a response.
    reason: Option<Bytes>,
}

/// What is kept of a head's own way of writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaseRules {
    /// `formatter_type_on_envoy_headers` is `PROPER_CASE`.
    pub proper: bool,
    /// `forward_reason_phrase`.
    pub reason: bool,
}

impl Cases {
    /// For a head of which names follow.
    pub(super) fn new(rules: CaseRules, reason: Option<Bytes>) -> Box<Self> {
        Box::new(Self { names: Vec::new(), proper: rules.proper, reason: reason.filter(|_| rules.reason) })
    }

    /// A name as it came. One that is in lower case already needs no memory.
    pub(super) fn note(&mut self, name: Bytes) {
        if name.iter().any(u8::is_ascii_uppercase) || self.proper {
            self.names.push(name);
        }
    }

    /// The reason phrase, where it is passed on.
    pub fn reason(&self) -> Option<&Bytes> {
        self.reason.as_ref()
    }

    /// Writes the names of an encoded head as they came.
    pub fn write_to(&self, head: &mut [u8]) {
        let mut rest = head;
        // The first line has no name.
        while let Some(end) = memchr::memchr(b'\n', rest) {
            rest = &mut std::mem::take(&mut rest)[end + 1..];
            let Some(colon) = memchr::memchr2(b':', b'\n', rest).filter(|at| rest.get(*at) == Some(&b':')) else {
                continue;
            };
            let Some(name) = rest.get_mut(..colon) else { continue };
            match self.names.iter().find(|known| known.eq_ignore_ascii_case(name)) {
                Some(known) => name.copy_from_slice(known),
                None if self.proper => begin_words(name),
                None => {}
            }
        }
    }
}

/// Begins every word with a capital.
fn begin_words(name: &mut [u8]) {
    let mut begins = true;
    for byte in name {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = !byte.is_ascii_alphanumeric();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(proper: bool, names: &[&'static str], head: &str) -> String {
        let mut cases = Cases::new(CaseRules { proper, reason: false }, Some(Bytes::from_static(b"no")));
        names.iter().for_each(|name| cases.note(Bytes::from_static(name.as_bytes())));
        assert_eq!(cases.reason(), None);
        let mut head = head.as_bytes().to_vec();
        cases.write_to(&mut head);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn names_are_written_as_they_came() {
        let head = "GET http://a:1/ HTTP/1.1\r\nhost: A:b\r\nx-one: x-two: y\r\nx-two: z\r\nown-name: 1\r\n\r\n";
        assert_eq!(
            written(false, &["HoSt", "X-ONE", "x-Two", "X-Gone"], head),
            "GET http://a:1/ HTTP/1.1\r\nHoSt: A:b\r\nX-ONE: x-two: y\r\nx-Two: z\r\nown-name: 1\r\n\r\n"
        );
        assert_eq!(
            written(true, &["x-one"], head),
            "GET http://a:1/ HTTP/1.1\r\nHost: A:b\r\nx-one: x-two: y\r\nX-Two: z\r\nOwn-Name: 1\r\n\r\n"
        );
        for odd in ["", "GET", "GET / HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\nx", "\n\n:\n"] {
            assert_eq!(written(true, &["A"], odd).len(), odd.len());
        }
    }
}
