//! A worker: a thread with its own runtime, its own connections and its own copy of every live object.
//!
//! [`spawn`] starts one, [`Starting::built`] waits until it has built everything; [`Worker`] is the main thread's handle. Orders travel through a bounded mailbox and are
//! acknowledged, so that "stopped accepting" means just that. A worker never ends while it holds connections, unless it is told to close them.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::assemble::{Assembly, Parts};
use crate::drain::motion::Mover;
use crate::drain::{Drain, Phase, Plan};
use crate::handoff::motion::Staging;
use crate::upstream::Counts;

/// Orders that may wait for a worker that is busy.
const MAILBOX: usize = 16;

/// The main thread's handle on a worker.
pub(super) struct Worker {
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// Gives a worker connections from another epoch.
pub(super) struct Stager {
    orders: mpsc::Sender<Order>,
}

impl Stager {
    /// Gives it some; it answers through them. One that has ended answers nothing.
    pub(super) async fn stage(&self, staging: Staging) {
        let _ = self.orders.send(Order::Stage(staging)).await;
    }
}

enum Order {
    Accept(oneshot::Sender<Result<(), String>>),
    StopAccepting(oneshot::Sender<()>),
    Drain(Phase, oneshot::Sender<()>),
    Move(Mover, Plan, oneshot::Sender<usize>),
    Stage(Staging),
    LetGo(oneshot::Sender<()>),
    Count(oneshot::Sender<usize>),
    Hosts(oneshot::Sender<Vec<Counts>>),
    Emptied(oneshot::Sender<()>),
    Stop,
}

/// A worker's thread has ended: a bug, and the process must go so that the supervisor can replace it.
#[derive(Debug, thiserror::Error)]
#[error("a worker has ended")]
pub(super) struct Gone;

/// A worker that is being built: all of them at the same time, for a takeover waits for the last.
pub(super) struct Starting {
    index: usize,
    worker: Worker,
    outcome: std::sync::mpsc::Receiver<Result<(), String>>,
}

impl Starting {
    /// Waits until it is built.
    ///
    /// # Errors
    /// Its runtime cannot be made, or a live object cannot be built from the model.
    pub(super) fn built(self) -> Result<Worker, String> {
        match self.outcome.recv() {
            Ok(Ok(())) => Ok(self.worker),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("worker {} ended while it was being built", self.index)),
        }
    }
}

/// Starts a worker.
///
/// # Errors
/// The thread cannot be made.
pub(super) fn spawn(parts: Arc<Parts>, index: usize) -> Result<Starting, String> {
    let (orders, mailbox) = mpsc::channel(MAILBOX);
    let (built, outcome) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("wrk:worker_{index}"))
        .spawn(move || run(parts, index, mailbox, &built))
        .map_err(|error| format!("worker {index} cannot be started: {error}"))?;
    Ok(Starting { index, worker: Worker { orders, thread: Some(thread) }, outcome })
}

fn run(
    parts: Arc<Parts>,
    index: usize,
    mailbox: mpsc::Receiver<Order>,
    built: &std::sync::mpsc::SyncSender<Result<(), String>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = built.send(Err(format!("worker {index} has no runtime: {error}")));
            return;
        }
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let drain = Drain::new();
        let assembly = Assembly::build(&parts, index, &drain);
        // What it holds of the listening sockets is held by the assembly alone from here on.
        drop(parts);
        match assembly {
            Ok(assembly) => {
                let _ = built.send(Ok(()));
                follow(assembly, &drain, mailbox).await;
            }
            Err(reason) => {
                let _ = built.send(Err(reason));
            }
        }
    });
}

/// Carries out orders until [`Order::Stop`], or until the main thread is gone.
async fn follow(assembly: Assembly, drain: &Drain, mut mailbox: mpsc::Receiver<Order>) {
    // An acknowledgement that nobody waits for any more is no fault: the main thread bounds its waits.
    while let Some(order) = mailbox.recv().await {
        match order {
            Order::Accept(done) => {
                let _ = done.send(assembly.accept());
            }
            Order::StopAccepting(done) => {
                assembly.stop_accepting();
                let _ = done.send(());
            }
            Order::Drain(phase, done) => {
                assembly.drain(phase);
                let _ = done.send(());
            }
            Order::Move(mover, plan, done) => {
                let _ = done.send(assembly.move_to(mover, plan));
            }
            Order::Stage(staging) => assembly.stage(staging),
            Order::LetGo(done) => {
                assembly.let_go();
                let _ = done.send(());
            }
            Order::Count(answer) => {
                let _ = answer.send(drain.active());
            }
            Order::Hosts(answer) => {
                let _ = answer.send(assembly.hosts());
            }
            Order::Emptied(done) => {
                let drain = drain.clone();
                tokio::task::spawn_local(async move {
                    drain.emptied().await;
                    let _ = done.send(());
                });
            }
            Order::Stop => break,
        }
    }
}

impl Worker {
    /// Accepts on every listener; done when this returns.
    ///
    /// # Errors
    /// A listening socket cannot be watched (no descriptors left).
    pub(super) async fn accept(&self) -> Result<(), String> {
        self.order(Order::Accept)
            .await
            .map_err(|gone| gone.to_string())?
            .map_err(|reason| format!("cannot accept: {reason}"))
    }

    /// Accepts nothing more; done when this returns.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) async fn stop_accepting(&self) -> Result<(), Gone> {
        self.order(Order::StopAccepting).await
    }

    /// Moves the drain to a phase.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) async fn drain(&self, phase: Phase) -> Result<(), Gone> {
        self.order(|done| Order::Drain(phase, done)).await
    }

    /// Begins a drain in which connections move, and says how many never do.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) async fn move_to(&self, mover: Mover, plan: Plan) -> Result<usize, Gone> {
        self.order(|done| Order::Move(mover, plan, done)).await
    }

    /// Closes its listening sockets: it will not accept again.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) async fn let_go(&self) -> Result<(), Gone> {
        self.order(Order::LetGo).await
    }

    /// Where it gets connections from another epoch.
    pub(super) fn stager(&self) -> Stager {
        Stager { orders: self.orders.clone() }
    }

    /// Downstream connections it holds.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) async fn connections(&self) -> Result<usize, Gone> {
        self.order(Order::Count).await
    }

    /// What it has seen of every host, in the order of the configuration.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) async fn hosts(&self) -> Result<Vec<Counts>, Gone> {
        self.order(Order::Hosts).await
    }

    /// Waits until it holds no connection.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) async fn emptied(&self) -> Result<(), Gone> {
        self.order(Order::Emptied).await
    }

    /// Tells it to end, and waits for the thread.
    pub(super) async fn stop(mut self) {
        let _ = self.orders.send(Order::Stop).await;
        if let Some(thread) = self.thread.take() {
            // The thread ends at its next look into the mailbox; joining blocks the main thread for that long only.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Gone> {
        let (answer, outcome) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| Gone)?;
        outcome.await.map_err(|_| Gone)
    }
}
