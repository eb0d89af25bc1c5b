//! What TLS connections have agreed on, counted by name.

use std::cell::RefCell;

use crate::stats::{Counter, Scope};

/// `ssl.versions.<v>`, `ssl.ciphers.<c>`, `ssl.curves.<c>` of a listener; each appears on first use, as Envoy's do.
pub struct SslUse {
    scope: Scope,
    /// Few: as many as there are things to agree on.
    seen: RefCell<Vec<(&'static str, &'static str, Counter)>>,
}

impl SslUse {
    /// In the scope of a listener.
    pub fn new(scope: &Scope) -> Self {
        Self { scope: scope.scope("ssl"), seen: RefCell::default() }
    }

    /// A connection speaks this version.
    pub fn version(&self, name: &'static str) {
        self.count("versions", name);
    }

    /// A connection uses this suite.
    pub fn cipher(&self, name: &'static str) {
        self.count("ciphers", name);
    }

    /// The keys of a connection were agreed on in this group.
    pub fn curve(&self, name: &'static str) {
        self.count("curves", name);
    }

    fn count(&self, what: &'static str, name: &'static str) {
        let mut seen = self.seen.borrow_mut();
        let at = seen.iter().position(|(known, of, _)| (*known, *of) == (what, name));
        if let Some((_, _, counter)) = at.and_then(|at| seen.get(at)) {
            return counter.inc();
        }
        let counter = self.scope.scope(what).counter(name);
        counter.inc();
        seen.push((what, name, counter));
    }
}
