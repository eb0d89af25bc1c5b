//! Keeps the runtime values: puts the layers together, reads those on disk again when their root is swapped, and takes an operator's overrides.
//!
//! It lives on the main thread. Every change becomes a new snapshot that all workers see with their next question. A disk that hangs holds up a thread of its own and nothing
//! else: it is looked at once a second, and never twice at a time. A layer that cannot be read any more keeps the values that it had; one that never
//! could be read is left out, as is one whose folder is not there. Overrides end with the epoch ([`crate::runtime`] says why).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tracing::{info, warn};

use crate::config::model::{RuntimeLayer, RuntimeLayers};
use crate::runtime::disk::{self, Fault, Identity};
use crate::runtime::{Layer, Runtime, Snapshot, Value};
use crate::stats::names::RuntimeStats;

/// Overrides that there may be at once, and bytes of one: they come over the network.
const MAX_OVERRIDES: usize = 1024;
const MAX_LENGTH: usize = 16 * 1024;

pub(super) struct Keeper {
    layers: Vec<RuntimeLayer>,
    values: Runtime,
    stats: RuntimeStats,
    overrides: RefCell<BTreeMap<String, Value>>,
    /// By the layer's place.
    disks: RefCell<BTreeMap<usize, Disk>>,
    /// Somebody looks at the disk.
    looking: Cell<bool>,
}

/// A layer on disk as it was last found.
#[derive(Clone)]
struct Disk {
    name: String,
    root: PathBuf,
    folder: PathBuf,
    identity: Option<Identity>,
    layer: Option<Layer>,
    is_bad: bool,
}

impl Disk {
    fn read(&mut self) {
        self.identity = disk::identity(&self.root);
        match self.load() {
            Ok(layer) => (self.layer, self.is_bad) = (layer, false),
            Err(fault) => {
                warn!("runtime layer '{}' cannot be read: {fault}", self.name);
                self.is_bad = true;
            }
        }
    }

    fn load(&self) -> Result<Option<Layer>, Fault> {
        disk::read(&self.name, &self.folder)
    }

    fn was_swapped(&self) -> bool {
        disk::identity(&self.root) != self.identity
    }
}

impl Keeper {
    /// Reads the layers and publishes them. Blocks for as long as the disk takes: nobody is served yet.
    pub(super) fn new(model: &RuntimeLayers, stats: RuntimeStats) -> Rc<Self> {
        let mut disks = BTreeMap::new();
        for (place, layer) in model.layers.iter().enumerate() {
            if let RuntimeLayer::Disk { name, root, folder } = layer {
                let mut disk = Disk {
                    name: name.clone(),
                    root: root.clone(),
                    folder: folder.clone(),
                    identity: None,
                    layer: None,
                    is_bad: false,
                };
                disk.read();
                disks.insert(place, disk);
            }
        }
        let keeper = Self {
            layers: model.layers.clone(),
            values: model.values.clone(),
            stats,
            overrides: RefCell::default(),
            disks: RefCell::new(disks),
            looking: Cell::new(false),
        };
        keeper.stats.deprecated_feature_use.add(model.deprecated);
        keeper.stats.deprecated_feature_seen_since_process_start.set(model.deprecated);
        keeper.publish();
        Rc::new(keeper)
    }

    /// What is in force.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.values.snapshot()
    }

    /// Looks whether a root was swapped, beside whatever else goes on. Called once a second.
    pub(super) fn look(self: &Rc<Self>) {
        if self.looking.get() || self.disks.borrow().is_empty() {
            return;
        }
        self.looking.set(true);
        let keeper = self.clone();
        let mut disks = self.disks.borrow().clone();
        tokio::task::spawn_local(async move {
            let looked = tokio::task::spawn_blocking(move || {
                let swapped = swapped(&disks);
                // One link may be the root of several layers: all of them are read at the same moment.
                for disk in disks.values_mut().filter(|disk| swapped.contains(&disk.root)) {
                    disk.read();
                }
                (!swapped.is_empty()).then_some(disks)
            });
            if let Ok(Some(disks)) = looked.await {
                info!("runtime layers have been read again");
                keeper.disks.replace(disks);
                keeper.publish();
            }
            keeper.looking.set(false);
        });
    }

    /// Takes an operator's overrides: all of them or none. An empty value takes one back.
    ///
    /// # Errors
    /// There is no admin layer, or too much is asked; in words.
    pub(super) fn override_with(&self, changes: &[(String, String)]) -> Result<(), String> {
        if !self.layers.iter().any(|layer| matches!(layer, RuntimeLayer::Admin(_))) {
            return Err("No admin layer specified".to_owned());
        }
        if changes.iter().any(|(name, text)| name.is_empty() || name.len() + text.len() > MAX_LENGTH) {
            return Err(format!("a name must not be empty, nor an override longer than {MAX_LENGTH} bytes"));
        }
        let mut overrides = self.overrides.borrow().clone();
        for (name, text) in changes {
            if text.is_empty() {
                overrides.remove(name);
            } else {
                overrides.insert(name.clone(), Value::of_text(text.as_str()));
            }
        }
        if overrides.len() > MAX_OVERRIDES {
            return Err(format!("more than {MAX_OVERRIDES} overrides"));
        }
        self.overrides.replace(overrides);
        self.publish();
        Ok(())
    }

    /// Says what an epoch that leaves takes with it.
    pub(super) fn say_what_ends(&self) {
        let overrides = self.overrides.borrow();
        if !overrides.is_empty() {
            let names: Vec<&str> = overrides.keys().map(String::as_str).collect();
            warn!("the next epoch does not know the runtime overrides of the admin endpoint: {}", names.join(", "));
        }
    }

    fn publish(&self) {
        let disks = self.disks.borrow();
        let overrides = self.overrides.borrow();
        let layers = self.layers.iter().enumerate().filter_map(|(place, layer)| match layer {
            RuntimeLayer::Static(layer) => Some(layer.clone()),
            RuntimeLayer::Disk { .. } => disks.get(&place)?.layer.clone(),
            RuntimeLayer::Admin(name) => Some(Layer { name: name.clone(), values: overrides.clone() }),
        });
        let snapshot = Snapshot::new(layers.collect());
        let stats = &self.stats;
        stats.num_keys.set(snapshot.names().len() as u64);
        stats.num_layers.set(snapshot.layers().len() as u64);
        stats.admin_overrides_active.set(u64::from(!overrides.is_empty()));
        let is_whole = !disks.values().any(|disk| disk.is_bad);
        if is_whole { &stats.load_success } else { &stats.load_error }.inc();
        // As Envoy has it: with the second folder the first is overridden.
        let found = disks.values().filter(|disk| disk.layer.is_some()).count();
        if found > 1 { &stats.override_dir_exists } else { &stats.override_dir_not_exists }.inc();
        self.values.publish(snapshot);
    }
}

/// The roots that are not what they were.
fn swapped(disks: &BTreeMap<usize, Disk>) -> Vec<PathBuf> {
    disks.values().filter(|disk| disk.was_swapped()).map(|disk| disk.root.clone()).collect()
}
