//! Conditions on headers, ready to be asked.

use std::borrow::Cow;

use http::HeaderName;
use regex::bytes::Regex;

use crate::codec::head::Headers;
use crate::codec::{RequestHead, Scheme};
use crate::config::model::{HeaderMatch, HeaderTest, TextKind, TextMatch};

/// A compiled [`HeaderMatch`].
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    name: Name,
    test: Test,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Clone, Debug)]
enum Name {
    Header(HeaderName),
    /// `:method` and the like.
    Pseudo(String),
}

#[derive(Clone, Debug)]
enum Test {
    Present(bool),
    Range(i64, i64),
    Text(TextMatch),
    Regex(Regex),
    /// Of a text that validation should have refused.
    Never,
}

impl HeaderMatcher {
    /// Compiles a condition that has been validated.
    pub fn compile(model: &HeaderMatch) -> Self {
        let name = match HeaderName::from_bytes(model.name.as_bytes()) {
            Ok(name) => Name::Header(name),
            Err(_) => Name::Pseudo(model.name.clone()),
        };
        let test = match &model.test {
            HeaderTest::Present(present) => Test::Present(*present),
            HeaderTest::Range(start, end) => Test::Range(*start, *end),
            HeaderTest::Text(text) if text.kind == TextKind::Regex => {
                Regex::new(&format!(r"\A(?:{})\z", text.text)).map_or(Test::Never, Test::Regex)
            }
            HeaderTest::Text(text) => Test::Text(text.clone()),
        };
        Self { name, test, invert: model.invert, missing_is_empty: model.missing_is_empty }
    }

    /// A condition that a header is there.
    pub fn present(name: HeaderName) -> Self {
        Self { name: Name::Header(name), test: Test::Present(true), invert: false, missing_is_empty: false }
    }

    /// Whether a request meets it.
    pub fn matches_request(&self, head: &RequestHead) -> bool {
        self.matches(&head.headers, |name| match name {
            ":method" => Some(head.method.as_str().as_bytes()),
            ":path" => Some(&head.path),
            ":authority" | "host" => Some(&head.authority),
            ":scheme" => head.scheme.map(|scheme: Scheme| scheme.as_str().as_bytes()),
            _ => None,
        })
    }

    /// Whether a response meets it.
    pub fn matches_response(&self, headers: &Headers, status: http::StatusCode) -> bool {
        self.matches(headers, |name| (name == ":status").then_some(status.as_str().as_bytes()))
    }

    fn matches<'h>(&'h self, headers: &'h Headers, pseudo: impl Fn(&str) -> Option<&'h [u8]>) -> bool {
        let value = match &self.name {
            Name::Header(name) => joined(headers, name).or_else(|| pseudo(name.as_str()).map(Cow::Borrowed)),
            Name::Pseudo(name) => pseudo(name).map(Cow::Borrowed),
        };
        let value = match value {
            None if self.missing_is_empty => Some(Cow::Borrowed(&b""[..])),
            value => value,
        };
        let Some(value) = value else {
            // A header that is not there fails every condition on its value, and fails its opposite too.
            return matches!(self.test, Test::Present(present) if present == self.invert);
        };
        self.test.passes(&value) != self.invert
    }
}

impl Test {
    fn passes(&self, value: &[u8]) -> bool {
        match self {
            Self::Present(present) => *present,
            Self::Range(start, end) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .is_some_and(|number| (*start..*end).contains(&number)),
            Self::Text(text) if text.ignore_case => text_passes(text, &value.to_ascii_lowercase()),
            Self::Text(text) => text_passes(text, value),
            Self::Regex(regex) => regex.is_match(value),
            Self::Never => false,
        }
    }
}

fn text_passes(test: &TextMatch, value: &[u8]) -> bool {
    let text = test.text.as_bytes();
    match test.kind {
        TextKind::Exact => value == text,
        TextKind::Prefix => value.starts_with(text),
        TextKind::Suffix => value.ends_with(text),
        TextKind::Contains => memchr::memmem::find(value, text).is_some(),
        // Compiled to another test.
        TextKind::Regex => false,
    }
}

/// All values of a name, joined by commas as one list is.
fn joined<'h>(headers: &'h Headers, name: &'h HeaderName) -> Option<Cow<'h, [u8]>> {
    let mut values = headers.get_all(name);
    let first = Cow::Borrowed(values.next()?.as_bytes());
    Some(values.fold(first, |all, value| Cow::Owned([&*all, b",", value.as_bytes()].concat())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Method, StatusCode};

    fn text(kind: TextKind, text: &str, ignore_case: bool) -> HeaderTest {
        HeaderTest::Text(TextMatch { kind, text: text.into(), ignore_case })
    }

    fn holds(test: HeaderTest, invert: bool, value: Option<&'static str>) -> bool {
        let model = HeaderMatch { name: "x".into(), test, invert, missing_is_empty: false };
        let mut head = RequestHead::new(Method::GET, "a", "/");
        if let Some(value) = value {
            head.headers.append(HeaderName::from_static("x"), HeaderValue::from_static(value));
        }
        HeaderMatcher::compile(&model).matches_request(&head)
    }

    #[test]
    fn every_test_has_values_that_pass_and_values_that_do_not() {
        let cases = [
            (text(TextKind::Exact, "abc", false), "abc", "ABC"),
            (text(TextKind::Exact, "abc", true), "ABC", "abcd"),
            (text(TextKind::Prefix, "ab", false), "abc", "cab"),
            (text(TextKind::Suffix, "bc", false), "abc", "bca"),
            (text(TextKind::Contains, "b", false), "abc", "ac"),
            (text(TextKind::Regex, "a|b+", false), "bbb", "ab"),
            (HeaderTest::Range(-10, 5), "4", "5"),
            (HeaderTest::Range(-10, 5), "-10", "x"),
        ];
        for (test, yes, no) in cases {
            assert!(holds(test.clone(), false, Some(yes)), "{test:?} {yes}");
            assert!(!holds(test.clone(), false, Some(no)), "{test:?} {no}");
            assert!(!holds(test.clone(), true, Some(yes)) && holds(test.clone(), true, Some(no)), "{test:?}");
            assert!(!holds(test.clone(), false, None) && !holds(test, true, None), "missing fails both ways");
        }
    }

    #[test]
    fn presence_and_absence() {
        for (present, invert, value, expected) in [
            (true, false, Some("1"), true),
            (true, false, None, false),
            (true, true, None, true),
            (false, false, None, true),
            (false, false, Some("1"), false),
            (false, true, Some("1"), true),
        ] {
            assert_eq!(holds(HeaderTest::Present(present), invert, value), expected, "{present} {invert} {value:?}");
        }
    }

    #[test]
    fn several_values_are_one_list_and_what_is_no_header_can_be_asked_too() {
        let compile = |name: &str, with: &str| {
            let test = text(TextKind::Exact, with, false);
            HeaderMatcher::compile(&HeaderMatch { name: name.into(), test, invert: false, missing_is_empty: true })
        };
        let mut headers = Headers::new();
        headers.append(HeaderName::from_static("x"), HeaderValue::from_static("1"));
        headers.append(HeaderName::from_static("x"), HeaderValue::from_static("2"));
        assert!(compile("x", "1,2").matches_response(&headers, StatusCode::OK));
        assert!(compile(":status", "200").matches_response(&headers, StatusCode::OK));
        assert!(compile("y", "").matches_response(&headers, StatusCode::OK), "missing is empty");
        assert!(compile(":path", "/p").matches_request(&RequestHead::new(Method::GET, "a", "/p")));
    }
}
