//! Receives statsd datagrams and adds them up.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bootstrap::FLUSH_INTERVAL;
use super::supervised::{PATIENCE, eventually};

/// What has come so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    /// Sums of the deltas (`|c`).
    pub(crate) counters: BTreeMap<String, i64>,
    /// The last value of each gauge (`|g`).
    pub(crate) gauges: BTreeMap<String, f64>,
    /// How many samples of each timer came (`|ms`, sampling rate taken into account).
    pub(crate) timers: BTreeMap<String, u64>,
    /// Lines that are not statsd.
    pub(crate) malformed: Vec<String>,
    /// When the last datagram came.
    last: Option<Instant>,
}

/// A UDP socket and the thread that reads it.
pub(crate) struct Statsd {
    /// Where to send.
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Received>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Statsd {
    /// Starts one on a port of the kernel's choice.
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        let address = socket.local_addr().expect("a bound socket has an address");
        let received = Arc::<Mutex<Received>>::default();
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let (received, stop) = (received.clone(), stop.clone());
            move || {
                let mut buffer = vec![0; 65536];
                while !stop.load(Ordering::Relaxed) {
                    let Ok(length) = socket.recv(&mut buffer) else { continue };
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    let mut received = received.lock().expect("nobody panics with it");
                    received.last = Some(Instant::now());
                    text.lines().filter(|line| !line.is_empty()).for_each(|line| note(&mut received, line));
                }
            }
        });
        Self { address, received, stop, thread: Some(thread) }
    }

    /// A copy of what has come.
    pub(crate) fn received(&self) -> Received {
        self.received.lock().expect("nobody panics with it").clone()
    }

    /// The sum of one counter's deltas.
    pub(crate) fn counter(&self, name: &str) -> i64 {
        self.received.lock().expect("nobody panics with it").counters.get(name).copied().unwrap_or(0)
    }
}

impl Statsd {
    /// Waits for the end of the next flush: something comes, and then nothing for a while.
    pub(crate) fn after_a_flush(&self) {
        let begun = Instant::now();
        eventually(PATIENCE, "a flush comes and ends", || {
            let last = self.received().last.filter(|last| *last > begun);
            last.is_some_and(|last| last.elapsed() > FLUSH_INTERVAL / 5)
        });
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking(), "the statsd receiver panicked");
        }
    }
}

fn note(received: &mut Received, line: &str) {
    let parsed = line.rsplit_once(':').and_then(|(name, rest)| {
        let mut parts = rest.split('|');
        Some((name.to_owned(), parts.next()?.parse::<f64>().ok()?, parts.next()?, parts.next()))
    });
    match parsed {
        Some((name, value, "c", _)) => *received.counters.entry(name).or_default() += value as i64,
        Some((name, value, "g", _)) => {
            received.gauges.insert(name, value);
        }
        Some((name, _, "ms" | "h", rate)) => {
            let rate = rate.and_then(|rate| rate.strip_prefix('@')?.parse::<f64>().ok()).unwrap_or(1.0);
            *received.timers.entry(name).or_default() += (1.0 / rate).round() as u64;
        }
        _ => received.malformed.push(line.to_owned()),
    }
}
