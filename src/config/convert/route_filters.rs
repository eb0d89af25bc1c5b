//! `typed_per_filter_config`: what a level of the routes says of the filters.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::Any;

use super::context::Context;
use crate::config::model::RouteFilters;

pub(super) fn convert(cx: &mut Context, typed_per_filter_config: HashMap<String, Any>) -> RouteFilters {
    refuse!(cx; typed_per_filter_config);
    RouteFilters::default()
}
