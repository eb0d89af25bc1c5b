//! The files of `themes/`: a configuration, then exchanges.
//!
//! ```text
//! # A comment, in the first column.
//! @hcm                          what follows is set in the connection manager, up to the next mark
//! @http_filters                 ... is the list of HTTP filters before the router; @router sets something in that one
//! @bootstrap                    ... is set in the whole
//! @route_config                 ... in the route configuration
//! @virtual_hosts                ... is the list of virtual hosts
//! @cluster a                    ... is set in cluster `a`; `a`, `b` and `c` have one host each, nobody listens at the host of `dead`
//! ## name of the exchange
//! > GET / HTTP/1.1\r\n          the client sends; lines that follow each other go out together
//! > Host: a\r\n\r\n
//! >> CONNECT h /ws websocket    instead: the client speaks HTTP/2 and opens a stream; method, authority, path (`-`: none), `:protocol`; then
//! >> ... | x: 1 | y: 2 | end    header fields, and whether the stream ends with its head; `> ` is data, `cancel` resets the stream,
//! trailers x: 1 | y: 2          ends it with trailers
//! await TEXT                    the client waits until it has got this
//! pause 50                      ... so many milliseconds
//! fin                           ... sends no more; `leave` closes instead
//! responses 2                   how many final responses end the exchange, 1 if not said
//! < HTTP/1.1 200 OK\r\n...      the upstream answers so, having read the whole request
//! <head                         at first: it answers when it has the head
//! <read 5                       it reads so many bytes more
//! <pause 50                     it waits
//! <close                        it closes; `<reset` resets, over HTTP/2 the stream with INTERNAL_ERROR or `<reset CANCEL`; `<fin` sends no more
//! <trailers x: 1 | y: 2         over HTTP/2: it ends the stream with trailers
//! <gone                         over HTTP/2: it waits until the proxy has reset the stream, and notes with what
//! <next                         what follows is for the next request that comes
//! <at b                         what follows is for the next request that comes to host `b`; the exchange waits for it, and lists what came by host
//! ```
//!
//! `\r \n \t \0 \\ \xHH` mean what they do in Rust, `\{x*3}` is `xxx`, `\s` a blank at the end of a line. Without any `<` the upstream answers 200 `ok`; when the
//! scripts are used up, the last one goes for all others.

use std::collections::BTreeMap;

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Theme {
    pub(crate) name: String,
    /// Settings by mark.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) exchanges: Vec<Exchange>,
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) client: Vec<Step>,
    pub(crate) responses: usize,
    pub(crate) upstream: Vec<Script>,
}

/// What the upstream does with one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Script {
    /// The host that it is for; else whichever is asked.
    pub(crate) at: Option<String>,
    pub(crate) acts: Vec<Act>,
}

/// What the client does.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Await(Vec<u8>),
    Pause(u64),
    Fin,
    Leave,
    Ask(Asked),
    Cancel,
    Trailers(Fields),
}

/// Names and values.
pub(crate) type Fields = Vec<(String, String)>;

/// A request over HTTP/2.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Fields,
    pub(crate) ends: bool,
}

impl Asked {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(" | ").map(str::trim);
        let mut words = parts.next()?.split(' ').map(str::to_owned);
        let (method, authority, path, protocol) = (words.next()?, words.next()?, words.next()?, words.next());
        let (mut headers, mut ends) = (Vec::new(), false);
        for part in parts {
            match part.split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), text_of(value))),
                None => ends = (part == "end").then_some(true)?,
            }
        }
        Some(Self { method, authority, path, protocol, headers, ends })
    }
}

/// What the upstream does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Head,
    Send(Vec<u8>),
    Read(usize),
    Pause(u64),
    Fin,
    Close,
    /// With this reason, where it is a stream.
    Reset(String),
    Trailers(Fields),
    Gone,
}

