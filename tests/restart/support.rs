//! The parts of the suite; they stand beside those of the in-process scenarios.

#[path = "../support/alone.rs"]
pub(crate) mod alone;
#[path = "../support/bins.rs"]
pub(crate) mod bins;
#[path = "../support/bootstrap.rs"]
pub(crate) mod bootstrap;
#[path = "../support/clients.rs"]
pub(crate) mod clients;
#[path = "../support/http2.rs"]
#[allow(dead_code, unreachable_pub, reason = "parts of the in-process scenarios, of which some are used")]
pub(crate) mod http2;
#[path = "../support/load.rs"]
pub(crate) mod load;
#[path = "../support/message.rs"]
pub(crate) mod message;
#[path = "../support/operated.rs"]
pub(crate) mod operated;
#[path = "../support/process.rs"]
pub(crate) mod process;
#[path = "../support/scrape.rs"]
pub(crate) mod scrape;
#[path = "../support/secured.rs"]
pub(crate) mod secured;
#[path = "../support/statsd.rs"]
pub(crate) mod statsd;
#[path = "../support/streams.rs"]
pub(crate) mod streams;
#[path = "../support/supervised.rs"]
pub(crate) mod supervised;
#[path = "../support/tally.rs"]
pub(crate) mod tally;
#[path = "../support/tunnels.rs"]
#[allow(dead_code, unreachable_pub, reason = "parts of the in-process scenarios, of which some are used")]
pub(crate) mod tunnels;
#[path = "../support/upstream.rs"]
pub(crate) mod upstream;

use supervised::PATIENCE;
