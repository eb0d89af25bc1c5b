//! All workers together: an order to the group is an order to each, at the same time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::assemble::Parts;
use super::worker::{self, Gone, Stager, Starting, Worker};
use crate::drain::motion::Mover;
use crate::drain::{Phase, Plan};
use crate::upstream::Counts;

/// How long a worker may take to carry out an order. A worker that is slower hangs, and the process has to be replaced.
const ORDER_TIME: Duration = Duration::from_secs(5);

/// The workers of this epoch.
#[derive(Clone)]
pub(super) struct Group {
    workers: Rc<Vec<Worker>>,
}

/// Why the group could not carry out an order.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A worker's thread has ended.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// A worker does not answer.
    #[error("a worker did not answer within {ORDER_TIME:?}")]
    Hangs,
    /// A worker cannot do it.
    #[error("{0}")]
    Refused(String),
}

impl Group {
    /// Starts `count` workers and waits until all are built.
    ///
    /// # Errors
    /// The first worker that cannot be built, with its reason.
    pub(super) fn spawn(parts: &Arc<Parts>, count: usize) -> Result<Self, String> {
        let starting = (0..count).map(|index| worker::spawn(parts.clone(), index)).collect::<Result<Vec<_>, _>>()?;
        let workers = starting.into_iter().map(Starting::built).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { workers: Rc::new(workers) })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Every worker accepts when this returns.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn accept(&self) -> Result<(), Error> {
        for worker in self.workers.iter() {
            bounded(async { worker.accept().await.map_err(Error::Refused) }).await?;
        }
        Ok(())
    }

    /// No worker accepts when this returns.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn stop_accepting(&self) -> Result<(), Error> {
        for worker in self.workers.iter() {
            bounded(async { Ok(worker.stop_accepting().await?) }).await?;
        }
        Ok(())
    }

    /// Moves every worker's drain to a phase.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn drain(&self, phase: Phase) -> Result<(), Error> {
        for worker in self.workers.iter() {
            bounded(async { Ok(worker.drain(phase).await?) }).await?;
        }
        Ok(())
    }

    /// Every worker has closed its listening sockets when this returns: none accepts again.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn let_go(&self) -> Result<(), Error> {
        for worker in self.workers.iter() {
            bounded(async { Ok(worker.let_go().await?) }).await?;
        }
        Ok(())
    }

    /// Begins a drain in which connections offer themselves to `mover`, and says how many never do.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn move_to(&self, mover: Mover, plan: Plan) -> Result<u64, Error> {
        let mut unmovable = 0;
        for worker in self.workers.iter() {
            let mover = mover.clone();
            unmovable += bounded(async { Ok(worker.move_to(mover, plan).await?) }).await? as u64;
        }
        Ok(unmovable)
    }

    /// Where connections from another epoch go, a place per worker.
    pub(super) fn stagers(&self) -> Vec<Stager> {
        self.workers.iter().map(Worker::stager).collect()
    }

    /// Downstream connections over all workers.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn connections(&self) -> Result<u64, Error> {
        let mut sum = 0;
        for worker in self.workers.iter() {
            sum += bounded(async { Ok(worker.connections().await?) }).await? as u64;
        }
        Ok(sum)
    }

    /// What all workers have seen of every host, in the order of the configuration.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn hosts(&self) -> Result<Vec<Counts>, Error> {
        let mut sum: Vec<Counts> = Vec::new();
        for worker in self.workers.iter() {
            let part = bounded(async { Ok(worker.hosts().await?) }).await?;
            sum.resize(sum.len().max(part.len()), Counts::default());
            sum.iter().zip(&part).for_each(|(sum, part)| sum.add(part));
        }
        Ok(sum)
    }

    /// Waits until no worker holds a connection; for as long as that takes.
    ///
    /// # Errors
    /// A worker has ended.
    pub(super) async fn emptied(&self) -> Result<(), Gone> {
        for worker in self.workers.iter() {
            worker.emptied().await?;
        }
        Ok(())
    }

    /// Ends every worker and waits for its thread.
    pub(super) async fn stop(self) {
        let Ok(workers) = Rc::try_unwrap(self.workers) else { return };
        for worker in workers {
            worker.stop().await;
        }
    }
}

async fn bounded<T>(order: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ORDER_TIME, order).await.unwrap_or(Err(Error::Hangs))
}
