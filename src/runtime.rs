//! Runtime values: what an operator may change without a new configuration (Envoy's `layered_runtime`).
//!
//! ```text
//!   static layer ─┐
//!   disk layer ───┼── Snapshot ── published ──▶ Key::value, in whatever the configuration says "unless runtime says otherwise" of
//!   admin layer ──┘
//! ```
//!
//! A [`Snapshot`] is immutable: a change makes a new one and publishes it to all threads at once, and whoever asks takes no lock. Where the configuration has
//! no layers there is nothing to ask: [`Runtime::key`] gives nothing, and what has no key costs nothing. The settings hold their keys,
//! the server makes the snapshots (`server::runtime`).
//!
//! A takeover begins with what the new epoch's own configuration and disk say. What was set by `/runtime_modify` ends with its epoch, as at a
//! restart of Envoy: it is an operator's word to one process about one configuration, and a reload is how it is made to last. The epoch that leaves
//! says in its log what is forgotten.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub mod disk;
mod snapshot;
mod value;

pub use snapshot::{Layer, Snapshot};
pub use value::{Value, denominator};

/// Where snapshots are published, and read. Clones are the same; the default has no layers.
#[derive(Clone, Default)]
pub struct Runtime {
    shared: Option<Arc<ArcSwap<Snapshot>>>,
}

impl Runtime {
    /// For a configuration that has layers. Nothing is in them yet.
    pub fn new() -> Self {
        Self { shared: Some(Arc::new(ArcSwap::from_pointee(Snapshot::default()))) }
    }

    /// Whether there are layers.
    pub fn exists(&self) -> bool {
        self.shared.is_some()
    }

    /// Everybody sees these values from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        if let Some(shared) = &self.shared {
            shared.store(Arc::new(snapshot));
        }
    }

    /// What is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.as_ref().map_or_else(Arc::default, |shared| shared.load_full())
    }

    /// What asks for the value of a name again and again. `None` where no layer can have one.
    pub fn key(&self, name: &str) -> Option<Box<Key>> {
        let shared = self.shared.as_ref().filter(|_| !name.is_empty())?;
        Some(Box::new(Key { name: name.into(), shared: shared.clone() }))
    }

    /// What a value that is asked for by its name once in a while is, read by `read`.
    pub fn find<T>(&self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        self.shared.as_ref()?.load().get(name).and_then(read)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("exists", &self.exists()).finish()
    }
}

/// Two configurations differ in their layers, not in where those are published.
impl PartialEq for Runtime {
    fn eq(&self, other: &Self) -> bool {
        self.exists() == other.exists()
    }
}

impl Eq for Runtime {}

/// The name of a value, and where to look for it.
#[derive(Clone)]
pub struct Key {
    name: Box<str>,
    shared: Arc<ArcSwap<Snapshot>>,
}

impl Key {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value in force, read by `read`; `None` where no layer has it, or it is of another kind.
    pub fn value<T>(&self, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        self.shared.load().get(&self.name).and_then(read)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_sees_what_is_published() {
        let runtime = Runtime::new();
        let key = runtime.key("a.b").unwrap();
        assert_eq!(key.value(Value::integer), None);
        runtime.publish(Snapshot::new(vec![Layer::new("one", [("a.b", "5")])]));
        assert_eq!(key.value(Value::integer), Some(5));
        assert_eq!(runtime.find("a.b", Value::integer), Some(5));
        let (one, two) = (Layer::new("one", [("a.b", "5")]), Layer::new("two", [("a.b", "6")]));
        runtime.publish(Snapshot::new(vec![one, two]));
        assert_eq!(key.value(Value::integer), Some(6), "the later layer");
        assert_eq!(key.value(Value::boolean), None, "of another kind");
    }

    #[test]
    fn without_layers_there_are_no_keys() {
        let runtime = Runtime::default();
        assert!(runtime.key("a").is_none() && runtime.find("a", Value::integer).is_none());
        assert!(Runtime::new().key("").is_none(), "nor for no name");
        runtime.publish(Snapshot::new(vec![Layer::new("one", [("a", "5")])]));
        assert!(runtime.snapshot().layers().is_empty());
    }
}
