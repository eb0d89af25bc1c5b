//! TLS as it is configured: what a filter chain's handshakes are done with, who may resume a session, and what is known afterwards.
//!
//! [`Contexts`] belongs to the process: a [`Context`] is built once per configured `DownstreamTlsContext` and shared by all workers, so that a session begun on one
//! is resumed on any. Each worker makes an [`Acceptor`] of it, with statistics of its own. The traffic itself is [`crate::net::tls`]'s.
//!
//! On a reload the next epoch reads certificates anew and makes contexts of its own; connections keep what they were accepted with. The keys of session
//! tickets ([`Tickets`]) are the same in all epochs of a lineage, so a session outlives every takeover. A drain changes nothing here.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{CertificateError, HandshakeKind};

use crate::config::model::DownstreamTls;
use crate::net::Stream;
use crate::net::tls::{Hello, TlsError, TlsStream};
use crate::stats::Scope;
use crate::stats::names::{SslStats, SslUse};

mod certificates;
mod clients;
mod context;
mod secured;
mod subject;
pub mod tickets;

pub use context::Context;
pub use secured::{Peer, Secured};
pub use tickets::Tickets;

/// The contexts of a process. Clones are the same.
#[derive(Clone, Default)]
pub struct Contexts {
    shared: Arc<Shared>,
}

/// A context, and the settings that it was made from.
type Built = (Arc<DownstreamTls>, Arc<Context>);

#[derive(Default)]
struct Shared {
    tickets: Arc<Tickets>,
    /// By the address of the model, which is kept so that no other takes it.
    built: Mutex<HashMap<usize, Built>>,
}

impl Contexts {
    /// The keys of session tickets.
    pub fn tickets(&self) -> &Tickets {
        &self.shared.tickets
    }

    /// The context of a configuration, built on first use.
    ///
    /// # Errors
    /// rustls' word, for what the validation could not see.
    pub fn get(&self, model: &Arc<DownstreamTls>) -> Result<Arc<Context>, rustls::Error> {
        let mut built = self.shared.built.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Arc::as_ptr(model).addr();
        if let Some((_, context)) = built.get(&key) {
            return Ok(context.clone());
        }
        let context = Arc::new(Context::build(model, &self.shared.tickets)?);
        built.insert(key, (model.clone(), context.clone()));
        Ok(context)
    }
}

/// A worker's way of taking TLS connections of one filter chain.
pub struct Acceptor {
    context: Arc<Context>,
    stats: SslStats,
    uses: SslUse,
}

impl Acceptor {
    /// `scope` is that of the listener.
    pub fn new(context: Arc<Context>, scope: &Scope) -> Self {
        Self { context, stats: SslStats::new(scope), uses: SslUse::new(scope) }
    }

    /// Does the handshake with a client whose hello has been looked at, and counts how it went. The caller bounds the time.
    ///
    /// # Errors
    /// The client, or its socket: the connection is of no more use.
    pub async fn accept(&self, stream: Stream, hello: Hello) -> Result<(Stream, Rc<Secured>), TlsError> {
        let config = self.context.config_for(&hello);
        match TlsStream::accept(stream, config.clone()).await {
            Ok(stream) => {
                let secured = Secured::of(&stream, hello.server_name, &self.context);
                self.established(&stream, &secured);
                Ok((Stream::Tls(Box::new(stream)), Rc::new(secured)))
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn established(&self, stream: &TlsStream, secured: &Secured) {
        self.stats.handshake.inc();
        if stream.session().handshake_kind() == Some(HandshakeKind::Resumed) {
            self.stats.session_reused.inc();
        }
        if secured.peer.is_none() {
            self.stats.no_certificate.inc();
        }
        self.uses.version(secured.version);
        self.uses.cipher(secured.cipher);
        if let Some(group) = secured.group {
            self.uses.curve(group);
        }
    }

    fn failed(&self, error: &TlsError) {
        let stats = &self.stats;
        match error {
            // Who leaves in the middle has made no mistake of TLS.
            TlsError::Socket(error) if error.kind() != io::ErrorKind::InvalidData => {}
            TlsError::Protocol(rustls::Error::NoCertificatesPresented) => stats.fail_verify_no_cert.inc(),
            TlsError::Protocol(rustls::Error::InvalidCertificate(why)) => match why {
                CertificateError::NotValidForName => stats.fail_verify_san.inc(),
                CertificateError::ApplicationVerificationFailure => stats.fail_verify_cert_hash.inc(),
                _ => stats.fail_verify_error.inc(),
            },
            _ => stats.connection_error.inc(),
        }
    }
}