impl Theme {
    /// Reads a file; a line that means nothing is a fault.
    pub(crate) fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(super::folder().join(format!("themes/{name}.txt"))).unwrap();
        let mut theme = Self { name: name.to_owned(), ..Self::default() };
        let mut mark = None;
        for (number, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix("## ") {
                mark = None;
                let (name, responses) = (name.trim().to_owned(), 1);
                theme.exchanges.push(Exchange { name, client: Vec::new(), responses, upstream: Vec::new() });
            } else if let Some(name) = line.strip_prefix('@') {
                mark = Some(name.trim().to_owned());
            } else if line.starts_with('#') || line.trim().is_empty() {
            } else if let Some(mark) = &mark {
                let settings = theme.settings.entry(mark.clone()).or_default();
                settings.push_str(line);
                settings.push('\n');
            } else {
                let exchange = theme.exchanges.last_mut();
                let understood = exchange.is_some_and(|exchange| exchange.line(line).is_some());
                assert!(understood, "{name}.txt:{}: {line}", number + 1);
            }
        }
        let mut names: Vec<&str> = theme.exchanges.iter().map(|exchange| exchange.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{name}.txt has a name twice");
        theme
    }
}

impl Exchange {
    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(text) = line.strip_prefix(">> ") {
            self.client.push(Step::Ask(Asked::read(text)?));
            return Some(());
        }
        if let Some(text) = line.strip_prefix("> ") {
            match self.client.last_mut() {
                Some(Step::Send(bytes)) => bytes.extend(bytes_of(text)),
                _ => self.client.push(Step::Send(bytes_of(text))),
            }
            return Some(());
        }
        if let Some(act) = line.strip_prefix('<') {
            let at = act.strip_prefix("at ").map(|host| host.trim().to_owned());
            if self.upstream.is_empty() || act.trim() == "next" || at.is_some() {
                self.upstream.push(Script { at: at.clone(), acts: Vec::new() });
            }
            let acts = &mut self.upstream.last_mut()?.acts;
            match act.split_once(' ').unwrap_or((act, "")) {
                ("", text) => match acts.last_mut() {
                    Some(Act::Send(bytes)) => bytes.extend(bytes_of(text)),
                    _ => acts.push(Act::Send(bytes_of(text))),
                },
                ("head", _) => acts.push(Act::Head),
                ("read", count) => acts.push(Act::Read(count.parse().ok()?)),
                ("pause", time) => acts.push(Act::Pause(time.parse().ok()?)),
                ("fin", _) => acts.push(Act::Fin),
                ("close", _) => acts.push(Act::Close),
                ("reset", reason) => acts.push(Act::Reset(reason.trim().to_owned())),
                ("trailers", fields) => acts.push(Act::Trailers(fields_of(fields)?)),
                ("gone", _) => acts.push(Act::Gone),
                ("next" | "at", _) => {}
                _ => return None,
            }
            return Some(());
        }
        match line.split_once(' ').unwrap_or((line, "")) {
            ("await", text) => self.client.push(Step::Await(bytes_of(text))),
            ("pause", time) => self.client.push(Step::Pause(time.parse().ok()?)),
            ("fin", _) => self.client.push(Step::Fin),
            ("cancel", _) => self.client.push(Step::Cancel),
            ("trailers", fields) => self.client.push(Step::Trailers(fields_of(fields)?)),
            ("leave", _) => self.client.push(Step::Leave),
            ("responses", count) => self.responses = count.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn fields_of(text: &str) -> Option<Fields> {
    let field = |part: &str| part.trim().split_once(": ").map(|(name, value)| (name.to_owned(), text_of(value)));
    text.split(" | ").map(field).collect()
}

fn text_of(text: &str) -> String {
    String::from_utf8(bytes_of(text)).expect("a text")
}

fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        let (kind, after) = after.split_at(1);
        rest = after;
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "s" => bytes.push(b' '),
            "\\" => bytes.push(b'\\'),
            "x" => {
                bytes.push(u8::from_str_radix(&after[..2], 16).expect("two hexadecimal digits"));
                rest = &after[2..];
            }
            "{" => {
                let (repeated, after) = after.split_once('}').expect("a repetition ends");
                let (what, count) = repeated.split_once('*').expect("a repetition has a count");
                bytes.extend(what.repeat(count.parse().expect("a count")).into_bytes());
                rest = after;
            }
            _ => panic!("\\{kind} in {text}"),
        }
    }
    bytes.extend(rest.as_bytes());
    bytes
}
