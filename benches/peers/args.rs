//! The command line of the measurement and of its parts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::work::Front;

/// Measures heirloom, nginx, HAProxy, Envoy and a bare relay side by side, whichever are present.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench peers --")]
pub(crate) struct Args {
    /// Only these peers, by name: floor, nginx, haproxy, envoy, heirloom, heirloom-supervised.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Only these works, by name; `--list` shows them.
    #[arg(long, value_delimiter = ',')]
    pub(crate) work: Vec<String>,
    /// One short round: for a look, not for a claim.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds of every timed work [default: 7, quick 1]; memory takes at most 3.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) rounds: Option<u32>,
    /// Length of a timed window in seconds [default: 2, quick 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) seconds: Option<u32>,
    /// How many connections the large memory works open; fewer where descriptors are short.
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) connections: u32,
    /// The peer on core 1, load and origin on core 0, for all alike.
    #[arg(long)]
    pub(crate) pin: bool,
    /// Write the tables into the marked part of the README.
    #[arg(long)]
    pub(crate) write: bool,
    /// The README that `--write` changes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md"), hide_default_value = true)]
    pub(crate) readme: PathBuf,
    /// Say which peers are present and which works there are, and measure nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    /// What this process is, when it is not the controller.
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

impl Args {
    /// Rounds of a timed work.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 7 })
    }

    /// Length of a timed window.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 2 }).into())
    }
}

/// The parts that run in processes of their own.
#[derive(Subcommand, Debug)]
pub(crate) enum Part {
    /// The server behind the peers; says its port on standard output.
    #[command(hide = true)]
    Origin {
        /// It speaks HTTP/2.
        #[arg(long)]
        http2: bool,
        /// 0 for any.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// The relay that parses nothing.
    #[command(hide = true)]
    Floor {
        /// Where it listens.
        #[arg(long)]
        port: u16,
        /// Where it connects, once per client.
        #[arg(long)]
        origin: SocketAddr,
    },
    /// The clients; says its outcome on standard output.
    #[command(hide = true)]
    Load(LoadArgs),
    /// Ties itself to the life of its parent, then becomes the command.
    #[command(hide = true)]
    Child {
        /// The core it stays on.
        #[arg(long)]
        core: Option<u32>,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

/// What the clients do.
#[derive(ClapArgs, Debug)]
pub(crate) struct LoadArgs {
    /// How the connections are used.
    #[arg(long)]
    pub(crate) mode: Mode,
    /// The peer.
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// The origin itself, asked how many requests it holds.
    #[arg(long)]
    pub(crate) origin: SocketAddr,
    /// How many at a time.
    #[arg(long)]
    pub(crate) connections: usize,
    /// Requests in flight on each of them; more than one needs HTTP/2.
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: usize,
    /// What is spoken with the peer.
    #[arg(long, default_value = "http1")]
    pub(crate) front: Front,
    /// The certificate that TLS peers must show, PEM.
    #[arg(long)]
    pub(crate) certificate: Option<PathBuf>,
    /// Not counted, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub(crate) warm: u64,
    /// Counted, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub(crate) window: u64,
    /// The peer's processes, whose CPU clocks are read at both ends of the window.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<i32>,
}

/// How the load uses its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Closed loop, every connection kept.
    Keep,
    /// Closed loop, a new connection for every request; the client closes.
    Fresh,
    /// Every connection has done one request and waits.
    Idle,
    /// Every connection has a request in flight that the origin holds back.
    Busy,
}
