//! The hosts behind one proxy: they do what an exchange's script says, and write down what comes.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::http2;
use super::support::wire::{Message, Wire};
use super::theme::Act;

/// Three hosts.
pub(crate) struct Upstream {
    pub(crate) addresses: Vec<(&'static str, SocketAddr)>,
    state: Arc<Mutex<State>>,
}

/// What the hosts of a proxy do and have seen.
#[derive(Default)]
pub(crate) struct State {
    scripts: Vec<Vec<Act>>,
    next: usize,
    seen: Vec<Vec<String>>,
    open: Vec<TcpStream>,
}

impl State {
    /// A request has come: its number, and what is to be done; `None` is what is done without a script.
    pub(crate) fn begin(&mut self, lines: Vec<String>) -> (usize, Option<Vec<Act>>) {
        let acts = self.scripts.get(self.next).or(self.scripts.last()).cloned();
        self.next += 1;
        self.seen.push(lines);
        (self.seen.len() - 1, acts)
    }

    /// Something more has been seen of a request.
    pub(crate) fn note(&mut self, number: usize, line: String) {
        if let Some(lines) = self.seen.get_mut(number) {
            lines.push(line);
        }
    }
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let host = |name: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let state = state.clone();
            std::thread::spawn(move || {
                for socket in listener.incoming() {
                    let (socket, state) = (socket.unwrap(), state.clone());
                    state.lock().unwrap().open.push(socket.try_clone().unwrap());
                    std::thread::spawn(move || {
                        if http2::host::is_spoken(&socket) {
                            http2::host::serve(name, socket, &state);
                        } else {
                            serve(name, Wire::new(socket), &state);
                        }
                    });
                }
            });
            (name, address)
        };
        Self { addresses: ["a", "b", "c"].map(host).into(), state: state.clone() }
    }

    /// What is done from now on.
    pub(crate) fn follow(&self, scripts: &[Vec<Act>]) {
        let mut state = self.state.lock().unwrap();
        state.scripts = scripts.to_vec();
        state.next = 0;
        state.seen.clear();
    }

    /// Closes what is open.
    pub(crate) fn close(&self) {
        for socket in self.state.lock().unwrap().open.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// What came since the script was given: a list of lines for each request.
    pub(crate) fn seen(&self) -> Vec<Vec<String>> {
        self.state.lock().unwrap().seen.clone()
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn serve(name: &str, mut wire: Wire, state: &Mutex<State>) {
    while let Ok(Some(mut request)) = wire.head() {
        let (number, acts) = state.lock().unwrap().begin(lines(name, &request));
        let acts = acts.unwrap_or_else(|| vec![Act::Send(OK.to_vec())]);
        let note = |line: String| state.lock().unwrap().note(number, line);
        if acts.first() != Some(&Act::Head) {
            let whole = wire.body(&mut request, false).is_ok();
            if !request.body.is_empty() || !whole {
                note(format!("body {}: {}", if whole { "whole" } else { "cut" }, request.text().escape_default()));
            }
            for (name, value) in &request.trailers {
                note(format!("trailer {name}: {value}"));
            }
        }
        for act in &acts {
            match act {
                Act::Head => {}
                Act::Http2(_) => panic!("an act of HTTP/2 on a connection of HTTP/1"),
                Act::Send(bytes) => drop(wire.socket.write_all(bytes)),
                Act::Read(count) => {
                    let read = wire.bytes(*count);
                    note(format!("read: {:?}", read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok()));
                }
                Act::Pause(time) => std::thread::park_timeout(std::time::Duration::from_millis(*time)),
                Act::Close => {
                    let _ = wire.socket.shutdown(Shutdown::Both);
                    return;
                }
                Act::Reset => {
                    // With no time to linger a close is a reset; the copy of the socket that is kept for the end must not outlive it.
                    let _ = socket2::SockRef::from(&wire.socket).set_linger(Some(std::time::Duration::ZERO));
                    let own = wire.socket.peer_addr().ok();
                    state.lock().unwrap().open.retain(|socket| socket.peer_addr().ok() != own);
                    return;
                }
            }
        }
    }
}

fn lines(name: &str, request: &Message) -> Vec<String> {
    let mut fields: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    fields.sort();
    let first = format!("at {name}: {}", request.line);
    std::iter::once(first).chain(fields).collect()
}
