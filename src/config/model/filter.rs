//! Settings of extensions: values that only the extension's own code understands.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The settings of an extension, as its own code made them. They can be compared, as a reload needs.
#[derive(Clone)]
pub struct Settings(Arc<dyn Value>);

/// What settings must be.
trait Value: Send + Sync {
    fn any(&self) -> &dyn Any;
    fn same(&self, other: &dyn Any) -> bool;
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl<T: Any + Send + Sync + PartialEq + fmt::Debug> Value for T {
    fn any(&self) -> &dyn Any {
        self
    }

    fn same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt(f)
    }
}

impl Settings {
    /// Of a value.
    pub fn new<T: Any + Send + Sync + PartialEq + fmt::Debug>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The value, for whoever knows its type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.any().downcast_ref()
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.0.same(other.0.any())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

/// An HTTP filter that is not the router.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterModel {
    /// Its name in the chain: routes speak of it by this name.
    pub name: String,
    /// The full name of the type of its settings: which extension it is.
    pub type_name: String,
    /// Its settings.
    pub settings: Settings,
    /// `disabled`: it works only where a route enables it.
    pub disabled: bool,
}

/// A network filter that is not one of our own.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFilterModel {
    /// Its name in the chain.
    pub name: String,
    /// The full name of the type of its settings: which extension it is.
    pub type_name: String,
    /// Its settings.
    pub settings: Settings,
    /// It keeps the connection until it ends.
    pub is_terminal: bool,
}

/// `typed_per_filter_config` of one level, sorted by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteFilters(pub Vec<RouteFilter>);

/// What a level says of one filter.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteFilter {
    /// The filter's name in the chain.
    pub name: String,
    /// `FilterConfig.disabled`; whatever else is said enables the filter.
    pub disabled: bool,
    /// Its settings here, where there are any.
    pub settings: Option<Settings>,
}

impl RouteFilters {
    /// What is said of a filter.
    pub fn get(&self, name: &str) -> Option<&RouteFilter> {
        let at = self.0.binary_search_by(|filter| filter.name.as_str().cmp(name)).ok()?;
        self.0.get(at)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
