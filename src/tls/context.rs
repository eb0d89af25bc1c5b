//! What the handshakes of a filter chain are done with.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};

use super::certificates::{Resolver, hosts};
use super::clients::Verifier;
use super::tickets::{Ticketer, Tickets};
use crate::config::model::{ClientValidation, DownstreamTls, TicketPolicy};
use crate::net::tls::Hello;

/// Sessions of clients without tickets that are remembered, in this process alone.
const REMEMBERED: usize = 1024;

/// rustls' configuration, and the choice that rustls does not make as Envoy does.
#[derive(Debug)]
pub struct Context {
    config: Arc<ServerConfig>,
    /// The same without protocols: for a client that speaks none of them. rustls would refuse it, Envoy goes on without.
    without_alpn: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
}

impl Context {
    /// From a validated configuration.
    ///
    /// # Errors
    /// rustls' word, for what the validation could not see.
    pub fn build(model: &DownstreamTls, tickets: &Arc<Tickets>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(provider_for(model));
        let versions: Vec<_> = [(model.tls13, &rustls::version::TLS13), (model.tls12, &rustls::version::TLS12)]
            .into_iter()
            .filter_map(|(spoken, version)| spoken.then_some(version))
            .collect();
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions)?;
        let builder = match &model.clients {
            None => builder.with_no_client_auth(),
            Some(wishes) => builder.with_client_cert_verifier(Arc::new(Verifier::build(wishes, &provider)?)),
        };
        let resolver = Arc::new(Resolver::new(&model.certificates, &provider, model.require_sni, model.full_scan)?);
        let mut without_alpn = builder.with_cert_resolver(resolver.clone());
        without_alpn.ignore_client_order = !model.client_order;
        without_alpn.session_storage = if model.stateful_resumption {
            ServerSessionMemoryCache::new(REMEMBERED)
        } else {
            Arc::new(NoServerSessionStorage {})
        };
        match &model.tickets {
            TicketPolicy::Off if !model.stateful_resumption => without_alpn.send_tls13_tickets = 0,
            TicketPolicy::Off => {}
            TicketPolicy::Shared => {
                let ticketer = Ticketer::shared(tickets.clone(), model.session_timeout, identity(model));
                without_alpn.ticketer = Arc::new(ticketer);
            }
            TicketPolicy::Configured(keys) => {
                let ticketer = Ticketer::configured(keys, model.session_timeout, identity(model));
                without_alpn.ticketer = Arc::new(ticketer);
            }
        }
        let mut config = without_alpn.clone();
        config.alpn_protocols = model.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
        Ok(Self { config: Arc::new(config), without_alpn: Arc::new(without_alpn), resolver })
    }

    /// The URIs of the certificate that a client of this name gets.
    pub(super) fn uris(&self, server_name: Option<&str>) -> Vec<String> {
        self.resolver.uris(server_name)
    }

    /// What to answer a client with.
    pub(super) fn config_for(&self, hello: &Hello) -> &Arc<ServerConfig> {
        let both = hello.protocols.iter().any(|protocol| self.config.alpn_protocols.contains(protocol));
        if both { &self.config } else { &self.without_alpn }
    }
}

/// What is spoken, in order of preference.
fn provider_for(model: &DownstreamTls) -> CryptoProvider {
    let mut provider = provider::default_provider();
    let rank = |suite: &SupportedCipherSuite| match suite.suite() {
        // The cheapest first: all of them are strong enough.
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(0),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(1),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(2),
        _ if model.cipher_suites.is_empty() => Some(3),
        suite => model.cipher_suites.iter().position(|wanted| *wanted == suite).map(|at| 3 + at),
    };
    provider.cipher_suites.retain(|suite| rank(suite).is_some());
    provider.cipher_suites.sort_by_key(rank);
    if !model.curves.is_empty() {
        let known = std::mem::take(&mut provider.kx_groups);
        let find = |wanted: &rustls::NamedGroup| known.iter().find(|group| group.name() == *wanted).copied();
        provider.kx_groups = model.curves.iter().filter_map(find).collect();
    }
    provider
}

/// Who would have been let in: a session is resumed only where the same rules hold. New certificates for the same names do not end it.
fn identity(model: &DownstreamTls) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut put = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    for certificate in &model.certificates {
        hosts(certificate).iter().for_each(|host| put(host.as_bytes()));
        put(b"");
    }
    if let Some(ClientValidation {
        required,
        trusted,
        revoked,
        leaf_crl_only,
        hashes,
        public_keys,
        names,
        hide_authorities: _,
    }) = &model.clients
    {
        put(&[u8::from(*required), u8::from(*leaf_crl_only)]);
        trusted.iter().for_each(|certificate| put(certificate));
        put(b"");
        revoked.iter().for_each(|list| put(list));
        put(b"");
        hashes.iter().for_each(|hash| put(hash));
        put(b"");
        public_keys.iter().for_each(|key| put(key));
        put(format!("{names:?}").as_bytes());
    }
    let mut identity = [0; 32];
    identity.copy_from_slice(context.finish().as_ref());
    identity
}
