//! Virtual hosts by name: exact, by the longest suffix, by the longest prefix, any.

use std::borrow::Cow;
use std::collections::HashMap;

/// The index of domains of one table.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<[u8]>, usize>,
    /// Text behind the `*`, with the host; longest first.
    suffixes: Wildcards,
    /// Text before the `*`.
    prefixes: Wildcards,
    any: Option<usize>,
}

impl Hosts {
    /// Adds a domain in lower case.
    pub(super) fn add(&mut self, domain: &str, host: usize) {
        if domain == "*" {
            self.any = Some(host);
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.add(suffix, host);
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.add(prefix, host);
        } else {
            self.exact.insert(domain.as_bytes().into(), host);
        }
    }

    /// The host for an authority.
    pub(super) fn find(&self, authority: &[u8]) -> Option<usize> {
        let only_any = self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty();
        if only_any || authority.is_empty() {
            return self.any;
        }
        let name = lower_case(authority);
        self.exact
            .get(&*name)
            .copied()
            .or_else(|| self.suffixes.find(name.len(), |length| &name[name.len() - length..]))
            .or_else(|| self.prefixes.find(name.len(), |length| &name[..length]))
            .or(self.any)
    }
}

/// Wildcards of one kind by their fixed part: one look-up per length that occurs, longest first.
#[derive(Debug, Default)]
struct Wildcards {
    lengths: Vec<usize>,
    hosts: HashMap<Box<[u8]>, usize>,
}

impl Wildcards {
    fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    fn add(&mut self, fixed: &str, host: usize) {
        if let Err(at) = self.lengths.binary_search_by(|length| fixed.len().cmp(length)) {
            self.lengths.insert(at, fixed.len());
        }
        self.hosts.insert(fixed.as_bytes().into(), host);
    }

    /// `part` cuts so many bytes of the name. The `*` stands for at least one.
    fn find<'n>(&self, name: usize, part: impl Fn(usize) -> &'n [u8]) -> Option<usize> {
        self.lengths.iter().filter(|length| **length < name).find_map(|length| self.hosts.get(part(*length)).copied())
    }
}

fn lower_case(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().any(u8::is_ascii_uppercase) { text.to_ascii_lowercase().into() } else { text.into() }
}

/// Cuts `:port` off, leaving an IPv6 literal whole.
pub(super) fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) && !authority[at..].contains(&b']') => {
            let host = &authority[..at];
            // `::1` without brackets is an address, not a host with a port.
            if host.contains(&b':') && !host.ends_with(b"]") { authority } else { host }
        }
        _ => authority,
    }
}
