//! Access logs: one line for every request and every connection, in the operator's format.
//!
//! ```text
//!   request begins ─▶ Live: when, and the headers that are wanted ─▶ … ─▶ it ends: facts filled in ─▶ Logs::write
//!                        │  carried to another epoch as it is                        filter ─▶ render ─▶ sink
//!                        └──────────────────────────────────────────▶ …
//! ```
//!
//! [`Logs`] is built per worker from the `access_log` list of a connection manager, a TCP proxy or a listener; its owners ask it what to keep
//! ([`Wanted`]) and tell it the end. Where no log is configured there is none of all this. There is exactly one line, written by the epoch in which
//! the request or connection really ends, about all of its life. [`Files`] belongs to the process: a thread per file writes, so that no worker
//! ever waits for a disk; what a disk does not take is dropped and counted. A reload opens its files anew, a drain goes on writing until the
//! last request has ended, and the end of the process writes out what waits.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use crate::codec::head::{Headers, RequestHead, ResponseHead};
use crate::config::model::{self, LogHeader, LogType};

mod context;
mod filter;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod render;
mod reply;
mod sink;
mod template;
mod time;
mod value;

pub use context::{Context, Kept, Left, Live};
pub use reply::{Replies, ReplyFilter, ReplyFormat};
pub use sink::{Files, OpenError, Settings, Tally};
pub use template::Template;

use filter::Filter;
use format::Format;
use sink::Sink;

/// What some format or filter shows, and must be kept for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Headers of the request.
    pub request: Vec<LogHeader>,
    /// Headers of the response.
    pub response: Vec<LogHeader>,
    /// Trailers of the response.
    pub trailers: Vec<LogHeader>,
    /// Our own address towards the host, for which the system has to be asked.
    pub upstream_local: bool,
}

/// The access logs of one connection manager, TCP proxy or listener on one worker.
pub struct Logs {
    logs: Vec<Log>,
    wanted: Wanted,
    line: RefCell<Vec<u8>>,
}

struct Log {
    sink: Sink,
    format: Format,
    filter: Option<Filter>,
}

impl Logs {
    /// Of a list of logs; `None` where it is empty.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn build(models: &[model::AccessLog], files: &Files) -> Result<Option<Rc<Self>>, OpenError> {
        if models.is_empty() {
            return Ok(None);
        }
        let mut wanted = Wanted::default();
        let logs = models
            .iter()
            .map(|model| {
                Ok(Log {
                    sink: files.open(&model.sink)?,
                    format: Format::compile(&model.format, &mut wanted),
                    filter: model.filter.as_ref().map(|filter| Filter::compile(filter, &mut wanted)),
                })
            })
            .collect::<Result<_, OpenError>>()?;
        Ok(Some(Rc::new(Self { logs, wanted, line: RefCell::default() })))
    }

    /// What to keep.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Writes a line to every log whose filter lets it pass.
    pub fn write(&self, kind: LogType, live: &Live) {
        for log in &self.logs {
            if log.filter.as_ref().is_none_or(|filter| filter.passes(kind, live)) {
                let mut line = self.line.borrow_mut();
                line.clear();
                log.format.render(kind, live, &mut line);
                log.sink.write(&line);
            }
        }
    }

    /// Keeps what is wanted of a request's head, instead of what was kept before: heads change on their way.
    pub fn keep_request(&self, live: &mut Live, head: &RequestHead) {
        self.wanted.keep_request(live, head);
    }

    /// Keeps what is wanted of a response's head.
    pub fn keep_response(&self, live: &mut Live, head: &ResponseHead) {
        self.wanted.keep_response(live, head);
    }

    /// Keeps what is wanted of a response's trailers.
    pub fn keep_trailers(&self, live: &mut Live, trailers: &Headers) {
        let mut kept = Kept::default();
        kept.bytes = bytes(trailers);
        for (index, name) in self.wanted.trailers.iter().enumerate() {
            if let LogHeader::Named(name) = name {
                kept.add(index, trailers.get_all(name).map(http::HeaderValue::as_bytes));
            }
        }
        live.context.trailers = Some(kept);
    }
}

/// The line of one request or connection, on its way.
pub struct Line {
    logs: Rc<Logs>,
    /// What it will say.
    pub live: Live,
}

impl Line {
    /// Of something that began then.
    pub fn new(logs: Rc<Logs>, started: Instant) -> Self {
        Self { logs, live: Live::new(started) }
    }

    /// Of something that another epoch has begun.
    pub fn from_record(logs: Rc<Logs>, record: Context) -> Self {
        Self { live: Live::from_record(record, &logs.wanted), logs }
    }

    /// As it is written down for another epoch.
    pub fn to_record(&self) -> Context {
        self.live.to_record(&self.logs.wanted)
    }

    /// What is kept for it.
    pub fn wanted(&self) -> &Wanted {
        &self.logs.wanted
    }

    /// Writes it as it is now.
    pub fn write(&self, kind: LogType) {
        self.logs.write(kind, &self.live);
    }
}

/// Bytes of all names and values, as Envoy counts them.
fn bytes(headers: &Headers) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

impl Wanted {
    /// Keeps what is wanted of a request's head, instead of what was kept before: heads change on their way.
    fn keep_request(&self, live: &mut Live, head: &RequestHead) {
        let mut kept = Kept::default();
        for (index, name) in self.request.iter().enumerate() {
            match name {
                LogHeader::Method => kept.add(index, std::iter::once(head.method.as_str().as_bytes())),
                LogHeader::Path => kept.add(index, (!head.path.is_empty()).then_some(&*head.path).into_iter()),
                LogHeader::Authority => {
                    kept.add(index, (!head.authority.is_empty()).then_some(&*head.authority).into_iter());
                }
                LogHeader::Scheme => kept.add(index, head.scheme.map(|scheme| scheme.as_str().as_bytes()).into_iter()),
                LogHeader::Status => {}
                LogHeader::Named(name) => kept.add(index, head.headers.get_all(name).map(http::HeaderValue::as_bytes)),
            }
        }
        let scheme = head.scheme.map_or(0, |scheme| ":scheme".len() + scheme.as_str().len());
        let line = [":method".len(), head.method.as_str().len(), ":path".len(), head.path.len(), ":authority".len()];
        kept.bytes = (line.iter().sum::<usize>() + head.authority.len() + scheme) as u64 + bytes(&head.headers);
        live.context.request = Some(kept);
    }

    /// Keeps what is wanted of a response's head.
    fn keep_response(&self, live: &mut Live, head: &ResponseHead) {
        let mut kept = Kept::default();
        for (index, name) in self.response.iter().enumerate() {
            match name {
                LogHeader::Status => kept.add(index, std::iter::once(head.status.as_str().as_bytes())),
                LogHeader::Named(name) => kept.add(index, head.headers.get_all(name).map(http::HeaderValue::as_bytes)),
                _ => {}
            }
        }
        kept.bytes = (":status".len() + 3) as u64 + bytes(&head.headers);
        live.context.response = Some(kept);
    }

    fn of(list: &mut Vec<LogHeader>, name: &LogHeader) -> usize {
        list.iter().position(|known| known == name).unwrap_or_else(|| {
            list.push(name.clone());
            list.len() - 1
        })
    }

    fn request(&mut self, name: &LogHeader) -> usize {
        Self::of(&mut self.request, name)
    }

    fn response(&mut self, name: &LogHeader) -> usize {
        Self::of(&mut self.response, name)
    }

    fn trailer(&mut self, name: &LogHeader) -> usize {
        Self::of(&mut self.trailers, name)
    }
}

#[cfg(test)]
mod tests;
