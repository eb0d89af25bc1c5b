//! Network filters that this library does not know: one that looks at connections and passes them on, and one that keeps them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;

use heirloom::config::extension::{Given, NetworkFilterKind, Reader};
use heirloom::config::model::Settings;
use heirloom::config::{Faults, LoadOptions, Loaded, Source, load};
use heirloom::l4::extension::{Building, Extension, kinds};
use heirloom::l4::{Connection, Filter, Next, Work};
use heirloom::net::Stream;
use tokio::io::AsyncReadExt;

use crate::support::proxy::Proxy;

static FILTERS: [Extension; 2] = [
    Extension {
        kind: NetworkFilterKind { type_name: "acme.Gate", settings: gate, is_terminal: false },
        build: |with| Ok(Rc::new(Gate(settings::<GateSettings>(with)?))),
    },
    Extension {
        kind: NetworkFilterKind { type_name: "acme.Echo", settings: echo, is_terminal: true },
        build: |with| Ok(Rc::new(Echo(settings::<EchoSettings>(with)?))),
    },
];

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct GateSettings {
    open: bool,
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct EchoSettings {
    greeting: String,
}

fn gate(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    reader.deserialize::<GateSettings>(given).map(Settings::new)
}

fn echo(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let echo: EchoSettings = reader.deserialize(given)?;
    if echo.greeting.is_empty() {
        reader.at("greeting", |reader| reader.error("must not be empty"));
    }
    Some(Settings::new(echo))
}

fn settings<T: Clone + 'static>(with: &Building<'_>) -> Result<T, String> {
    with.model.settings.get().cloned().ok_or_else(|| "has no settings of its own".to_owned())
}

/// Closes every connection, or passes it on.
struct Gate(GateSettings);

impl Filter for Gate {
    fn call(self: Rc<Self>, connection: Connection, next: Next) -> Work {
        if self.0.open { next.run(connection) } else { Box::pin(std::future::ready(())) }
    }
}

/// Greets, then says what it hears.
struct Echo(EchoSettings);

impl Filter for Echo {
    fn call(self: Rc<Self>, mut connection: Connection, _next: Next) -> Work {
        Box::pin(async move {
            let mut buffer = [0; 256];
            let mut told = tell(&connection.stream, self.0.greeting.as_bytes()).await;
            while told.is_ok() {
                match connection.stream.read(&mut buffer).await {
                    Ok(count) if count > 0 => told = tell(&connection.stream, &buffer[..count]).await,
                    _ => return,
                }
            }
        })
    }
}

async fn tell(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn filter(name: &str, value: &str) -> String {
    format!(
        "{{ name: {name}, typed_config: {{ '@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/acme.{name}, value: {value} }} }}"
    )
}

fn read(filters: &[String]) -> Result<Loaded, Faults> {
    let text = format!(
        "static_resources:\n  listeners:\n  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}\n    filter_chains:\n    - filters: [{}]\n",
        filters.join(", ")
    );
    let options = LoadOptions { network_filters: kinds(&FILTERS), ..LoadOptions::default() };
    load(&Source { path: None, yaml: Some(text) }, &options)
}

fn proxy(open: bool) -> Proxy {
    let filters = [filter("Gate", &format!("{{ open: {open} }}")), filter("Echo", "{ greeting: 'hello ' }")];
    let loaded = read(&filters).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    Proxy::start_over((*loaded.bootstrap.listeners[0]).clone(), &FILTERS)
}

#[test]
fn a_chain_of_foreign_filters_has_the_connection() {
    let proxy = proxy(true);
    let mut client = std::net::TcpStream::connect(proxy.address).unwrap();
    client.write_all(b"world").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello world");
}

#[test]
fn a_filter_before_the_last_decides() {
    let proxy = proxy(false);
    let mut client = std::net::TcpStream::connect(proxy.address).unwrap();
    assert_eq!(client.read(&mut [0; 16]).unwrap_or(0), 0);
}

#[test]
fn faults_have_their_place() {
    let (gate, echo) = (filter("Gate", "{ open: true }"), filter("Echo", "{ greeting: hello }"));
    for (filters, expected) in [
        (vec![filter("Echo", "{ greeting: '' }")], "filters[0].typed_config.value.greeting: must not be empty"),
        (vec![filter("Echo", "{ greting: hello }")], "filters[0].typed_config.value: unknown field `greting`"),
        (vec![echo.clone(), echo.clone()], "filters[0]: a terminal filter must be the last of its filter chain"),
        (vec![gate.clone()], "filters[0]: is not a terminal filter, and must not be the last of its filter chain"),
        (vec![filter("Other", "{}")], "unknown type `type.googleapis.com/acme.Other`"),
    ] {
        let faults = read(&filters).unwrap_err().to_string();
        assert!(faults.contains(expected), "{faults}");
    }
}
