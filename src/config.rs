//! Configuration: from Envoy's v3 API to validated plain data.

pub mod model;
