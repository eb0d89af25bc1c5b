//! The steps of an epoch's life: accepting, stopping, draining, back again, and the end.

use std::time::Instant;

use tracing::{debug, info};

use super::{CLOSING_TIME, Ending, Epoch, Failure, Phase, Plan, Strategy, hopeless};
use crate::drain;
use crate::program;

impl Epoch {
    /// Nobody takes over from an epoch that runs alone: what is there ends at its next boundary, and by the time of Envoy's parent shutdown.
    pub(super) async fn drain_alone(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.shutdown_time;
        self.drain(Ending { deadline, drain_time: self.limits.drain_time, strategy: Strategy::Immediate }).await
    }

    /// Takes connections from now on.
    pub(super) async fn accept(&mut self) -> Result<(), Failure> {
        self.group.accept().await.map_err(hopeless)?;
        self.report.accept().map_err(Failure::System)?;
        self.set_phase(Phase::Accepting);
        info!("accepting connections");
        // What the start alone needed of the program is not needed again.
        if let Err(error) = program::release() {
            debug!("the pages of the program stay in memory: {error}");
        }
        Ok(())
    }

    /// Takes none from now on, and keeps what it has.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.group.stop_accepting().await.map_err(hopeless)?;
        self.report.stop();
        self.set_phase(Phase::Stopped);
        info!("not accepting any more");
        Ok(())
    }

    /// Has what it has end well or move, by a deadline.
    pub(super) async fn drain(&mut self, ending: Ending) -> Result<(), Failure> {
        self.stop().await?;
        let plan = Plan { started: Instant::now(), time: ending.drain_time, strategy: ending.strategy };
        if self.recall_until.is_none() {
            self.let_go().await?;
        }
        self.report.runtime().say_what_ends();
        self.leave_connections(plan).await?;
        self.set_phase(Phase::Draining(ending));
        info!("draining for at most {:?}", ending.deadline.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Serves again, out of whatever it was told before. A drain ends as if it had not begun: what has moved is elsewhere, all else is served on.
    pub(super) async fn resume(&mut self) -> Result<(), Failure> {
        if let Phase::Draining(_) = self.phase {
            info!("the drain is called off");
            self.recall_until = None;
            self.group.drain(drain::Phase::Serving).await.map_err(hopeless)?;
        }
        self.accept().await
    }

    /// Closes what is left: idle connections that have nothing to say, then the busy ones.
    pub(super) async fn close(&mut self) -> Result<(), Failure> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        self.stop().await?;
        self.recall_until = None;
        self.let_go().await?;
        self.closed = self.group.connections().await.map_err(hopeless)?;
        self.group.drain(drain::Phase::Over).await.map_err(hopeless)?;
        self.limits.deadline = Instant::now() + CLOSING_TIME;
        self.set_phase(Phase::Closing);
        Ok(())
    }

    /// It will not accept again: what the next epoch does not listen at shall close, and what it does is the supervisor's. An epoch that runs
    /// alone has its sockets to itself.
    pub(super) async fn let_go(&mut self) -> Result<(), Failure> {
        match &mut self.orphan {
            Some(orphan) => {
                orphan.let_go();
                self.group.let_go().await.map_err(hopeless)
            }
            None => Ok(()),
        }
    }
}
