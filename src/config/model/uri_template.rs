//! URI templates (`envoy.path.match.uri_template`): `/videos/{id}/*/{rest=**}`, and paths made of what their variables caught.

use regex::bytes::Regex;

/// Variables of one template.
const MAX_VARIABLES: usize = 5;
/// Letters of a variable's name.
const MAX_NAME: usize = 16;
/// What a segment is made of (RFC 3986, 3.3).
const SEGMENT: &str = r"[a-zA-Z0-9\-._~%!$&'()*+,;:@=]";
const SEGMENTS: &str = r"[a-zA-Z0-9\-._~%!$&'()*+,;:@=/]";

/// A template that paths are matched with.
#[derive(Clone, Debug)]
pub struct UriTemplate {
    text: String,
    compiled: Regex,
    names: Vec<String>,
    /// Before the first operator.
    literal: String,
}

impl PartialEq for UriTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for UriTemplate {}

impl UriTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a path template must begin with /".to_owned());
        }
        let mut parser = Parser::default();
        parser.text(text, false)?;
        let compiled = Regex::new(&format!(r"\A(?-u:{})\z", parser.regex)).map_err(|error| error.to_string())?;
        let literal = text.split(['*', '{']).next().unwrap_or_default().to_owned();
        Ok(Self { text: text.to_owned(), compiled, names: parser.names, literal })
    }

    /// Whether it matches a path without its query.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.compiled.is_match(path)
    }

    /// A text that every match begins with.
    pub fn literal_prefix(&self) -> &str {
        &self.literal
    }
}

/// What is read of a template so far.
#[derive(Default)]
struct Parser {
    regex: String,
    names: Vec<String>,
    /// `**` has come: no operator may follow.
    ended: bool,
}

impl Parser {
    fn text(&mut self, text: &str, within_variable: bool) -> Result<(), String> {
        if text.contains("//") {
            return Err("a path template must not have an empty segment".to_owned());
        }
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            if letter == '*' || letter == '{' {
                if self.ended {
                    return Err("** must be the last operator of a path template".to_owned());
                }
                if let Some(behind) = rest.strip_prefix("**") {
                    self.ended = true;
                    self.regex.push_str(SEGMENTS);
                    self.regex.push('*');
                    rest = behind;
                    continue;
                }
            }
            match letter {
                '*' => {
                    self.regex.push_str(SEGMENT);
                    self.regex.push('+');
                    rest = &rest[1..];
                }
                '{' if within_variable => return Err("a variable must not stand within a variable".to_owned()),
                '{' => {
                    let Some(end) = rest.find('}') else { return Err("a { has no }".to_owned()) };
                    self.variable(&rest[1..end])?;
                    rest = &rest[end + 1..];
                }
                '/' => {
                    self.regex.push('/');
                    rest = &rest[1..];
                }
                letter if letter.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(letter) => {
                    self.regex.push_str(&regex::escape(&rest[..1]));
                    rest = &rest[1..];
                }
                letter => return Err(format!("a path template must not contain `{letter}`")),
            }
        }
        Ok(())
    }

    fn variable(&mut self, text: &str) -> Result<(), String> {
        let (name, pattern) = text.split_once('=').unwrap_or((text, "*"));
        let well_named = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && name.len() <= MAX_NAME;
        if !well_named {
            return Err(format!("`{name}` is not a variable's name: a letter, then at most 15 letters, digits and _"));
        }
        if self.names.iter().any(|other| other == name) {
            return Err(format!("the variable `{name}` stands twice"));
        }
        if self.names.len() == MAX_VARIABLES {
            return Err(format!("a path template has at most {MAX_VARIABLES} variables"));
        }
        if pattern.is_empty() || pattern.starts_with('/') || pattern.ends_with('/') {
            return Err(format!("the variable `{name}` has no pattern"));
        }
        self.names.push(name.to_owned());
        self.regex.push('(');
        self.text(pattern, true)?;
        self.regex.push(')');
        Ok(())
    }
}

/// A path made of what the variables of a [`UriTemplate`] caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriRewrite {
    template: UriTemplate,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(usize),
}

impl UriRewrite {
    /// Of the template that matches, and the one that is filled.
    ///
    /// # Errors
    /// What is wrong with the latter.
    pub fn new(template: &UriTemplate, text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a path template must begin with /".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}', '*']) {
            let end = rest[start..].find('}').filter(|_| rest[start..].starts_with('{'));
            let Some(end) = end else { return Err("a rewrite knows only text and {variables}".to_owned()) };
            let name = &rest[start + 1..start + end];
            let Some(at) = template.names.iter().position(|other| other == name) else {
                return Err(format!("the path template that matches has no variable `{name}`"));
            };
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            pieces.push(Piece::Variable(at));
            rest = &rest[start + end + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { template: template.clone(), pieces })
    }

    /// The path for a path without its query; `None` for one that the template does not match.
    pub fn rewrite(&self, path: &[u8]) -> Option<Vec<u8>> {
        let captures = self.template.compiled.captures(path)?;
        let mut out = Vec::with_capacity(path.len());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(at) => {
                    out.extend_from_slice(captures.get(at + 1).map_or(&[][..], |part| part.as_bytes()))
                }
            }
        }
        Some(out)
    }
}
