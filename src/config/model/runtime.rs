//! What runtime layers may change: the layers, and settings that ask them.

use std::path::PathBuf;

use crate::config::model::Fraction;
use crate::runtime::{Key, Layer, Runtime, Value};

/// `envoy.config.bootstrap.v3.LayeredRuntime`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeLayers {
    /// In their order: a later one goes before an earlier.
    pub layers: Vec<RuntimeLayer>,
    /// Deprecated fields that the whole configuration uses, each counted once (`runtime.deprecated_feature_use`).
    pub deprecated: u64,
    /// Where the values are published that the settings of this configuration ask for; the static layers are in it already.
    pub values: Runtime,
}

/// Where the values of a layer come from.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeLayer {
    /// `static_layer`.
    Static(Layer),
    /// `disk_layer`.
    Disk {
        /// Its name.
        name: String,
        /// `symlink_root`: read again when it is swapped.
        root: PathBuf,
        /// What is read: `subdirectory` below it, and the service cluster below that where it is appended.
        folder: PathBuf,
    },
    /// `admin_layer`, by its name.
    Admin(String),
}

/// A setting that a runtime value may replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed<T> {
    /// What holds where no layer has a value.
    pub default: T,
    /// The name of the value; `None` where no layer could have one, which is the common case and costs nothing.
    key: Option<Box<Key>>,
}

impl<T> From<T> for Keyed<T> {
    fn from(default: T) -> Self {
        Self { default, key: None }
    }
}

impl<T: Copy> Keyed<T> {
    /// Of a default and the name of a value, which may be empty.
    pub fn new(default: T, runtime: &Runtime, name: &str) -> Self {
        Self { default, key: runtime.key(name) }
    }

    /// The name of the value, where one is looked for.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref().map(Key::name)
    }

    /// Whether a layer has a value of that name, of any kind.
    pub fn is_given(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.value(|_| Some(())).is_some())
    }

    fn read(&self, read: impl FnOnce(&Value) -> Option<T>) -> T {
        self.key.as_ref().and_then(|key| key.value(read)).unwrap_or(self.default)
    }
}

impl Keyed<Fraction> {
    /// What is in force.
    pub fn now(&self) -> Fraction {
        self.read(Fraction::of)
    }

    /// Whether a random number falls within.
    pub fn holds(&self, random: u64) -> bool {
        self.now().holds(random)
    }

    /// Whether no number falls within by default.
    pub fn is_never(&self) -> bool {
        self.default.numerator == 0
    }
}

impl Keyed<bool> {
    /// What is in force.
    pub fn now(&self) -> bool {
        self.read(Value::boolean)
    }
}

impl Keyed<u32> {
    /// What is in force; a value beyond the type is its largest.
    pub fn now(&self) -> u32 {
        self.read(|value| value.integer().map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
    }
}

impl Keyed<u64> {
    /// What is in force.
    pub fn now(&self) -> u64 {
        self.read(Value::integer)
    }
}

impl Keyed<f64> {
    /// What is in force.
    pub fn now(&self) -> f64 {
        self.read(Value::double)
    }
}

impl Fraction {
    /// All.
    pub const ALL: Self = Self { numerator: 100, denominator: 100 };
    /// None.
    pub const NONE: Self = Self { numerator: 0, denominator: 100 };

    /// Of a runtime value: a fraction, or a whole number that is a percentage.
    pub fn of(value: &Value) -> Option<Self> {
        value.fraction().map(|(numerator, denominator)| Self { numerator, denominator })
    }
}
