//! The parts are those of the restart suite.
#![allow(dead_code, unused_imports, reason = "the soak needs some of each")]

#[path = "../../tests/support/bins.rs"]
pub(crate) mod bins;
#[path = "../../tests/support/bootstrap.rs"]
pub(crate) mod bootstrap;
#[path = "../../tests/support/clients.rs"]
pub(crate) mod clients;
#[path = "../../tests/support/load.rs"]
pub(crate) mod load;
#[path = "../../tests/support/message.rs"]
pub(crate) mod message;
#[path = "../../tests/support/operated.rs"]
pub(crate) mod operated;
#[path = "../../tests/support/process.rs"]
pub(crate) mod process;
#[path = "../../tests/support/scrape.rs"]
pub(crate) mod scrape;
#[path = "../../tests/support/streams.rs"]
pub(crate) mod streams;
#[path = "../../tests/support/supervised.rs"]
pub(crate) mod supervised;
#[path = "../../tests/support/tally.rs"]
pub(crate) mod tally;
#[path = "../../tests/support/upstream.rs"]
pub(crate) mod upstream;
