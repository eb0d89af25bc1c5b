//! Load: many clients on one thread, an origin for them to reach, and a receiver of statsd datagrams.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::LocalSet;

use super::clients::{Connection, Failure, Request, Tally, block_on};
use super::supervised::eventually;

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Habit {
    /// A connection for every request.
    PerRequest,
    /// GET after GET on one connection.
    KeepAlive,
    /// POST after POST on one connection, the body in two writes.
    TwoWritePost,
    /// POSTs whose body takes one second, on one connection.
    SlowUpload,
    /// A GET every few hundred milliseconds on one connection.
    Sparse,
}

impl Habit {
    fn request(self) -> Request<'static> {
        match self {
            Self::PerRequest => Request::Get { path: "/small", close: true },
            Self::KeepAlive | Self::Sparse => Request::Get { path: "/small", close: false },
            Self::TwoWritePost => {
                Request::Post { path: "/upload", pieces: 2, piece: 700, pause: Duration::from_millis(3) }
            }
            Self::SlowUpload => {
                Request::Post { path: "/upload", pieces: 11, piece: 2000, pause: Duration::from_millis(100) }
            }
        }
    }

    /// Between two requests of one client: a test machine shares two cores with everything under test.
    fn rest(self, client: u64) -> Duration {
        match self {
            Self::Sparse => Duration::from_millis(400 + client * 37 % 800),
            _ => Duration::from_millis(2),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Go,
    Pause,
    Stop,
}

struct Shared {
    answered: AtomicU64,
    failed: AtomicU64,
    in_flight: AtomicU64,
    /// Microseconds.
    worst: AtomicU64,
    /// Answered requests by how long they took: four bins for each doubling of the microseconds.
    bins: [AtomicU64; BINS],
}

const BINS: usize = 128;

impl Shared {
    fn took(&self, time: Duration) {
        let micros = (time.as_micros() as u64).max(4);
        self.worst.fetch_max(micros, Ordering::Relaxed);
        let doublings = u64::from(micros.ilog2());
        let quarter = (micros >> (doublings - 2)) & 3;
        if let Some(bin) = self.bins.get((doublings * 4 + quarter) as usize) {
            bin.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A running load.
pub(crate) struct Load {
    order: watch::Sender<Order>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Report>>,
}

/// What all clients saw.
pub(crate) struct Report {
    by_habit: BTreeMap<Habit, Tally>,
}

impl Report {
    /// All habits together.
    pub(crate) fn total(&self) -> Tally {
        self.by_habit.values().fold(Tally::default(), |mut sum, tally| {
            sum.merge(tally);
            sum
        })
    }

    /// One habit's clients.
    pub(crate) fn of(&self, habit: Habit) -> Tally {
        self.by_habit.get(&habit).cloned().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (habit, tally) in &self.by_habit {
            writeln!(f, "  {:<14}{tally}", format!("{habit:?}"))?;
        }
        Ok(())
    }
}

impl Load {
    /// Starts `count` clients of each habit against one address.
    pub(crate) fn start(target: SocketAddr, clients: &[(Habit, u64)]) -> Self {
        Self::paced(target, clients, Duration::ZERO)
    }

    /// The same, with clients that rest at least so long between two requests.
    pub(crate) fn paced(target: SocketAddr, clients: &[(Habit, u64)], pace: Duration) -> Self {
        let (order, orders) = watch::channel(Order::Go);
        let zero = AtomicU64::default;
        let shared = Arc::new(Shared {
            answered: zero(),
            failed: zero(),
            in_flight: zero(),
            worst: zero(),
            bins: std::array::from_fn(|_| zero()),
        });
        let clients = clients.to_vec();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let report = Rc::new(RefCell::new(BTreeMap::new()));
                let local = LocalSet::new();
                for (habit, count) in clients {
                    report.borrow_mut().entry(habit).or_insert_with(Tally::default);
                    for number in 0..count {
                        let rest = habit.rest(number).max(pace);
                        let (orders, shared, report) = (orders.clone(), shared.clone(), report.clone());
                        local.spawn_local(live(habit, rest, target, orders, shared, report));
                    }
                }
                block_on(local);
                Report { by_habit: report.take() }
            }
        });
        Self { order, shared, thread: Some(thread) }
    }

    /// Requests answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Requests failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// The longest request since this was last asked.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.shared.worst.swap(0, Ordering::Relaxed))
    }

    /// How long requests took since this was last asked, in microseconds: these parts of them took no longer.
    pub(crate) fn quantiles<const N: usize>(&self, parts: [f64; N]) -> [f64; N] {
        let bins: Vec<u64> = self.shared.bins.iter().map(|bin| bin.swap(0, Ordering::Relaxed)).collect();
        let total: u64 = bins.iter().sum();
        parts.map(|part| {
            let goal = (total as f64 * part).ceil() as u64;
            let mut seen = 0;
            let reached = |count: &u64| {
                seen += count;
                seen >= goal && seen > 0
            };
            let bin = bins.iter().position(reached).unwrap_or(0);
            // The upper end of the bin.
            ((bin % 4 + 5) as f64 / 4.0) * 2_f64.powi((bin / 4) as i32)
        })
    }

    /// Waits until `more` further requests have been answered.
    pub(crate) fn progress(&self, more: u64) {
        let goal = self.answered() + more;
        eventually(Duration::from_secs(30), "the load goes on", || self.answered() >= goal);
    }

    /// Lets every client finish what it has on the wire and hold still.
    pub(crate) fn pause(&self) {
        self.order.send_replace(Order::Pause);
        eventually(Duration::from_secs(40), "no request on the wire", || {
            self.shared.in_flight.load(Ordering::Acquire) == 0
        });
    }

    /// Goes on after [`Self::pause`].
    pub(crate) fn resume(&self) {
        self.order.send_replace(Order::Go);
    }

    /// Lets every client finish, and says what they saw.
    pub(crate) fn stop(mut self) -> Report {
        self.order.send_replace(Order::Stop);
        self.thread.take().expect("stopped once").join().expect("the clients do not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.order.send_replace(Order::Stop);
    }
}

async fn live(
    habit: Habit,
    resting: Duration,
    target: SocketAddr,
    mut orders: watch::Receiver<Order>,
    shared: Arc<Shared>,
    report: Rc<RefCell<BTreeMap<Habit, Tally>>>,
) {
    let mut connection: Option<Connection> = None;
    let mut tally = Tally::default();
    let mut rest = resting;
    loop {
        // The pause is part of the client's habit; an order ends it early.
        let _ = tokio::time::timeout(rest, orders.wait_for(|order| *order == Order::Stop)).await;
        rest = resting;
        shared.in_flight.fetch_add(1, Ordering::AcqRel);
        let order = *orders.borrow();
        match order {
            Order::Go => {
                let request = habit.request();
                let (answered, took) = once(&mut connection, target, &request, &mut tally).await;
                let counter = if answered { &shared.answered } else { &shared.failed };
                counter.fetch_add(1, Ordering::Relaxed);
                shared.took(took);
            }
            Order::Pause => rest = Duration::from_millis(1),
            Order::Stop => {}
        }
        shared.in_flight.fetch_sub(1, Ordering::AcqRel);
        match order {
            Order::Go => {}
            Order::Pause => {
                if orders.wait_for(|order| *order != Order::Pause).await.is_err() {
                    break;
                }
            }
            Order::Stop => break,
        }
    }
    report.borrow_mut().entry(habit).or_default().merge(&tally);
}

/// One request: whether it was answered, and how long that took.
async fn once(
    slot: &mut Option<Connection>,
    target: SocketAddr,
    request: &Request<'_>,
    tally: &mut Tally,
) -> (bool, Duration) {
    let begun = Instant::now();
    if slot.as_ref().is_some_and(Connection::closed_by_peer) {
        tally.closed_idle += 1;
        tally.lost.extend(slot.take().map(|connection| connection.port()));
    }
    let reused = slot.is_some();
    let outcome = async {
        if slot.is_none() {
            *slot = Some(Connection::open(target).await?);
            tally.connections += 1;
        }
        let connection = slot.as_mut().expect("opened above");
        connection.exchange(request).await
    }
    .await;
    let took = begun.elapsed().saturating_sub(request.own_pauses());
    match outcome {
        Ok(answer) => {
            tally.answered(took);
            let last = matches!(request, Request::Get { close: true, .. });
            if !answer.keep_alive {
                tally.closed_by_answer += u64::from(!last);
                *slot = None;
            } else if last {
                *slot = None;
            }
            (true, took)
        }
        Err(failure) => {
            let port = slot.take().map_or(0, |connection| connection.port());
            // A bad answer is an answer; what follows it on the connection is not waited for.
            if !matches!(failure, Failure::BadStatus(_)) {
                tally.lost.push(port);
            }
            tally.failed(failure, reused, took);
            (false, took)
        }
    }
}
