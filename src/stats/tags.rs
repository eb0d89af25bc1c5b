//! Tag extraction: `cluster.up.upstream_cx_total` is `cluster.upstream_cx_total` with the tag `envoy.cluster_name` =
//! `up`.
//!
//! Envoy's default patterns are written in its own token form: segments between dots, `$` the captured one, `*` any
//! one, `**` any number. We add `@` for the address of a listener (an IPv4 address holds dots), `$@` for a captured
//! one, `$+` for as many captured segments as leave one behind, and `word_$` for a captured end of a segment. Each
//! pattern is tried on the full name; what is captured, with the dot after it, is cut out, and a tag is taken at most
//! once.

use std::ops::Range;

use regex::Regex;

/// A tag of the configuration (`envoy.config.metrics.v3.TagSpecifier`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `tag_name`.
    pub name: String,
    /// Where its value comes from.
    pub value: RuleValue,
}

/// Where the value of a tag comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleValue {
    /// Always this.
    Fixed(String),
    /// The first capture is cut from the name, the second, or where there is none the first, is the value.
    Regex(String),
    /// The default pattern of that name, for configurations that do not use all of them.
    Default,
}

/// A rule that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// Not a regular expression.
    #[error("tag '{name}': {error}")]
    Regex {
        /// The tag.
        name: String,
        /// Why.
        error: Box<regex::Error>,
    },
    /// Envoy's words.
    #[error("No regex specified for tag specifier and no default regex for name: '{0}'")]
    NoDefault(String),
}

/// All patterns of a configuration, in the order in which Envoy prints what they find: those that may fit anywhere,
/// default before configured, then those for names that begin with a certain word.
#[derive(Debug)]
pub struct Tags {
    extractors: Vec<Extractor>,
}

#[derive(Clone, Debug)]
struct Extractor {
    tag: String,
    pattern: Pattern,
}

#[derive(Clone, Debug)]
enum Pattern {
    Tokens(&'static str),
    ResponseCode,
    ResponseCodeClass,
    ListenerAddress,
    Regex(Regex),
    Fixed(String),
}

/// A name without its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted<'a> {
    /// What is left of the name.
    pub name: String,
    /// Tag and value, in the order of the patterns.
    pub tags: Vec<(&'a str, String)>,
}

/// What a pattern found.
struct Found {
    cut: Range<usize>,
    value: String,
}

impl Default for Tags {
    fn default() -> Self {
        Self { extractors: [defaults(GENERAL, |_| true), defaults(SCOPED, |_| true)].concat() }
    }
}

impl Tags {
    /// The tags of a configuration, beside the default ones or without them (`use_all_default_tags`).
    ///
    /// # Errors
    /// The first rule that cannot be used.
    pub fn new(rules: &[Rule], use_defaults: bool) -> Result<Self, TagError> {
        let mut general = defaults(GENERAL, |_| use_defaults);
        let mut scoped = defaults(SCOPED, |_| use_defaults);
        for rule in rules {
            let tag = rule.name.clone();
            match &rule.value {
                RuleValue::Fixed(value) => general.push(Extractor { tag, pattern: Pattern::Fixed(value.clone()) }),
                RuleValue::Regex(text) => {
                    let regex = Regex::new(text)
                        .map_err(|error| TagError::Regex { name: tag.clone(), error: Box::new(error) })?;
                    let list = if begins_with_word(text) { &mut scoped } else { &mut general };
                    list.push(Extractor { tag, pattern: Pattern::Regex(regex) });
                }
                RuleValue::Default => {
                    let named = [defaults(GENERAL, |tag| tag == rule.name), defaults(SCOPED, |tag| tag == rule.name)];
                    if named.iter().all(Vec::is_empty) {
                        return Err(TagError::NoDefault(tag));
                    }
                    if !use_defaults {
                        let [anywhere, in_scope] = named;
                        general.extend(anywhere);
                        scoped.extend(in_scope);
                    }
                }
            }
        }
        general.extend(scoped);
        Ok(Self { extractors: general })
    }

    /// Takes the tags out of a name.
    pub fn extract(&self, name: &str) -> Extracted<'_> {
        let mut tags: Vec<(&str, String)> = Vec::new();
        let mut cuts: Vec<Range<usize>> = Vec::new();
        for extractor in &self.extractors {
            if tags.iter().any(|(tag, _)| *tag == extractor.tag) {
                continue;
            }
            if let Some(found) = extractor.pattern.find(name) {
                tags.push((&extractor.tag, found.value));
                cuts.push(found.cut);
            }
        }
        let kept = name.char_indices().filter(|(at, _)| !cuts.iter().any(|cut| cut.contains(at)));
        Extracted { name: kept.map(|(_, c)| c).collect(), tags }
    }
}

