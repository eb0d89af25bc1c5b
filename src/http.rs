//! HTTP: the connection manager, its filters, and the router that forwards to clusters.
//!
//! `listener` builds a [`Manager`] per filter chain and worker, and gives it connections. One task per connection does everything:
//! it reads a request, runs it through the filter chain, pulls the response out of the upstream connection and writes it, with no
//! channel and no second task between. Modules in the order a request meets them: [`manager`] (connection), `stream` (one
//! request), [`headers`], [`filter`], [`forward`] (upstream exchange), [`local_reply`]; [`failure`] is what can go wrong, `outbox` and
//! `pump` move bodies, `tee` copies one, `call` is a request of our own, `flight` is a request on its way to another epoch.
//!
//! A reload builds new managers; connections stay with the one that accepted them. On drain see [`manager`].

pub mod body;
mod call;
mod downstream;
mod draws;
pub mod failure;
pub mod filter;
pub mod filter_state;
pub mod filters;
mod flight;
pub mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod headers;
mod http2;
pub mod local_reply;
pub mod manager;
mod outbox;
mod presence;
mod proxy_status;
mod pump;
pub mod record;
mod redirects;
mod route_stats;
pub mod stream;
mod surroundings;
mod tee;
pub mod upgrade;

pub use manager::Manager;
