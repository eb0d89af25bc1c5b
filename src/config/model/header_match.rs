//! Conditions on headers, wherever the API asks for them.

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    /// What its value must be.
    pub test: HeaderTest,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_is_empty: bool,
}

/// What the value of a header must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderTest {
    /// The header is there, or (`false`) is not.
    Present(bool),
    /// `range_match`: a whole number, at least the first and below the second.
    Range(i64, i64),
    /// Any of the matches on text.
    Text(TextMatch),
}

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMatch {
    /// How.
    pub kind: TextKind,
    /// With what; lower case where `ignore_case`. A regular expression is valid and matches the whole text.
    pub text: String,
    /// `ignore_case`, which a regular expression does not have.
    pub ignore_case: bool,
}

/// How a text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// All of it.
    Exact,
    /// Its beginning.
    Prefix,
    /// Its end.
    Suffix,
    /// Anywhere.
    Contains,
    /// All of it, by a regular expression.
    Regex,
}