/// Whether a regular expression is only worth trying on names that begin with one word: `^word\.`.
fn begins_with_word(regex: &str) -> bool {
    let word = regex.strip_prefix('^').and_then(|rest| rest.split_once("\\."));
    word.is_some_and(|(word, _)| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

impl Pattern {
    fn find(&self, name: &str) -> Option<Found> {
        match self {
            Self::Tokens(pattern) => tokens(pattern, name),
            Self::ResponseCode => suffix(name, 3, "", 0),
            Self::ResponseCodeClass => suffix(name, 1, "xx", 1),
            Self::ListenerAddress if name.starts_with("listener.admin.") => None,
            Self::ListenerAddress => tokens("listener.$@.**", name),
            Self::Regex(regex) => {
                let captures = regex.captures(name)?;
                let cut = captures.get(1)?;
                let value = captures.get(2).unwrap_or(cut).as_str().to_owned();
                Some(Found { cut: cut.range(), value })
            }
            Self::Fixed(value) => Some(Found { cut: 0..0, value: value.clone() }),
        }
    }
}

/// `_rq_<digits><after>` at the end of a name. The class keeps its underscore (`_rq_xx`), the code takes it along
/// (`_rq`).
fn suffix(name: &str, digits: usize, after: &str, keep: usize) -> Option<Found> {
    let end = name.len().checked_sub(after.len())?;
    let start = end.checked_sub(digits)?;
    let number = name.get(start..end)?;
    let sound = name.get(end..)? == after
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && name.get(..start)?.ends_with("_rq_");
    sound.then(|| Found { cut: start - 1 + keep..end, value: number.to_owned() })
}

fn tokens(pattern: &str, name: &str) -> Option<Found> {
    let mut value = None;
    if !matches(pattern, name, 0, &mut value) {
        return None;
    }
    let value: Range<usize> = value?;
    // The dot after it goes with it; at the end of the name, the one before.
    let cut =
        if value.end < name.len() { value.start..value.end + 1 } else { value.start.saturating_sub(1)..value.end };
    Some(Found { cut, value: name.get(value)?.to_owned() })
}

/// Whether the rest of a pattern fits the name from byte `at` on.
fn matches(pattern: &str, name: &str, at: usize, value: &mut Option<Range<usize>>) -> bool {
    if pattern.is_empty() {
        return at > name.len();
    }
    let (token, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
    if token == "**" && rest.is_empty() {
        return true;
    }
    let Some(text) = name.get(at..) else { return false };
    let segment = text.split('.').next().unwrap_or_default();
    let end = |len: usize| at + len;
    match token {
        "**" => {
            let mut at = at;
            loop {
                if matches(rest, name, at, value) {
                    return true;
                }
                match name.get(at..).and_then(|text| text.find('.')) {
                    Some(dot) => at += dot + 1,
                    None => return false,
                }
            }
        }
        "*" => matches(rest, name, end(segment.len()) + 1, value),
        "@" => matches(rest, name, end(address(text)) + 1, value),
        "$" | "$@" | "$+" => {
            let len = match token {
                "$" => segment.len(),
                "$@" => address(text),
                _ => text.rfind('.').unwrap_or(0),
            };
            *value = Some(at..end(len));
            len > 0 && matches(rest, name, end(len) + 1, value)
        }
        _ => match token.strip_suffix('$') {
            Some(head) => match segment.strip_prefix(head) {
                Some(tail) if !tail.is_empty() => {
                    *value = Some(at + head.len()..end(segment.len()));
                    matches(rest, name, end(segment.len()) + 1, value)
                }
                _ => false,
            },
            None => token == segment && matches(rest, name, end(segment.len()) + 1, value),
        },
    }
}

/// How long the address of a listener is at the beginning of a text: `1.2.3.4_80`, or one segment.
fn address(text: &str) -> usize {
    let segment = text.find('.').unwrap_or(text.len());
    let mut parts = text.splitn(5, '.');
    let digits = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let (Some(a), Some(b), Some(c), Some(d)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return segment;
    };
    let last = d.split_once('_').is_some_and(|(d, port)| digits(d) && port.bytes().all(|byte| byte.is_ascii_digit()));
    if digits(a) && digits(b) && digits(c) && last { a.len() + b.len() + c.len() + d.len() + 3 } else { segment }
}

/// Envoy 1.40's default tags that may stand anywhere in a name.
const GENERAL: &[(&str, Pattern)] = &[
    ("envoy.response_code", Pattern::ResponseCode),
    ("envoy.response_code_class", Pattern::ResponseCodeClass),
    ("envoy.rbac_prefix", Pattern::Tokens("$.rbac.**")),
    ("envoy.local_http_ratelimit_prefix", Pattern::Tokens("$.http_local_rate_limit.**")),
    ("envoy.worker_id", Pattern::Tokens("listener.@.worker_$.**")),
    ("envoy.worker_id", Pattern::Tokens("server.worker_$.**")),
    ("envoy.worker_id", Pattern::Tokens("listener_manager.worker_$.**")),
    ("envoy.worker_id", Pattern::Tokens("thread_local_cluster_manager.worker_$.**")),
];

/// Envoy 1.40's default tags by the first word of the name, as far as this proxy has statistics for them.
const SCOPED: &[(&str, Pattern)] = &[
    ("envoy.mongo_callsite", Pattern::Tokens("mongo.*.collection.*.callsite.$.query.**")),
    ("envoy.mongo_collection", Pattern::Tokens("mongo.*.collection.$.**.query.*")),
    ("envoy.mongo_cmd", Pattern::Tokens("mongo.*.cmd.$.**")),
    ("envoy.mongo_prefix", Pattern::Tokens("mongo.$.**")),
    ("envoy.grpc_bridge_method", Pattern::Tokens("cluster.*.grpc.*.$.**")),
    ("envoy.http_user_agent", Pattern::Tokens("http.*.user_agent.$.**")),
    ("envoy.virtual_cluster", Pattern::Tokens("vhost.*.vcluster.$.**")),
    ("envoy.fault_downstream_cluster", Pattern::Tokens("http.*.fault.$.**")),
    ("envoy.ssl_cipher", Pattern::Tokens("listener.@.ssl.ciphers.$")),
    ("envoy.ssl_curve", Pattern::Tokens("listener.@.ssl.curves.$")),
    ("envoy.ssl_sigalg", Pattern::Tokens("listener.@.ssl.sigalgs.$")),
    ("envoy.ssl_version", Pattern::Tokens("listener.@.ssl.versions.$")),
    ("cipher_suite", Pattern::Tokens("cluster.*.ssl.ciphers.$")),
    ("envoy.grpc_bridge_service", Pattern::Tokens("cluster.*.grpc.$.**")),
    ("envoy.clientssl_prefix", Pattern::Tokens("auth.clientssl.$.**")),
    ("envoy.ext_authz_prefix", Pattern::Tokens("cluster.*.ext_authz.$.**")),
    ("envoy.ext_authz_prefix", Pattern::Tokens("http.*.ext_authz.$.**")),
    ("envoy.cluster_name", Pattern::Tokens("cluster.$.**")),
    ("envoy.rds_route_config", Pattern::Tokens("http.*.rds.$+.*")),
    ("envoy.scoped_rds_config", Pattern::Tokens("http.*.scoped_rds.$+.*")),
    ("envoy.http_conn_manager_prefix", Pattern::Tokens("http.$.**")),
    ("envoy.http_conn_manager_prefix", Pattern::Tokens("listener.**.http.$.**")),
    ("envoy.listener_address", Pattern::ListenerAddress),
    ("envoy.route", Pattern::Tokens("vhost.*.route.$.**")),
    ("envoy.virtual_host", Pattern::Tokens("vhost.$.**")),
    ("envoy.tcp_prefix", Pattern::Tokens("tcp.$.**")),
    ("envoy.udp_prefix", Pattern::Tokens("udp.$.**")),
    ("envoy.redis_prefix", Pattern::Tokens("redis.$.**")),
    ("envoy.ratelimit_prefix", Pattern::Tokens("ratelimit.$.**")),
    ("envoy.local_network_ratelimit_prefix", Pattern::Tokens("local_rate_limit.$.**")),
    ("envoy.local_listener_ratelimit_prefix", Pattern::Tokens("listener_local_ratelimit.$.**")),
    ("envoy.connection_limit_prefix", Pattern::Tokens("connection_limit.$.**")),
    ("envoy.xds_resource_name", Pattern::Tokens("sds.$.**")),
];

fn defaults(from: &[(&str, Pattern)], wanted: impl Fn(&str) -> bool) -> Vec<Extractor> {
    let wanted = from.iter().filter(|(tag, _)| wanted(tag));
    wanted.map(|(tag, pattern)| Extractor { tag: (*tag).to_owned(), pattern: pattern.clone() }).collect()
}

#[cfg(test)]
mod tests;
