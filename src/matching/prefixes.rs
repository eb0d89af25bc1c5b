//! All keys that a text begins with, by one search: sorted, each with the longest other key that it begins with.

/// Keys and what they lead to.
#[derive(Debug)]
pub(super) struct Prefixes<T>(Vec<Key<T>>);

#[derive(Debug)]
struct Key<T> {
    text: Box<[u8]>,
    /// The place of the longest other key that this one begins with.
    parent: Option<usize>,
    leads_to: T,
}

impl<T> Prefixes<T> {
    /// Of keys that differ.
    pub(super) fn new(mut keys: Vec<(Box<[u8]>, T)>) -> Self {
        keys.sort_by(|one, other| one.0.cmp(&other.0));
        let mut sorted: Vec<Key<T>> = Vec::with_capacity(keys.len());
        // A key comes behind all that it begins with: the open ones stand on the stack.
        let mut open: Vec<usize> = Vec::new();
        for (text, leads_to) in keys {
            while open.last().is_some_and(|&at| !sorted.get(at).is_some_and(|key| text.starts_with(&key.text))) {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(sorted.len());
            sorted.push(Key { text, parent, leads_to });
        }
        Self(sorted)
    }

    /// What the keys lead to that a text begins with, the longest first.
    pub(super) fn of<'p, 'q>(&'p self, text: &'q [u8]) -> impl Iterator<Item = &'p T> + use<'p, 'q, T> {
        // Whatever the text begins with is its neighbour in the order, or the neighbour begins with it.
        let mut next = self.0.partition_point(|key| *key.text <= *text).checked_sub(1);
        std::iter::from_fn(move || {
            while let Some(key) = next.and_then(|at| self.0.get(at)) {
                next = key.parent;
                if text.starts_with(&key.text) {
                    return Some(&key.leads_to);
                }
            }
            None
        })
    }
}
