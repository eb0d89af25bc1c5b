//! All patterns that a name is of, the most specific first: itself, what it stands under (`*.example.com`) from the longest on, any.

use std::collections::HashMap;

/// Names and what they lead to.
#[derive(Debug)]
pub(super) struct Names<T> {
    leads_to: Vec<T>,
    exact: HashMap<Box<[u8]>, usize>,
    /// By what stands behind the `*`, the dot included.
    under: HashMap<Box<[u8]>, usize>,
    any: Option<usize>,
}

impl<T> Names<T> {
    /// Of patterns that differ.
    pub(super) fn new(names: Vec<(Vec<String>, T)>) -> Self {
        let mut made =
            Self { leads_to: Vec::with_capacity(names.len()), exact: HashMap::new(), under: HashMap::new(), any: None };
        for (at, (names, leads_to)) in names.into_iter().enumerate() {
            for name in names {
                match name.strip_prefix('*') {
                    None => made.exact.insert(name.as_bytes().into(), at),
                    Some("") => made.any.replace(at),
                    Some(rest) => made.under.insert(rest.as_bytes().into(), at),
                };
            }
            made.leads_to.push(leads_to);
        }
        made
    }

    /// What the patterns lead to that a name is of, as it is written: names of TLS are in lower case.
    pub(super) fn of<'n, 'q>(&'n self, name: &'q [u8]) -> impl Iterator<Item = &'n T> + use<'n, 'q, T> {
        // The `*` stands for something.
        let dots = name.iter().enumerate().filter(|(at, byte)| *at > 0 && **byte == b'.').map(|(at, _)| at);
        let under = dots.filter_map(|at| self.under.get(name.get(at..)?));
        let found = self.exact.get(name).into_iter().chain(under).chain(&self.any);
        found.filter_map(|at| self.leads_to.get(*at))
    }
}
