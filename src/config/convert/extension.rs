//! Extensions: from the type in an `Any` to the function that parses it.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use envoy_types::pb::envoy::extensions::path;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::google::protobuf::Any;

use super::context::Context;
use super::retry::HostPredicate;
use super::{
    access_log, early_headers, http_connection_manager, http_options, ip_detection, listener_filter, route, stats,
    tcp_proxy, tls, upstream_http,
};
use crate::config::model::{
    DownstreamTls, HeaderOps, HttpFilter, IpDetection, LogFormat, LogSink, NetworkFilter, PreserveCase,
    RedirectPredicate, StatsSink, UriTemplate,
};
use crate::config::proto::Decode;
use crate::config::schema::Message;
use crate::config::typed_struct;

/// One extension: the type of its settings, and how they are read.
pub(super) struct Extension<T> {
    pub(super) type_name: &'static str,
    pub(super) parse: fn(&mut Context, &[u8]) -> Option<T>,
}

/// Extensions that can stand in the same place.
pub(super) struct Category<T: 'static> {
    /// For messages: `network filter`.
    pub(super) what: &'static str,
    pub(super) extensions: &'static [Extension<T>],
}

/// Network filters.
pub(super) const NETWORK_FILTERS: Category<NetworkFilter> = Category {
    what: "network filter",
    extensions: &[
        Extension {
            type_name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            parse: |cx, bytes| {
                let manager = decode(cx, bytes).and_then(|message| http_connection_manager::convert(cx, message))?;
                Some(NetworkFilter::HttpConnectionManager(Arc::new(manager)))
            },
        },
        Extension {
            type_name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            parse: |cx, bytes| {
                let proxy = decode(cx, bytes).and_then(|message| tcp_proxy::convert(cx, message))?;
                Some(NetworkFilter::TcpProxy(Arc::new(proxy)))
            },
        },
    ],
};

/// Listener filters.
pub(super) const LISTENER_FILTERS: Category<listener_filter::Named> = Category {
    what: "listener filter",
    extensions: &[Extension {
        type_name: "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        parse: |cx, bytes| decode(cx, bytes).map(|message| listener_filter::tls_inspector(cx, message)),
    }],
};

/// HTTP filters.
pub(super) const HTTP_FILTERS: Category<HttpFilter> = Category {
    what: "HTTP filter",
    extensions: &[Extension {
        type_name: "envoy.extensions.filters.http.router.v3.Router",
        parse: |cx, bytes| {
            let router = decode(cx, bytes)?;
            Some(HttpFilter::Router(http_options::router(cx, router)))
        },
    }],
};

/// How a client's address is found out.
/// How names of headers are written.
pub(super) const CASE_FORMATTERS: Category<PreserveCase> = Category {
    what: "header formatter",
    extensions: &[Extension {
        type_name: "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        parse: |cx, bytes| decode(cx, bytes).map(http_options::preserve_case),
    }],
};

pub(super) const IP_DETECTIONS: Category<IpDetection> = Category {
    what: "original IP detection",
    extensions: &[
        Extension {
            type_name: "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
            parse: |cx, bytes| decode(cx, bytes).and_then(|message| ip_detection::custom_header(cx, message)),
        },
        Extension {
            type_name: "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig",
            parse: |cx, bytes| decode(cx, bytes).map(|message| ip_detection::forwarded(cx, message)),
        },
    ],
};

/// What is done to a request's headers first of all.
pub(super) const EARLY_HEADERS: Category<Vec<HeaderOps>> = Category {
    what: "early header mutation",
    extensions: &[Extension {
        type_name: "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        parse: |cx, bytes| decode(cx, bytes).map(|message| early_headers::mutations(cx, message)),
    }],
};

/// How request ids are made: random UUIDs. What they would say about traces has nothing to say as long as nothing is traced.
pub(super) const REQUEST_IDS: Category<()> = Category {
    what: "request id",
    extensions: &[Extension {
        type_name: "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        parse: |cx, bytes| {
            let UuidRequestIdConfig { pack_trace_reason: _, use_request_id_for_trace_sampling: _ } = decode(cx, bytes)?;
            Some(())
        },
    }],
};

/// Statistics sinks.
pub(super) const STATS_SINKS: Category<StatsSink> = Category {
    what: "statistics sink",
    extensions: &[Extension {
        type_name: "envoy.config.metrics.v3.StatsdSink",
        parse: |cx, bytes| decode(cx, bytes).and_then(|message| stats::statsd(cx, message)),
    }],
};

/// Transport sockets towards clients; `None` adds nothing.
pub(super) const CLIENT_SOCKETS: Category<Option<Arc<DownstreamTls>>> = Category {
    what: "transport socket",
    extensions: &[
        Extension { type_name: "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", parse: |_, _| Some(None) },
        Extension {
            type_name: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            parse: |cx, bytes| {
                let tls = decode(cx, bytes).and_then(|message| tls::downstream(cx, message))?;
                Some(Some(Arc::new(tls)))
            },
        },
    ],
};

/// An access logger: where its lines go and what they say.
pub(super) struct Logger {
    pub(super) sink: LogSink,
    pub(super) format: LogFormat,
}

