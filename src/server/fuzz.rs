//! Connections that another epoch has written down, thawed and set going with nobody at their other ends.

use std::cell::OnceCell;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::assemble::{Assembly, Parts};
use crate::config::{LoadOptions, Source, load};
use crate::drain::Drain;
use crate::drain::motion::{Frozen, Kind};
use crate::stats::Store;
use crate::{access_log, http};

const CONFIGURATION: &str = include_str!("../../tests/fuzz/frozen.yaml");
/// How often the tasks of a connection may run before the next is thawed.
const TURNS: usize = 20;

struct Bench {
    runtime: Runtime,
    local: LocalSet,
    assembly: Assembly,
}

impl Bench {
    fn build() -> Result<Self, String> {
        let source = Source { yaml: Some(CONFIGURATION.to_owned()), ..Source::default() };
        let loaded = load(&source, &LoadOptions::default()).map_err(|faults| faults.to_string())?;
        let files = access_log::Files::new(access_log::Settings::default());
        let sockets = loaded.bootstrap.listeners.iter().map(|_| Vec::new()).collect();
        let parts = Parts::new(Arc::new(loaded.bootstrap), sockets, Store::detached(), files, http::filters::ALL, &[]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (runtime, local) = (runtime.map_err(|error| error.to_string())?, LocalSet::new());
        let drain = Drain::new();
        let assembly = local.block_on(&runtime, async { Assembly::build(&parts, 0, &drain) })?;
        Ok(Self { runtime, local, assembly })
    }

    /// Kind and further facts, how long what the client has sent is, that, and the record.
    fn thaw(&self, data: &[u8]) {
        let Some(([facts, sent], data)) = data.split_first_chunk::<2>() else { return };
        let Some((sent, record)) = data.split_at_checked(usize::from(*sent)) else { return };
        let kind = Kind::ALL[usize::from(facts & 3)];
        let count = 1 + usize::from(facts >> 2 & 1);
        let pairs: Vec<(UnixStream, UnixStream)> = (0..count).filter_map(|_| UnixStream::pair().ok()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        if let Some(mut client) = theirs.first() {
            let _ = client.write_all(sent);
        }
        let frozen = Frozen {
            kind,
            listener: if kind == Kind::Tcp { "tcp".into() } else { "http".into() },
            peer: "127.0.0.1:5".parse().ok().filter(|_| facts & 8 == 0),
            local: "127.0.0.1:10000".parse().ok(),
            age: Duration::from_millis(u64::from(*facts)),
            sockets: ours.into_iter().map(OwnedFd::from).collect(),
            record: record.to_vec(),
        };
        self.local.block_on(&self.runtime, async {
            if let Ok(thawed) = self.assembly.thaw(frozen)
                && facts & 16 == 0
            {
                thawed.begin();
            }
            for turn in 0..TURNS {
                if turn == TURNS / 2 {
                    for socket in &theirs {
                        let _ = socket.shutdown(std::net::Shutdown::Write);
                    }
                }
                tokio::task::yield_now().await;
            }
            drop(theirs);
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
    }
}

thread_local! {
    // Never dropped: at the end of a thread a runtime finds no thread any more.
    static BENCH: OnceCell<&'static Bench> = const { OnceCell::new() };
}

/// See [`Bench::thaw`].
pub(crate) fn frozen(data: &[u8]) {
    BENCH.with(|bench| {
        if bench.get().is_none() {
            match Bench::build() {
                Ok(built) => drop(bench.set(Box::leak(Box::new(built)))),
                Err(reason) => assert!(reason.is_empty(), "{reason}"),
            }
        }
        if let Some(bench) = bench.get() {
            bench.thaw(data);
        }
    });
}
