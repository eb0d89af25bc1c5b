//! What others want of an epoch: the supervisor's orders, signals, an operator at the admin endpoint.
//!
//! The loop hands them over one at a time; what they come to stands in [`super::Epoch`]'s own steps.

use std::time::{Duration, Instant};

use heirloom_supervisor::wire::message::{Accepting, Drain, Heir, Pong, Resumed, Stopped, Terminate};
use heirloom_supervisor::wire::{self, Message};
use tracing::{info, warn};

use super::super::Failure;
use super::super::phase::{Ending, Phase};
use super::super::signals::Request;
use super::{Epoch, hopeless, send, strategy};
use crate::admin::Action;
use crate::drain::{self, Plan, Strategy};
use crate::handoff::link::Link;

impl Epoch {
    /// Carries out the supervisor's order and says that it is done.
    pub(super) async fn obey(&mut self, link: &Link, packet: wire::Packet) -> Result<(), Failure> {
        let wire::Packet { message: order, descriptors } = packet;
        let answer = match order {
            Message::Bequeath(_) => {
                self.legacy.bequeath(descriptors);
                None
            }
            Message::Heir(Heir { from_epoch }) => {
                self.inherit(from_epoch, descriptors);
                None
            }
            Message::Accept(_) => {
                self.accept().await?;
                Some(Message::Accepting(Accepting {}))
            }
            Message::StopAccepting(_) => {
                self.stop().await?;
                Some(Message::Stopped(Stopped {}))
            }
            // What is being closed is past saving; the supervisor does not wait for ever.
            Message::Resume(_) if self.phase == Phase::Closing => {
                warn!("the supervisor wants this epoch to resume, but it is closing what is left");
                None
            }
            Message::Resume(_) => {
                self.resume().await?;
                Some(Message::Resumed(Resumed {}))
            }
            Message::Drain(Drain { deadline_ms, drain_time_ms, recall_ms, .. }) => {
                let recall = Duration::from_millis(recall_ms);
                self.recall_until = (!recall.is_zero()).then(|| Instant::now().checked_add(recall)).flatten();
                let Message::Drain(drain) = &order else { return Ok(()) };
                let ending = Ending {
                    deadline: Instant::now() + Duration::from_millis(deadline_ms),
                    drain_time: Duration::from_millis(drain_time_ms),
                    strategy: strategy(drain.strategy()),
                };
                self.drain(ending).await?;
                None
            }
            Message::Terminate(Terminate { grace_ms }) => {
                let grace = Duration::from_millis(grace_ms);
                self.drain(Ending {
                    deadline: Instant::now() + grace,
                    drain_time: grace,
                    strategy: Strategy::Immediate,
                })
                .await?;
                None
            }
            Message::TicketKeys(keys) => {
                self.take_ticket_keys(Some(keys));
                None
            }
            Message::ReopenLogs(_) => {
                self.reopen_logs();
                None
            }
            Message::Ping(ping) => Some(Message::Pong(Pong { token: ping.token })),
            Message::NotUnderstood(unknown) => {
                warn!("the supervisor does not know message {}", unknown.tag);
                None
            }
            other => {
                warn!("the supervisor sent {} in phase {:?}, ignored", other.name(), self.phase);
                None
            }
        };
        if let Some(answer) = answer {
            send(link, &answer).await;
        }
        Ok(())
    }

    fn reopen_logs(&self) {
        (self.reopen_logs)();
        self.access_logs.reopen();
    }

    /// What a signal asks for.
    pub(super) async fn signalled(&mut self, request: Request, supervised: bool) -> Result<(), Failure> {
        match request {
            Request::HangUp => info!("caught and eating SIGHUP"),
            Request::ReopenLogs => {
                info!("opening log files again");
                self.reopen_logs();
            }
            // The supervisor drains through its channel; a signal from elsewhere means now, and a new epoch follows.
            Request::Terminate if supervised => self.close().await?,
            Request::Terminate => match self.phase {
                Phase::Draining(_) | Phase::Closing => {
                    info!("asked to end again: closing what is left");
                    self.close().await?;
                }
                _ => self.drain_alone().await?,
            },
        }
        Ok(())
    }

    /// What an operator asks for at the admin endpoint.
    pub(super) async fn asked(&mut self, action: Action, supervised: bool) -> Result<(), Failure> {
        let plan = |time, strategy| drain::Phase::Draining(Plan { started: Instant::now(), time, strategy });
        match action {
            Action::Quit if supervised => self.close().await,
            Action::Quit => self.drain_alone().await,
            Action::ReopenLogs => {
                self.reopen_logs();
                Ok(())
            }
            // A takeover's own drain goes before an operator's wish about health.
            Action::FailHealthChecks if self.phase == Phase::Accepting => {
                self.set_phase(Phase::Failing);
                self.group.drain(plan(Duration::ZERO, Strategy::Unhealthy)).await.map_err(hopeless)
            }
            Action::PassHealthChecks if self.phase == Phase::Failing => {
                self.set_phase(Phase::Accepting);
                self.group.drain(drain::Phase::Serving).await.map_err(hopeless)
            }
            Action::FailHealthChecks | Action::PassHealthChecks => Ok(()),
            // A listener's direction is no part of the model: none is INBOUND, so none is meant.
            Action::DrainListeners { inbound_only: true, .. } => {
                warn!("/drain_listeners?inboundonly: no listener has a direction, none is drained");
                Ok(())
            }
            Action::DrainListeners { graceful: false, .. } => self.group.stop_accepting().await.map_err(hopeless),
            Action::DrainListeners { graceful: true, skip_exit, .. } => {
                let drain_time = self.limits.drain_time;
                self.group.drain(plan(drain_time, self.limits.strategy)).await.map_err(hopeless)?;
                self.stop_listening_at = (!skip_exit).then(|| Instant::now() + drain_time);
                Ok(())
            }
        }
    }
}
