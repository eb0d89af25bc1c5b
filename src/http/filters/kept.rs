//! What a worker makes of the settings of routes, where filters must be borrowed from it for as long as a request lives.
//!
//! As [`super::owned::Owned`], but what has been made is never moved nor let go before the filter is: it can be lent. There is one for each
//! settings of a route at most, and the filter lives as long as its configuration.

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use crate::config::model::Settings;

/// By the place of the settings, which are kept alive beside.
pub(super) struct Kept<T> {
    places: RefCell<HashMap<usize, (Settings, usize)>>,
    /// Each twice as long as the one before.
    pages: [OnceCell<Box<[OnceCell<T>]>>; 32],
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { places: RefCell::default(), pages: [const { OnceCell::new() }; 32] }
    }
}

impl<T> Kept<T> {
    /// What has been made of these settings, which are of type `S`; `None` where they are not.
    pub(super) fn get<S: Any>(&self, said: &Settings, make: impl FnOnce(&S) -> T) -> Option<&T> {
        let settings = said.get::<S>()?;
        let place = std::ptr::from_ref(settings).addr();
        let known = self.places.borrow().get(&place).map(|(_, at)| *at);
        let at = known.unwrap_or_else(|| {
            let mut places = self.places.borrow_mut();
            let at = places.len();
            places.insert(place, (said.clone(), at));
            at
        });
        // The page of `at` begins at the power of two below the one that follows it.
        let page = (at + 1).ilog2();
        let cells = self.pages.get(usize::try_from(page).ok()?)?;
        let cells = cells.get_or_init(|| (0..1_usize << page).map(|_| OnceCell::new()).collect());
        Some(cells.get(at + 1 - (1 << page))?.get_or_init(|| make(settings)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_settings_are_made_once_and_stay_where_they_are() {
        let all: Vec<Settings> = (0..100_u32).map(Settings::new).collect();
        let kept = Kept::default();
        let made = std::cell::Cell::new(0);
        let make = |settings: &u32| {
            made.set(made.get() + 1);
            *settings
        };
        let first: Vec<&u32> = all.iter().map(|said| kept.get(said, make).unwrap()).collect();
        let second: Vec<&u32> = all.iter().map(|said| kept.get(said, make).unwrap()).collect();
        assert_eq!(made.get(), 100);
        assert_eq!(first.iter().map(|it| **it).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert!(first.iter().zip(&second).all(|(one, other)| std::ptr::eq(*one, *other)));
        assert!(kept.get(&Settings::new("another type"), make).is_none());
    }
}
