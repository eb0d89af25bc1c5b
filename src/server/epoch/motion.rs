//! An epoch's part in connections that move: it gives its own to its heir when it drains, and takes those of the epoch before.

use std::os::fd::OwnedFd;
use std::time::Instant;

use heirloom_supervisor::wire::Channel;
use tokio::task::{JoinHandle, spawn_local};
use tracing::warn;

use super::{Ending, Epoch, Failure, Phase, hopeless};
use crate::drain::motion::Mover;
use crate::drain::{self, Plan};
use crate::handoff::link::Link;
use crate::handoff::motion;

/// Where connections go.
#[derive(Default)]
pub(super) struct Legacy {
    /// The way to the heir, for the drain that follows.
    heir: Option<Channel>,
    /// What gives connections away, until it ends.
    giving: Option<JoinHandle<Option<Link>>>,
    /// The way they went, when it is of no more use: its end would say that this process has ended.
    way: Option<Link>,
}

impl Legacy {
    /// The supervisor has named an heir.
    pub(super) fn bequeath(&mut self, descriptors: Vec<OwnedFd>) {
        self.heir = way(descriptors);
    }

    /// The end of the motion, when there is one. Cancel safe.
    pub(super) async fn given(&mut self) -> Option<Link> {
        match &mut self.giving {
            Some(task) => task.await.unwrap_or_default(),
            None => std::future::pending().await,
        }
    }
}

impl Epoch {
    /// Has every connection move if there is an heir, or else end.
    ///
    /// # Errors
    /// A worker hangs or has ended.
    pub(super) async fn leave_connections(&mut self, plan: Plan) -> Result<(), Failure> {
        let Some(heir) = self.legacy.heir.take() else {
            return self.group.drain(drain::Phase::Draining(plan)).await.map_err(hopeless);
        };
        let (mover, offers) = Mover::new(motion::BATCH);
        let unmovable = self.group.move_to(mover, plan).await.map_err(hopeless)?;
        let stats = self.report.motion();
        stats.refused_unmovable.add(unmovable);
        self.legacy.giving = Some(spawn_local(async move { motion::give(heir, offers, &stats).await }));
        Ok(())
    }

    /// Nothing moves any more: what is left drains.
    ///
    /// # Errors
    /// A worker hangs or has ended.
    pub(super) async fn given(&mut self, way: Option<Link>) -> Result<(), Failure> {
        self.legacy.giving = None;
        self.legacy.way = way;
        let Phase::Draining(Ending { drain_time: time, strategy, .. }) = self.phase else { return Ok(()) };
        let plan = Plan { started: Instant::now(), time, strategy };
        self.group.drain(drain::Phase::Draining(plan)).await.map_err(hopeless)
    }

    /// Takes connections from an epoch that drains, beside everything else.
    pub(super) fn inherit(&self, from: u64, descriptors: Vec<OwnedFd>) {
        let Some(way) = way(descriptors) else { return };
        let stagers = self.group.stagers();
        spawn_local(async move {
            let stage = async |worker: usize, staging| {
                if let Some(stager) = stagers.get(worker) {
                    stager.stage(staging).await;
                }
            };
            motion::take(way, from, stagers.len(), stage).await;
        });
    }
}

/// The way to another epoch that came with a message.
fn way(descriptors: Vec<OwnedFd>) -> Option<Channel> {
    let channel = descriptors.into_iter().next().map(Channel::from_socket);
    channel.and_then(|channel| channel.inspect_err(|error| warn!("no way to the other epoch: {error}")).ok())
}
