//! The hosts behind one proxy: they do what an exchange's script says, and write down what comes.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::support::wire::{Message, Wire};
use super::theme::{Act, Script};

/// Three hosts.
pub(crate) struct Upstream {
    pub(crate) addresses: Vec<(&'static str, SocketAddr)>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    scripts: Vec<Script>,
    /// Those that have been followed.
    used: Vec<bool>,
    /// A script that says for which host it is makes the order by time none.
    by_host: bool,
    seen: Vec<Vec<String>>,
    /// Requests that are not answered yet.
    busy: usize,
    open: Vec<TcpStream>,
}

impl State {
    /// The script of the next request, which these lines are of, and its number.
    pub(crate) fn take(&mut self, host: &str, lines: Vec<String>) -> (usize, Vec<Act>) {
        let acts = self.acts(host);
        self.busy += 1;
        self.seen.push(lines);
        (self.seen.len() - 1, acts)
    }

    /// One more line about a request.
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
                    std::thread::spawn(move || match begins_http2(&socket) {
                        true => super::http2::serve(name, socket, &state),
                        false => serve(name, Wire::new(socket), &state),
                    });
                }
            });
            (name, address)
        };
        Self { addresses: ["a", "b", "c"].map(host).into(), state: state.clone() }
    }

    /// What is done from now on.
    pub(crate) fn follow(&self, scripts: &[Script]) {
        let mut state = self.state.lock().unwrap();
        state.scripts = scripts.to_vec();
        state.used = vec![false; scripts.len()];
        state.by_host = scripts.iter().any(|script| script.at.is_some());
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
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.state.lock().unwrap().is_through() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let state = self.state.lock().unwrap();
        let mut seen = state.seen.clone();
        if state.by_host {
            let missing = state
                .missing()
                .map(|script| vec![format!("at {}: nothing came", script.at.as_deref().unwrap_or_default())]);
            seen.extend(missing);
            seen.sort();
        }
        seen
    }
}

impl State {
    /// Scripts for a host that has not been asked.
    fn missing(&self) -> impl Iterator<Item = &Script> {
        let pairs = self.scripts.iter().zip(&self.used);
        pairs.filter(|(script, used)| !**used && script.at.is_some()).map(|(script, _)| script)
    }

    /// Whether every host has been asked that was to be, and has answered.
    fn is_through(&self) -> bool {
        !self.by_host || (self.busy == 0 && self.missing().next().is_none())
    }

    /// What a host does with a request that has come.
    fn acts(&mut self, host: &str) -> Vec<Act> {
        let is_for = |script: &Script| script.at.as_deref().is_none_or(|at| at == host);
        let next = self.scripts.iter().zip(&self.used).position(|(script, used)| !used && is_for(script));
        let at = next.or_else(|| self.scripts.iter().rposition(is_for));
        let Some(at) = at else { return vec![Act::Send(OK.to_vec())] };
        self.used[at] = true;
        match &self.scripts[at] {
            Script { at: Some(_), acts } if acts.is_empty() => vec![Act::Send(OK.to_vec())],
            script => script.acts.clone(),
        }
    }
}

/// A request that is not answered yet.
pub(crate) struct Busy<'a>(pub(crate) &'a Mutex<State>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().busy -= 1;
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Whether a connection begins as HTTP/2 does. What carries no HTTP may be silent for long.
fn begins_http2(socket: &TcpStream) -> bool {
    let mut begin = [0; 4];
    matches!(socket.peek(&mut begin), Ok(read) if begin[..read] == b"PRI "[..read.min(4)] && read > 0)
}

fn serve(name: &str, mut wire: Wire, state: &Mutex<State>) {
    while let Ok(Some(mut request)) = wire.head() {
        let (number, acts) = state.lock().unwrap().take(name, lines(name, &request));
        let _busy = Busy(state);
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
                Act::Send(bytes) => drop(wire.socket.write_all(bytes)),
                Act::Read(count) => {
                    let read = wire.bytes(*count);
                    note(format!("read: {:?}", read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok()));
                }
                Act::Pause(time) => std::thread::park_timeout(Duration::from_millis(*time)),
                Act::Fin => drop(wire.socket.shutdown(Shutdown::Write)),
                Act::Close => {
                    let _ = wire.socket.shutdown(Shutdown::Both);
                    return;
                }
                Act::Trailers(_) | Act::Gone => panic!("no stream in HTTP/1"),
                Act::Reset(_) => {
                    // With no time to linger a close is a reset; the copy of the socket that is kept for the end must not outlive it.
                    let _ = socket2::SockRef::from(&wire.socket).set_linger(Some(Duration::ZERO));
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
