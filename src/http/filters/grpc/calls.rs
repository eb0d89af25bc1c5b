//! Where the calls of a cluster are counted: all together, or each method apart.
//!
//! Names that the operator lists are as many as are listed. Names that clients bring are [`MOST_NAMES`] for a filter and worker at most, and
//! none of them is long or strange: what comes beyond is counted without its name, as the table of names in shared memory is for all
//! epochs, and does not forget.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::stats::Scope;
use crate::stats::names::{self, GrpcCounters};
use crate::upstream::Cluster;

/// Methods that clients may name.
const MOST_NAMES: usize = 256;

/// The longest name of a service or a method that is counted under, in bytes.
const LONGEST: usize = 128;

/// Which methods are counted apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::http::filters) enum Apart {
    /// None.
    #[default]
    None,
    /// These, by service and method.
    Listed(HashSet<(String, String)>),
    /// Whatever clients ask for.
    All {
        /// Services have `_` in their names instead of `.`.
        without_dots: bool,
    },
}

/// The counters of one filter and worker.
pub(in crate::http::filters) struct Calls {
    top: Scope,
    /// `grpc` or `grpc-web`.
    protocol: &'static str,
    apart: Apart,
    clusters: RefCell<HashMap<Box<str>, Counted>>,
    /// Names made for what clients brought.
    made: Cell<usize>,
}

/// The counters of one cluster.
#[derive(Default)]
struct Counted {
    all: Option<Rc<GrpcCounters>>,
    /// By path.
    methods: HashMap<Box<[u8]>, Rc<GrpcCounters>>,
}

impl Calls {
    pub(in crate::http::filters) fn new(scope: &Scope, protocol: &'static str, apart: Apart) -> Self {
        let (clusters, made) = (RefCell::default(), Cell::new(0));
        Self { top: scope.top(), protocol, apart, clusters, made }
    }

    /// Where a call is counted; `None` where its path names no method. `path` is without its query.
    pub(in crate::http::filters) fn of(&self, cluster: &Cluster, path: &[u8]) -> Option<Rc<GrpcCounters>> {
        let (service, method) = named(path)?;
        // However a path is written, its method is counted in one place.
        let plain = service.len() + method.len() + 2 == path.len();
        let key = if plain { Cow::Borrowed(path) } else { [b"/", service, b"/", method].concat().into() };
        let name = cluster.model().stat_name.as_str();
        let mut clusters = self.clusters.borrow_mut();
        let counted = match clusters.get_mut(name) {
            Some(counted) => counted,
            None => clusters.entry(name.into()).or_default(),
        };
        if let Some(found) = counted.methods.get(&*key) {
            return Some(found.clone());
        }
        let new = |method| Rc::new(GrpcCounters::new(&names::cluster(&self.top, name), self.protocol, method));
        let Some((service, method)) = self.named_apart(service, method) else {
            return Some(counted.all.get_or_insert_with(|| new(None)).clone());
        };
        let counters = match self.apart {
            Apart::All { without_dots: true } => new(Some((&service.replace('.', "_"), method))),
            _ => new(Some((service, method))),
        };
        counted.methods.insert(key.into(), counters.clone());
        Some(counters)
    }

    /// The names that a method is counted apart under, where it is.
    fn named_apart<'n>(&self, service: &'n [u8], method: &'n [u8]) -> Option<(&'n str, &'n str)> {
        match &self.apart {
            Apart::None => None,
            Apart::Listed(listed) => {
                let (service, method) = (std::str::from_utf8(service).ok()?, std::str::from_utf8(method).ok()?);
                // A set of pairs of texts cannot be asked with borrowed ones.
                listed.contains(&(service.to_owned(), method.to_owned())).then_some((service, method))
            }
            Apart::All { .. } => {
                let names = (word(service)?, word(method)?);
                let made = self.made.get();
                (made < MOST_NAMES).then(|| {
                    self.made.set(made + 1);
                    names
                })
            }
        }
    }
}

/// Service and method of a path; parts of it that are empty are none.
fn named(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let (service, method) = (parts.next()?, parts.next()?);
    parts.next().is_none().then_some((service, method))
}

/// A name that may stand among the statistics.
fn word(name: &[u8]) -> Option<&str> {
    let fits = name.len() <= LONGEST && name.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(name).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_service_and_a_method_or_nothing() {
        assert_eq!(named(b"/a.B/C"), Some((&b"a.B"[..], &b"C"[..])));
        assert_eq!(named(b"//a.B//C/"), Some((&b"a.B"[..], &b"C"[..])));
        for path in [&b"/"[..], b"/a", b"/a/", b"//C", b"/a/b/c", b""] {
            assert_eq!(named(path), None, "{}", path.escape_ascii());
        }
        assert_eq!(word(b"a b"), None);
        assert_eq!(word(&[b'a'; LONGEST + 1]), None);
    }
}
