//! One endpoint of a cluster, with its connections.

use std::rc::Rc;

use crate::config::model;

use super::cluster::Common;
use super::pool::http1::Pool;

/// A host.
pub struct Host {
    endpoint: model::Endpoint,
    pool: Rc<Pool>,
}

impl Host {
    pub(super) fn new(endpoint: model::Endpoint, common: &Rc<Common>) -> Rc<Self> {
        let pool = Pool::new(endpoint.address.clone(), common);
        Rc::new(Self { endpoint, pool })
    }

    /// Its configuration.
    pub fn endpoint(&self) -> &model::Endpoint {
        &self.endpoint
    }

    /// Its HTTP/1 connections.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }
}
