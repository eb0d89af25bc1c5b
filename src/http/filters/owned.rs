//! What a worker makes of the settings that routes have for a filter: counters, compiled matchers, what is counted per connection.
//!
//! Made at the first request that meets them, and kept as long as the filter, which lives as long as its configuration: there is one for
//! each settings of a route at most.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::config::model::Settings;

/// By the place of the settings, which are kept alive beside.
pub(super) struct Owned<T>(RefCell<HashMap<usize, (Settings, Rc<T>)>>);

impl<T> Default for Owned<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Owned<T> {
    /// What has been made of these settings, which are of type `S`; `None` where they are not, or nothing can be made of them.
    pub(super) fn get<S: Any>(&self, said: &Settings, make: impl FnOnce() -> Option<T>) -> Option<Rc<T>> {
        let place = std::ptr::from_ref(said.get::<S>()?).addr();
        if let Some((_, made)) = self.0.borrow().get(&place) {
            return Some(made.clone());
        }
        let made = Rc::new(make()?);
        self.0.borrow_mut().insert(place, (said.clone(), made.clone()));
        Some(made)
    }
}
