//! The table of endpoints, and how a request finds its own.

use http::{Method, StatusCode};

use super::query::Query;
use super::reply::Reply;
use super::{Action, Admin, clusters, info, memory, runtime, stats};

/// An endpoint.
struct Endpoint {
    path: &'static str,
    /// Changes something: needs POST.
    post: bool,
    help: &'static str,
    /// What stands in the query, and what it means.
    parameters: &'static [(&'static str, &'static str)],
    answer: fn(&Admin, &Query) -> Reply,
}

const fn read(path: &'static str, help: &'static str, answer: fn(&Admin, &Query) -> Reply) -> Endpoint {
    Endpoint { path, post: false, help, parameters: &[], answer }
}

const fn write(path: &'static str, help: &'static str, answer: fn(&Admin, &Query) -> Reply) -> Endpoint {
    Endpoint { path, post: true, help, parameters: &[], answer }
}

/// Sorted by path, as the list is shown.
const ENDPOINTS: &[Endpoint] = &[
    read("/", "Admin home page", |_, _| home()),
    Endpoint {
        parameters: &[
            ("filter", "Regular expression for filtering clusters by name"),
            ("format", "Format to use; One of (text, json)"),
        ],
        ..read("/clusters", "upstream cluster status", clusters::answer)
    },
    read("/config_dump", "dump current configuration (if there is a dump of it)", info::config_dump),
    Endpoint {
        parameters: &[
            ("graceful", "Enter a graceful drain period prior to closing listeners"),
            ("skip_exit", "Drain the connections but never stop the listeners"),
            ("inboundonly", "Drain the listeners of traffic direction INBOUND only"),
        ],
        ..write("/drain_listeners", "drain listeners", |admin, query| {
            act(
                admin,
                Action::DrainListeners {
                    inbound_only: query.has("inboundonly"),
                    graceful: query.has("graceful"),
                    skip_exit: query.has("skip_exit"),
                },
            )
        })
    },
    write("/healthcheck/fail", "cause the server to fail health checks", |admin, _| {
        act(admin, Action::FailHealthChecks)
    }),
    write("/healthcheck/ok", "cause the server to pass health checks", |admin, _| act(admin, Action::PassHealthChecks)),
    read("/help", "print out list of admin commands", |_, _| Reply::text(help())),
    read("/hot_restart_version", "print the hot restart compatibility version", |admin, _| {
        Reply::text(admin.view.info().hot_restart_version + "\n")
    }),
    Endpoint {
        parameters: &[("format", "File format to use; One of (text, json)")],
        ..read("/listeners", "print listener info", info::listeners)
    },
    read("/memory", "print current allocation/heap usage", |_, _| Reply::json(&memory::Memory::read())),
    write("/quitquitquit", "exit the server", |admin, _| act(admin, Action::Quit)),
    read("/ready", "print server state, return 200 if LIVE, otherwise return 503", info::ready),
    write("/reopen_logs", "reopen access logs", |admin, _| act(admin, Action::ReopenLogs)),
    write("/reset_counters", "reset all counters to zero", |admin, _| {
        admin.reporter.borrow().reset_counters();
        Reply::ok()
    }),
    read("/runtime", "print runtime values", runtime::show),
    write(
        "/runtime_modify",
        "Adds or modifies runtime values as passed in query parameters. To delete a previously added key, use an empty string as the value. \
         Note that deletion only applies to overrides added via this endpoint; values loaded from disk can be modified via override but not \
         deleted. E.g. ?key1=value1&key2=value2...",
        runtime::modify,
    ),
    read("/server_info", "print server version/status information", |admin, _| Reply::json(&admin.view.info())),
    Endpoint { parameters: stats::PARAMETERS, ..read("/stats", "print server stats", stats::answer) },
    Endpoint {
        parameters: stats::PROMETHEUS_PARAMETERS,
        ..read("/stats/prometheus", "print server stats in prometheus format", stats::prometheus)
    },
];

/// Answers a request.
pub(super) fn answer(admin: &Admin, method: &Method, path: &str, query: &str) -> Reply {
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == path) else {
        return not_found();
    };
    if endpoint.post && *method != Method::POST {
        let body = format!("Method {method} not allowed, POST required.");
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, body);
    }
    (endpoint.answer)(admin, &Query::parse(query))
}

/// Whether parameters may come in a form instead of the query: its content type says so, and there is no query.
pub(super) fn takes_form(path: &str, query: Option<&str>, content_type: Option<&[u8]>) -> bool {
    path == "/runtime_modify"
        && query.is_none_or(str::is_empty)
        && content_type.is_some_and(|kind| kind.starts_with(b"application/x-www-form-urlencoded"))
}

fn act(admin: &Admin, action: Action) -> Reply {
    tracing::info!(?action, "asked by the admin endpoint");
    admin.view.act(action);
    Reply::ok()
}

/// The list of what there is.
pub(super) fn not_found() -> Reply {
    Reply::error(StatusCode::NOT_FOUND, format!("invalid path. {}", help()))
}

fn help() -> String {
    let mut text = "admin commands are:\n".to_owned();
    for endpoint in ENDPOINTS {
        let post = if endpoint.post { " (POST)" } else { "" };
        text += &format!("  {}{post}: {}\n", endpoint.path, endpoint.help);
        for (name, meaning) in endpoint.parameters {
            text += &format!("      {name}: {meaning}\n");
        }
    }
    text
}

/// A page with a link to what is read and a button for what changes something.
fn home() -> Reply {
    let mut rows = String::new();
    for endpoint in ENDPOINTS {
        let (path, help) = (endpoint.path, endpoint.help);
        let name = path.strip_prefix('/').filter(|name| !name.is_empty()).unwrap_or("home");
        let control = if endpoint.post {
            format!("<form action='{name}' method='post'><button>{name}</button></form>")
        } else {
            format!("<a href='{}'>{name}</a>", path.strip_prefix('/').unwrap_or(path))
        };
        rows += &format!("<tr><td>{control}</td><td>{help}</td></tr>\n");
    }
    Reply::html(format!(
        "<!DOCTYPE html>\n<html lang='en'>\n<head><title>Heirloom Admin</title></head>\n<body>\n<table>\n{rows}</table>\n</body>\n\
         </html>\n"
    ))
}
