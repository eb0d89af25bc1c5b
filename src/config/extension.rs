//! How the settings of a filter are read: the seam between the configuration and code that it does not know.
//!
//! A filter's own code says of which type its settings are and turns them into a value of its own ([`Settings`]); the rest of the proxy carries
//! that value from the configuration to the filter without looking at it. A program that links this library hands its filters' kinds to
//! [`super::LoadOptions`], and what builds them to the server. A type that the API's schema does not know is written in a file as a
//! `TypedStruct` that names it, as for Envoy.

use std::fmt::Debug;

use envoy_types::pb::google::protobuf;
use prost::Message as _;

use super::convert::Context;
use super::model::Settings;
use super::typed_struct;

/// A kind of HTTP filter, by the type of its settings.
#[derive(Clone, Copy, Debug)]
pub struct HttpFilterKind {
    /// The full name of the message, without `type.googleapis.com/`.
    pub type_name: &'static str,
    /// Reads the settings of the chain. `None` is for faults, each of which has been told to the [`Reader`].
    pub settings: Read,
    /// What a route, a virtual host, a table or a weighted cluster may say of the filter; `None`: nothing but that it is disabled.
    pub route: Option<RouteKind>,
}

/// A kind of network filter, by the type of its settings.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFilterKind {
    /// The full name of the message, without `type.googleapis.com/`.
    pub type_name: &'static str,
    /// Reads the settings. `None` is for faults, each of which has been told to the [`Reader`].
    pub settings: Read,
    /// It keeps the connection until it ends, and must be the last of its chain; else it must not.
    pub is_terminal: bool,
}

/// The settings of a filter on a route.
#[derive(Clone, Copy, Debug)]
pub struct RouteKind {
    /// The full name of the message; it may be that of the chain's.
    pub type_name: &'static str,
    /// Reads them.
    pub settings: Read,
}

/// Reads settings. `None` is for faults, each of which has been told to the [`Reader`].
pub type Read = for<'r> fn(&mut Reader<'r>, Given<'r>) -> Option<Settings>;

/// Settings as they are given.
#[derive(Debug)]
pub enum Given<'a> {
    /// An encoded message of the type. One that the schema knows has been checked against its rules.
    Message(&'a [u8]),
    /// Of a type that the schema does not know: the value of a `TypedStruct`.
    Value(serde_json::Value),
}

/// Where settings are being read: tells the operator what is wrong, with line and path.
pub struct Reader<'a> {
    pub(super) context: &'a mut Context,
}

impl<'a> Reader<'a> {
    pub(super) fn new(context: &'a mut Context) -> Self {
        Self { context }
    }

    /// Reads within a field.
    pub fn at<T>(&mut self, field: &'static str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        self.context.at(field, |context| read(&mut Reader { context }))
    }

    /// The settings are refused.
    pub fn error(&mut self, message: impl Into<String>) {
        self.context.error(message);
    }

    /// The operator should know.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.context.warn(message);
    }

    /// A field is set that is not honoured, and ignoring it would change traffic or security.
    pub fn refuse(&mut self, field: &'static str) {
        self.context.refuse(field);
    }

    /// A field is set that is not honoured, and without it things run on as well.
    pub fn ignore(&mut self, field: &'static str) {
        self.context.ignore(field);
    }

    /// Decodes a message; faults are told.
    pub fn decode<M: prost::Message + Default>(&mut self, given: Given<'_>) -> Option<M> {
        match given {
            Given::Message(bytes) => {
                M::decode(bytes).map_err(|error| self.error(format!("cannot be decoded: {error}"))).ok()
            }
            Given::Value(_) => {
                self.error("a message is expected here, not a TypedStruct");
                None
            }
        }
    }

    /// Reads a value of a type that the schema does not know; faults are told.
    pub fn deserialize<T: serde::de::DeserializeOwned>(&mut self, given: Given<'_>) -> Option<T> {
        match given {
            Given::Value(value) => serde_json::from_value(value).map_err(|error| self.error(error.to_string())).ok(),
            Given::Message(_) => {
                self.error("a TypedStruct is expected here, not a message");
                None
            }
        }
    }
}

/// A structure of a message as JSON.
pub fn structure(message: &protobuf::Struct) -> serde_json::Map<String, serde_json::Value> {
    match typed_struct::to_json(&message.encode_to_vec()) {
        serde_json::Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}
