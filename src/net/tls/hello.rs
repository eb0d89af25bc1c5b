//! What a client says first, looked at without taking it: whoever gets the connection finds it untouched.

use std::io::{self, Read};

use rustls::server::Acceptor;
use tokio::io::Interest;

use crate::net::Stream;

#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::hello as fuzz_hello;

/// Longest hello that is looked at, in bytes; Envoy's limit too.
pub const LONGEST_HELLO: usize = 16 * 1024;
/// Room for the hellos of common length.
const USUAL: usize = 2 * 1024;
/// The first byte of every TLS connection: the type of a handshake record.
const HANDSHAKE: u8 = 22;

/// What a TLS client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name it wants to reach (SNI), in lower case.
    pub server_name: Option<String>,
    /// The protocols that it speaks (ALPN), the most wanted first.
    pub protocols: Vec<Vec<u8>>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// A whole hello.
    Tls(Hello),
    /// Anything else.
    Plain,
    /// What begins like TLS and is none.
    Malformed,
    /// A hello that does not end.
    TooLarge,
    /// The client left.
    Closed,
}

/// Waits for a client's first bytes and looks at them, at `most` so many; the number is how many that were. The caller bounds the time.
///
/// # Errors
/// The socket's.
pub async fn inspect(stream: &Stream, most: usize) -> io::Result<(Inspected, usize)> {
    let mut acceptor = Acceptor::default();
    let most = most.min(LONGEST_HELLO);
    let mut buffer = vec![0; USUAL.min(most)];
    let mut seen = 0;
    loop {
        let readiness = stream.ready(Interest::READABLE).await?;
        if seen == buffer.len() {
            buffer.resize((2 * seen).min(most), 0);
        }
        let length = match stream.try_peek_past(&mut buffer, seen) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if readiness.is_read_closed() {
                    return Ok((Inspected::Closed, seen));
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(mut new) = buffer.get(seen..length).filter(|new| !new.is_empty()) else {
            return Ok((Inspected::Closed, seen));
        };
        if seen == 0 && new.first() != Some(&HANDSHAKE) {
            return Ok((Inspected::Plain, length));
        }
        seen = length;
        if let Some(found) = judge(&mut acceptor, &mut new) {
            return Ok((found, seen));
        }
        if seen >= most {
            return Ok((Inspected::TooLarge, seen));
        }
    }
}

/// `None`: more is needed. A hello that cannot be read is left to whoever gets the connection.
fn judge(acceptor: &mut Acceptor, new: &mut dyn Read) -> Option<Inspected> {
    loop {
        // Reading from memory fails only where the acceptor will not have more: that is no hello.
        match acceptor.read_tls(new) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(_) => return Some(Inspected::Malformed),
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Some(Inspected::Tls(Hello {
                    server_name: hello.server_name().map(str::to_ascii_lowercase),
                    protocols: hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
                }));
            }
            Err(_) => return Some(Inspected::Malformed),
        }
    }
}