/// Access loggers.
pub(super) const ACCESS_LOGGERS: Category<Logger> = Category {
    what: "access logger",
    extensions: &[
        Extension {
            type_name: "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            parse: |cx, bytes| decode(cx, bytes).and_then(|message| access_log::file(cx, message)),
        },
        Extension {
            type_name: "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            parse: |cx, bytes| decode(cx, bytes).and_then(|message| access_log::stdout(cx, message)),
        },
        Extension {
            type_name: "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
            parse: |cx, bytes| decode(cx, bytes).and_then(|message| access_log::stderr(cx, message)),
        },
    ],
};

/// Transport sockets towards hosts: the one that adds nothing.
pub(super) const TRANSPORT_SOCKETS: Category<()> = Category {
    what: "transport socket",
    extensions: &[Extension {
        type_name: "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        parse: |_, _| Some(()),
    }],
};

/// What keeps a retry from a host.
pub(super) const RETRY_HOST_PREDICATES: Category<HostPredicate> = Category {
    what: "retry host predicate",
    extensions: &[Extension {
        type_name: "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        parse: |_, _| Some(HostPredicate::PreviousHosts),
    }],
};

/// What a redirect must meet to be followed.
pub(super) const REDIRECT_PREDICATES: Category<RedirectPredicate> = Category {
    what: "internal redirect predicate",
    extensions: &[
        Extension {
            type_name: "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig",
            parse: |cx, bytes| {
                let AllowListedRoutesConfig { allowed_route_names } = decode(cx, bytes)?;
                Some(RedirectPredicate::AllowListed(allowed_route_names))
            },
        },
        Extension {
            type_name: "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig",
            parse: |_, _| Some(RedirectPredicate::PreviousRoutes),
        },
        Extension {
            type_name: "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig",
            parse: |_, _| Some(RedirectPredicate::SafeCrossScheme),
        },
    ],
};

/// Protocol options of a cluster.
pub(super) const PROTOCOL_OPTIONS: Category<upstream_http::Options> = Category {
    what: "protocol options type",
    extensions: &[Extension {
        type_name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        parse: |cx, bytes| decode(cx, bytes).map(|message| upstream_http::convert(cx, message)),
    }],
};

/// What matches paths.
pub(super) const PATH_MATCHERS: Category<UriTemplate> = Category {
    what: "path matcher",
    extensions: &[Extension {
        type_name: "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
        parse: |cx, bytes| {
            let path::r#match::uri_template::v3::UriTemplateMatchConfig { path_template } = decode(cx, bytes)?;
            route::template(cx, &path_template)
        },
    }],
};

/// What rewrites paths: the template that is filled.
pub(super) const PATH_REWRITERS: Category<String> = Category {
    what: "path rewriter",
    extensions: &[Extension {
        type_name: "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
        parse: |cx, bytes| {
            let path::rewrite::uri_template::v3::UriTemplateRewriteConfig { path_template_rewrite } =
                decode(cx, bytes)?;
            Some(path_template_rewrite)
        },
    }],
};

impl<T> Category<T> {
    /// Is there an extension for this type?
    pub(super) fn knows(&self, any: Option<&Any>) -> bool {
        self.find(&any.map(type_of).unwrap_or_default()).is_some()
    }

    /// Parses `any`. Its type decides; the name is the operator's own.
    pub(super) fn parse(&self, cx: &mut Context, name: &str, any: Option<&Any>) -> Option<T> {
        self.parse_among(cx, name, any, Vec::new())
    }

    /// The same where there are more, which others parse: their names are for the message.
    pub(super) fn parse_among(&self, cx: &mut Context, name: &str, any: Option<&Any>, others: Vec<&str>) -> Option<T> {
        let type_name = any.map(type_of).unwrap_or_default();
        let (Some(any), Some(extension)) = (any, self.find(&type_name)) else {
            self.unknown(cx, name, &type_name, others);
            return None;
        };
        if !Message::by_url(&any.type_url).is_some_and(Message::is_typed_struct) {
            return (extension.parse)(cx, &any.value);
        }
        let message = Message::by_name(extension.type_name)?;
        // Its faults were found when the whole message was checked.
        let (bytes, _) = typed_struct::resolve(&any.value, message, cx.unknown_fields);
        cx.at("value", |cx| (extension.parse)(cx, &bytes))
    }

    fn find(&self, type_name: &str) -> Option<&'static Extension<T>> {
        self.extensions.iter().find(|extension| extension.type_name == type_name)
    }

    fn unknown(&self, cx: &mut Context, name: &str, type_name: &str, mut known: Vec<&str>) {
        known.extend(self.extensions.iter().map(|extension| extension.type_name));
        let known = known.join(", ");
        let what = self.what;
        cx.error(match type_name {
            "" => format!("'{name}' has no \"@type\" that would say which {what} it is; known: {known}"),
            type_name => format!("the {what} {type_name} is not supported yet; known: {known}"),
        });
    }
}

/// The name of the type in an `Any`, or of what a `TypedStruct` in it stands for.
pub(super) fn type_of(any: &Any) -> String {
    let is_typed_struct = Message::by_url(&any.type_url).is_some_and(Message::is_typed_struct);
    let inner = String::from_utf8_lossy(crate::config::wire::last_bytes(&any.value, 1));
    let url: &str = if is_typed_struct { &inner } else { &any.type_url };
    url.rsplit('/').next().unwrap_or_default().to_owned()
}

pub(super) fn decode<M: Decode>(cx: &mut Context, bytes: &[u8]) -> Option<M> {
    M::decode_wire(bytes).map_err(|error| cx.error(format!("cannot be decoded: {error}"))).ok()
}
