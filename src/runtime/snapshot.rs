//! All values at one moment.

use std::collections::{BTreeMap, HashMap};

use super::value::Value;

/// Values of one origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    /// As the configuration calls it.
    pub name: String,
    /// Sorted, so that they are shown in the same order every time.
    pub values: BTreeMap<String, Value>,
}

impl Layer {
    /// Of texts.
    pub fn new<'a>(name: impl Into<String>, texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let values = texts.into_iter().map(|(name, text)| (name.to_owned(), Value::of_text(text)));
        Self { name: name.into(), values: values.collect() }
    }
}

/// The layers at one moment, and what is in force of them.
#[derive(Debug, Default)]
pub struct Snapshot {
    layers: Vec<Layer>,
    /// Of each name, the layer that has it last.
    last: HashMap<String, usize>,
}

impl Snapshot {
    /// Of layers, of which a later one goes before an earlier.
    pub fn new(layers: Vec<Layer>) -> Self {
        let mut last = HashMap::new();
        for (index, layer) in layers.iter().enumerate() {
            for name in layer.values.keys() {
                last.insert(name.clone(), index);
            }
        }
        Self { layers, last }
    }

    /// The layers, in their order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The value in force.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.layers.get(*self.last.get(name)?)?.values.get(name)
    }

    /// Every name that has a value, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.last.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}
