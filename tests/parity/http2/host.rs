//! A host that the proxy speaks HTTP/2 with.

use std::future::poll_fn;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::super::support::PATIENCE;
use super::super::theme::Act;
use super::super::upstream::State;
use super::{Answer, alone, lines, map, send};

/// Whether a connection begins as those of HTTP/2 do; waits for its first bytes.
pub(crate) fn is_spoken(socket: &TcpStream) -> bool {
    let mut first = [0; 3];
    let deadline = Instant::now() + PATIENCE;
    // What ends before it has begun is none.
    while let Ok(seen) = socket.peek(&mut first) {
        if seen == first.len() || seen == 0 || Instant::now() > deadline {
            break;
        }
    }
    &first == b"PRI"
}

/// Serves a connection to its end.
pub(crate) fn serve(name: &'static str, socket: TcpStream, state: &Arc<Mutex<State>>) {
    let Ok(()) = socket.set_nonblocking(true) else { return };
    alone(async {
        let socket = Rc::new(socket);
        let Ok(stream) = socket.try_clone().and_then(tokio::net::TcpStream::from_std) else { return };
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let Ok(mut connection) = builder.handshake(stream).await else { return };
        let goes: Rc<Notify> = Rc::default();
        loop {
            tokio::select! {
                next = connection.accept() => {
                    let Some(Ok((request, respond))) = next else { break };
                    let (number, acts) = state.lock().unwrap().begin(seen(name, &request));
                    let side = Side { number, state: state.clone(), goes: goes.clone(), socket: socket.clone() };
                    spawn_local(side.run(request, respond, acts));
                }
                () = goes.notified() => connection.graceful_shutdown(),
            }
        }
    });
}

fn seen(name: &str, request: &Request<RecvStream>) -> Vec<String> {
    let uri = request.uri();
    let mut all =
        vec![format!("at {name}: {} {} HTTP/2", request.method(), uri.path_and_query().map_or("", |p| p.as_str()))];
    all.push(format!(":scheme: {}", uri.scheme_str().unwrap_or("none")));
    all.push(format!(":authority: {}", uri.authority().map_or("none", |authority| authority.as_str())));
    if let Some(protocol) = request.extensions().get::<h2::ext::Protocol>() {
        all.push(format!(":protocol: {}", protocol.as_str()));
    }
    all.extend(lines(request.headers(), ""));
    all
}

/// One stream.
struct Side {
    number: usize,
    state: Arc<Mutex<State>>,
    goes: Rc<Notify>,
    socket: Rc<TcpStream>,
}

impl Side {
    fn note(&self, line: String) {
        self.state.lock().unwrap().note(self.number, line);
    }

    async fn run(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, acts: Option<Vec<Act>>) {
        let mut body = request.into_body();
        let head = |status, fields| Act::Http2(Answer::Head { status, fields, ends: false });
        let acts = acts.unwrap_or_else(|| {
            vec![head(200, Vec::new()), Act::Http2(Answer::Data(b"ok".to_vec())), Act::Http2(Answer::End)]
        });
        if acts.first() != Some(&Act::Head) {
            self.read(&mut body, usize::MAX).await;
        }
        let mut sending: Option<SendStream<Bytes>> = None;
        for act in acts {
            match act {
                Act::Head => {}
                Act::Read(count) => self.read(&mut body, count).await,
                Act::Pause(time) => tokio::time::sleep(Duration::from_millis(time)).await,
                Act::Close => drop(self.socket.shutdown(Shutdown::Both)),
                Act::Reset | Act::Send(_) => panic!("an act of HTTP/1 on a connection of HTTP/2"),
                Act::Http2(answer) => self.act(answer, &mut respond, &mut sending).await,
            }
        }
    }

    async fn act(&self, answer: Answer, respond: &mut SendResponse<Bytes>, sending: &mut Option<SendStream<Bytes>>) {
        match (answer, sending.as_mut()) {
            (Answer::Head { status, fields, .. }, _) if (100..200).contains(&status) => {
                let mut response = Response::builder().status(status).body(()).unwrap();
                *response.headers_mut() = map(&fields);
                let _ = respond.send_informational(response);
            }
            (Answer::Head { status, fields, ends }, _) => {
                let mut response = Response::builder().status(status).body(()).unwrap();
                *response.headers_mut() = map(&fields);
                *sending = respond.send_response(response, ends).ok();
            }
            (Answer::Data(data), Some(stream)) => drop(send(stream, &data).await),
            (Answer::End, Some(stream)) => drop(stream.send_data(Bytes::new(), true)),
            (Answer::Trailers(fields), Some(stream)) => drop(stream.send_trailers(map(&fields))),
            (Answer::Reset(reason), _) => respond.send_reset(reason),
            (Answer::Gone, stream) => {
                // Before the head it is the one, behind it the other that hears of it.
                let gone = async {
                    match stream {
                        Some(stream) => poll_fn(|context| stream.poll_reset(context)).await,
                        None => poll_fn(|context| respond.poll_reset(context)).await,
                    }
                };
                self.note(match tokio::time::timeout(PATIENCE, gone).await {
                    Ok(Ok(reason)) => format!("reset: {reason:?}"),
                    Ok(Err(_)) => "cut".to_owned(),
                    Err(_) => "not reset".to_owned(),
                });
            }
            (Answer::GoAway, _) => self.goes.notify_one(),
            (Answer::Data(_) | Answer::End | Answer::Trailers(_), None) => {}
        }
    }

    /// Reads up to so many bytes, and notes what came.
    async fn read(&self, body: &mut RecvStream, most: usize) {
        let mut bytes = BytesMut::new();
        let mut end = None;
        while bytes.len() < most && end.is_none() {
            match body.data().await {
                Some(Ok(data)) => {
                    let _ = body.flow_control().release_capacity(data.len());
                    bytes.extend_from_slice(&data);
                }
                Some(Err(error)) => end = Some(reset(&error)),
                None => {
                    end = Some(match body.trailers().await {
                        Ok(trailers) => {
                            for line in trailers.iter().flat_map(|trailers| lines(trailers, "trailer ")) {
                                self.note(line);
                            }
                            "whole".to_owned()
                        }
                        Err(error) => reset(&error),
                    });
                }
            }
        }
        let end = end.unwrap_or_else(|| "more".to_owned());
        if !bytes.is_empty() || end != "whole" {
            self.note(format!("body {end}: {}", bytes.escape_ascii()));
        }
    }
}

fn reset(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_reset() => format!("reset {reason:?}"),
        _ => "cut".to_owned(),
    }
}
