//! An upstream host: well-behaved, or scripted byte by byte.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::wire::{Message, Wire};

/// A host on a port of its own.
pub struct Origin {
    pub address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    requests: AtomicUsize,
    stopped: AtomicBool,
    panics: Mutex<Vec<String>>,
}

impl Origin {
    /// Runs `script` for every connection, with its number from 0.
    pub fn raw(script: impl Fn(usize, Wire) + Send + Sync + 'static) -> Self {
        Self::with_state(Arc::default(), script)
    }

    fn with_state(state: Arc<State>, script: impl Fn(usize, Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(script);
        let acceptor = std::thread::spawn({
            let state = state.clone();
            move || {
                for socket in listener.incoming() {
                    if state.stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    let (script, state) = (script.clone(), state.clone());
                    let number = state.connections.fetch_add(1, Ordering::Relaxed);
                    std::thread::spawn(move || {
                        let wire = Wire::new(socket.unwrap());
                        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| script(number, wire))) {
                            let text = panic.downcast_ref::<String>().cloned();
                            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                            state.panics.lock().unwrap().push(text.unwrap_or_else(|| "panic".into()));
                        }
                    });
                }
            }
        });
        Self { address, state, acceptor: Some(acceptor) }
    }

    /// Keeps connections alive and answers every request with what `answer` writes for it.
    pub fn http(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let state: Arc<State> = Arc::default();
        Self::with_state(state.clone(), move |_, mut wire| {
            while let Ok(Some(mut request)) = wire.head() {
                if wire.body(&mut request, false).is_err() {
                    break;
                }
                state.requests.fetch_add(1, Ordering::Relaxed);
                if wire.socket.write_all(&answer(&request)).is_err() {
                    break;
                }
            }
        })
    }

    /// Answers every request with 200 and a text.
    pub fn text(text: &'static str) -> Self {
        Self::http(move |_| ok(text))
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Requests answered so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let panics = std::mem::take(&mut *self.state.panics.lock().unwrap());
        if !std::thread::panicking() {
            assert!(panics.is_empty(), "in the origin: {panics:?}");
        }
    }
}

/// 200 with a text.
pub fn ok(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
}
