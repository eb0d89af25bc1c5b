//! The query string of a request.

use regex::RegexBuilder;

use super::reply::Reply;

/// How much memory an operator's expression may take when compiled.
const REGEX_SIZE: usize = 1 << 20;

/// Parameters in order, decoded. A parameter without a value is there, with an empty one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let parameters = query.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        });
        Self { parameters: parameters.collect() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> &[(String, String)] {
        &self.parameters
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// The names that `filter` and `invert_filter` let through: the expression may match anywhere in the name.
    pub(super) fn filter(&self) -> Result<impl Fn(&str) -> bool + use<>, Reply> {
        let regex = match self.get("filter") {
            None | Some("") => None,
            Some(filter) => match RegexBuilder::new(filter).size_limit(REGEX_SIZE).build() {
                Ok(regex) => Some(regex),
                Err(error) => return Err(Reply::bad_request(format!("Invalid re2 regex: {}", reason(&error, filter)))),
            },
        };
        let invert = self.has("invert_filter");
        Ok(move |name: &str| regex.as_ref().is_none_or(|regex| regex.is_match(name) != invert))
    }
}

/// In one line, as RE2 says it: the reason, then the expression.
fn reason(error: &regex::Error, filter: &str) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    format!("{}: {filter}", reason.strip_prefix("error: ").unwrap_or(reason))
}

/// `%41` is `A`; what is no code stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let code = code.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("usedonly&filter=a%2Bb%&&format=json&x=%C3%BC%zz%+&filter=second");
        assert!(query.has("usedonly") && !query.has("used"));
        assert_eq!(query.get("filter"), Some("a+b%"));
        assert_eq!(query.get("format"), Some("json"));
        assert_eq!(query.get("x"), Some("ü%zz%+"));
        assert!(Query::parse("").is_empty() && Query::parse("&").is_empty());
    }

    #[test]
    fn filters_match_anywhere() {
        let filter = |query: &str| Query::parse(query).filter();
        assert!(filter("filter=b.d").unwrap()("abcde"));
        assert!(!filter("filter=^b").unwrap()("abcde"));
        assert!(filter("filter=^b&invert_filter").unwrap()("abcde"));
        assert!(filter("").unwrap()("anything"));
        assert!(filter("invert_filter").unwrap()("anything"));
        let reply = filter("filter=%5B").err().unwrap();
        assert_eq!(reply.status, 400);
        assert_eq!(reply.body, "Invalid re2 regex: unclosed character class: [");
        let reply = filter("filter=(a%7B9999%7D)%7B9999%7D").err().unwrap();
        assert!(reply.body.starts_with("Invalid re2 regex: "), "{}", reply.body);
    }
}
