//! One end of a stream: sends what stands at its positions, checks what it receives.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Order, Stream};

/// Between two pieces: a test machine shares two cores with everything under test.
const BEAT: Duration = Duration::from_millis(60);
/// Longest head of a message.
const LONGEST_HEAD: usize = 16 * 1024;

/// Whose end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Host,
}

/// The byte at a position of what one end of a stream sends.
fn byte(number: u16, side: Side, at: u64) -> u8 {
    let stream = u64::from(number) * 2 + side as u64;
    ((at * 31 + at / 251 + stream * 7) % 253) as u8
}

/// Sends and checks until the end; notes on the stream how that came, if nobody called it.
pub(super) async fn converse(
    mut socket: TcpStream,
    rest: Vec<u8>,
    stream: &Stream,
    side: Side,
    mut orders: watch::Receiver<Order>,
) {
    let other = if side == Side::Client { Side::Host } else { Side::Client };
    let sends = stream.kind.ways()[side as usize];
    let (mut reader, mut writer) = socket.split();
    let check = |bytes: &[u8]| {
        let at = stream.received[side as usize].load(Ordering::Relaxed);
        let right = (at..).zip(bytes).all(|(at, one)| *one == byte(stream.number, other, at));
        if !right {
            stream.wrong.store(true, Ordering::Release);
        }
        stream.received[side as usize].store(at + bytes.len() as u64, Ordering::Release);
    };
    check(&rest);
    let receiving = async {
        let mut block = vec![0; 16 * 1024];
        loop {
            match reader.read(&mut block).await {
                Ok(0) => return format!("{side:?} found it closed"),
                Ok(length) => check(&block[..length]),
                Err(error) => return format!("{side:?} could not read: {error}"),
            }
        }
    };
    let mut hush = orders.clone();
    let sending = async {
        let mut at = 0_u64;
        while sends && *hush.borrow_and_update() == Order::Talk {
            let length = 1 + (at * 13 + u64::from(stream.number) * 101) % 1900;
            let piece: Vec<u8> = (at..at + length).map(|at| byte(stream.number, side, at)).collect();
            // Noted before it is sent: what has come is never more than what was sent.
            stream.sent[side as usize].store(at + length, Ordering::Release);
            if let Err(error) = writer.write_all(&piece).await {
                return format!("{side:?} could not write: {error}");
            }
            at += length;
            let _ = tokio::time::timeout(BEAT, hush.wait_for(|order| *order != Order::Talk)).await;
        }
        std::future::pending().await
    };
    let how = tokio::select! {
        how = receiving => how,
        how = sending => how,
        _ = orders.wait_for(|order| *order == Order::Leave) => return,
    };
    if *orders.borrow() != Order::Leave {
        stream.note(how);
    }
}

/// The head of a message, and what came behind it.
pub(super) async fn head(socket: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if bytes.len() > LONGEST_HEAD || socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
