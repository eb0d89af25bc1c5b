//! The accept loop of one socket on one worker.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::net::{AcceptError, Backoff, Listener, classify_accept};

use super::connection::Admission;

/// Connections that are taken at once, before others on this thread have their turn. Small, so that workers that wake for the
/// same socket share what is queued.
const BURST: u64 = 8;

/// Accepts until the task is aborted, or the socket turns out not to be a listening socket.
pub(super) async fn run(socket: Listener, admission: Rc<Admission>, name: String) {
    let mut backoff = Backoff::default();
    loop {
        let mut accepted = 0;
        let mut next = Some(socket.accept().await);
        while let Some(result) = next.take() {
            match result {
                Ok((stream, peer)) => {
                    backoff.reset();
                    accepted += 1;
                    admission.begin(stream, peer);
                }
                Err(error) => match classify_accept(&error) {
                    AcceptError::Connection => {}
                    AcceptError::Exhausted => {
                        let delay = backoff.next_delay();
                        tracing::warn!(listener = name, %error, ?delay, "cannot accept for now");
                        tokio::time::sleep(delay).await;
                        break;
                    }
                    AcceptError::Listener => {
                        tracing::error!(listener = name, %error, "a listening socket is broken: no more connections from it");
                        return;
                    }
                },
            }
            if accepted < BURST {
                next = at_once(socket.accept());
            }
        }
        admission.stats.connections_accepted_per_socket_event.record(accepted);
        tokio::task::yield_now().await;
    }
}

/// What a future has to say without waiting.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
