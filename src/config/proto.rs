//! Wire bytes to prost messages.
//!
//! prost's decoder is generic; naming the types here has it compiled in this module, which hardly ever changes, and not anew
//! with every change to a module that decodes.

use envoy_types::pb::envoy::config as api;
use envoy_types::pb::envoy::extensions::access_loggers;
use envoy_types::pb::envoy::extensions::filters;
use envoy_types::pb::envoy::extensions::http;
use envoy_types::pb::envoy::extensions::internal_redirect;
use envoy_types::pb::envoy::extensions::matching;
use envoy_types::pb::envoy::extensions::path;
use envoy_types::pb::envoy::extensions::request_id;
use envoy_types::pb::envoy::extensions::transport_sockets;
use envoy_types::pb::envoy::extensions::upstreams;
use envoy_types::pb::envoy::r#type::matcher;

/// A message that configurations hold, at the top or in an `Any`.
pub(super) trait Decode: Sized {
    /// Decodes; unknown fields are dropped.
    ///
    /// # Errors
    /// The decoder's text, for bytes that are no such message.
    fn decode_wire(bytes: &[u8]) -> Result<Self, String>;
}

macro_rules! decode {
    ($($message:ty),* $(,)?) => {
        $(impl Decode for $message {
            #[inline(never)]
            fn decode_wire(bytes: &[u8]) -> Result<Self, String> {
                <$message as prost::Message>::decode(bytes).map_err(|error| error.to_string())
            }
        })*
    };
}

decode!(
    api::bootstrap::v3::Bootstrap,
    api::metrics::v3::StatsdSink,
    api::route::v3::FilterConfig,
    api::route::v3::Route,
    api::route::v3::RouteList,
    access_loggers::file::v3::FileAccessLog,
    access_loggers::stream::v3::StderrAccessLog,
    access_loggers::stream::v3::StdoutAccessLog,
    filters::http::router::v3::Router,
    filters::listener::tls_inspector::v3::TlsInspector,
    filters::network::http_connection_manager::v3::HttpConnectionManager,
    filters::network::tcp_proxy::v3::TcpProxy,
    http::early_header_mutation::header_mutation::v3::HeaderMutation,
    http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
    http::original_ip_detection::custom_header::v3::CustomHeaderConfig,
    http::original_ip_detection::xff::v3::XffConfig,
    internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig,
    matcher::v3::HttpRequestHeaderMatchInput,
    matcher::v3::HttpRequestQueryParamMatchInput,
    matcher::v3::HttpResponseHeaderMatchInput,
    matching::common_inputs::environment_variable::v3::Config,
    matching::common_inputs::network::v3::DynamicMetadataInput,
    matching::common_inputs::network::v3::FilterStateInput,
    matching::input_matchers::consistent_hashing::v3::ConsistentHashing,
    matching::input_matchers::ip::v3::Ip,
    matching::input_matchers::metadata::v3::Metadata,
    matching::input_matchers::runtime_fraction::v3::RuntimeFraction,
    path::r#match::uri_template::v3::UriTemplateMatchConfig,
    path::rewrite::uri_template::v3::UriTemplateRewriteConfig,
    request_id::uuid::v3::UuidRequestIdConfig,
    transport_sockets::tls::v3::DownstreamTlsContext,
    upstreams::http::v3::HttpProtocolOptions,
);
