//! What a peer may not do although every single frame of it is right: frames that are cheaper to send than to take.
//!
//! The sieve looks at the frame headers in the bytes that come (nine bytes each, payloads are stepped over) and counts, with Envoy's
//! limits: empty frames, PRIORITY, WINDOW_UPDATE, and whatever has to be answered or undone (PING, SETTINGS, RST_STREAM). The `h2` crate bounds
//! what it holds itself (resets of streams that nobody has accepted, header lists, CONTINUATION frames).

use std::time::{Duration, Instant};

use crate::config::model::Http2Floods;

/// Length of a frame header in bytes (RFC 9113, 4.1).
const HEADER: usize = 9;
/// What a client sends before its first frame (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// The time over which frames that must be answered are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// WINDOW_UPDATE frames that anybody may send.
const FREE_WINDOW_UPDATES: u64 = 5;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// `PADDED`, of DATA and HEADERS.
const FLAG_PADDED: u8 = 0x8;
/// `END_STREAM` of DATA and HEADERS, `ACK` of SETTINGS and PING.
const FLAG_END_STREAM: u8 = 0x1;
const FLAG_ACK: u8 = 0x1;
const FLAG_END_HEADERS: u8 = 0x4;

/// Too much of something, or too little: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// `http2.inbound_empty_frames_flood`.
    #[error("too many frames without content")]
    EmptyFrames,
    /// `http2.inbound_priority_frames_flood`.
    #[error("too many PRIORITY frames")]
    Priority,
    /// `http2.inbound_window_update_frames_flood`.
    #[error("too many WINDOW_UPDATE frames")]
    WindowUpdate,
    /// `http2.outbound_control_flood`.
    #[error("too many frames that must be answered")]
    Control,
    /// None at all of what must come first (RFC 9113, 3.4), which the `h2` crate does not insist on.
    #[error("the first frame is not SETTINGS")]
    NoSettings,
}

/// Both directions of a connection, as far as they have come.
#[derive(Debug)]
pub struct Sieve {
    limits: Http2Floods,
    inbound: Scanner,
    outbound: Scanner,
    /// The peer has begun as it must.
    settled: bool,
    /// The peer opens the streams.
    from_client: bool,
    /// HEADERS of whoever opens streams.
    opened: u64,
    data_sent: u64,
    empty: u32,
    priority: u64,
    window_updates: u64,
    control: u32,
    control_since: Instant,
    tally: Tally,
    goes_away: bool,
    /// Frame headers that have come, up to the second.
    begun: u8,
}

/// What has gone by since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// RST_STREAM received.
    pub rx_reset: u64,
    /// RST_STREAM sent.
    pub tx_reset: u64,
    /// GOAWAY sent.
    pub goaway_sent: u64,
}

/// Finds frame headers in a stream of bytes.
#[derive(Debug)]
struct Scanner {
    /// Bytes to step over before the next frame header.
    skip: usize,
    header: [u8; HEADER],
    filled: usize,
}

/// What counts of a frame header.
#[derive(Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Scanner {
    fn new(skip: usize) -> Self {
        Self { skip, header: [0; HEADER], filled: 0 }
    }

    /// The next frame header that is complete in `bytes`, which then begin behind it.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = &bytes[skipped..];
        let taken = (HEADER - self.filled).min(bytes.len());
        self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        *bytes = &bytes[taken..];
        if self.filled < HEADER {
            return None;
        }
        self.filled = 0;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Some(Frame { length: self.skip, kind, flags })
    }
}

impl Sieve {
    /// Of a connection that a client has opened (its bytes begin with a preface), or that we open as a client.
    pub fn new(limits: Http2Floods, from_client: bool, now: Instant) -> Self {
        let (inbound, outbound) = if from_client { (PREFACE, 0) } else { (0, PREFACE) };
        Self {
            limits,
            from_client,
            settled: false,
            inbound: Scanner::new(inbound),
            outbound: Scanner::new(outbound),
            opened: 0,
            data_sent: 0,
            empty: 0,
            priority: 0,
            window_updates: 0,
            control: 0,
            control_since: now,
            tally: Tally::default(),
            goes_away: false,
            begun: 0,
        }
    }

    /// What has gone by since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The peer has said that it goes away.
    pub fn goes_away(&self) -> bool {
        self.goes_away
    }

    /// The peer's first frame has come, all of it: its settings (RFC 9113, 3.4).
    pub fn has_settings(&self) -> bool {
        self.begun > 1 || (self.begun == 1 && self.inbound.skip == 0)
    }

    /// Looks at bytes that were sent.
    pub fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.outbound.next(&mut bytes) {
            match frame.kind {
                DATA => self.data_sent += 1,
                HEADERS => self.opened += u64::from(!self.from_client),
                RST_STREAM => self.tally.tx_reset += 1,
                GOAWAY => self.tally.goaway_sent += 1,
                _ => {}
            }
        }
    }

    /// Looks at bytes as they come.
    ///
    /// # Errors
    /// See [`Flood`].
    pub fn received(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while let Some(frame) = self.inbound.next(&mut bytes) {
            self.begun = (self.begun + 1).min(2);
            self.frame(frame, now)?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame, now: Instant) -> Result<(), Flood> {
        let Frame { length, kind, flags } = frame;
        if !self.settled {
            if kind != SETTINGS || flags & FLAG_ACK != 0 {
                return Err(Flood::NoSettings);
            }
            self.settled = true;
        }
        match kind {
            DATA | HEADERS | CONTINUATION => {
                self.opened += u64::from(self.from_client && kind == HEADERS);
                let end = if kind == CONTINUATION { FLAG_END_HEADERS } else { FLAG_END_STREAM };
                // A DATA frame of nothing but the length of its padding is empty too.
                let empty = length == 0 || (kind == DATA && flags & FLAG_PADDED != 0 && length == 1);
                if !empty || flags & end != 0 {
                    self.empty = 0;
                } else {
                    self.empty += 1;
                    if self.empty > self.limits.empty_frames {
                        return Err(Flood::EmptyFrames);
                    }
                }
            }
            PRIORITY => {
                self.priority += 1;
                if self.priority > u64::from(self.limits.priority_per_stream) * (1 + self.opened) {
                    return Err(Flood::Priority);
                }
            }
            RST_STREAM => {
                self.tally.rx_reset += 1;
                self.control(now)?;
            }
            SETTINGS | PING if flags & FLAG_ACK == 0 => self.control(now)?,
            GOAWAY => self.goes_away = true,
            WINDOW_UPDATE => {
                self.window_updates += 1;
                let per_data = u64::from(self.limits.window_updates_per_data);
                let most = FREE_WINDOW_UPDATES + 2 * (self.opened + per_data * self.data_sent);
                if self.window_updates > most {
                    return Err(Flood::WindowUpdate);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn control(&mut self, now: Instant) -> Result<(), Flood> {
        if now.saturating_duration_since(self.control_since) >= WINDOW {
            self.control_since = now;
            self.control = 0;
        }
        self.control += 1;
        if self.control > self.limits.control_frames { Err(Flood::Control) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Http2Options;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    fn sieve() -> Sieve {
        let sieve = Sieve::new(Http2Options::default().floods, false, Instant::now());
        Sieve { settled: true, ..sieve }
    }

    fn feed(sieve: &mut Sieve, frame: &[u8], times: usize) -> Result<(), Flood> {
        let now = Instant::now();
        (0..times).try_for_each(|_| sieve.received(frame, now))
    }

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let now = Instant::now();
        let mut stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        stream.extend(frame(4, 0, &[]));
        stream.extend(frame(0, 0, &[7; 300]));
        stream.extend(frame(3, 0, &[0; 4]));
        stream.extend(frame(7, 0, &[0; 8]));
        for step in [1, 2, 7, 9, 10, 1000] {
            let mut sieve = Sieve::new(Http2Options::default().floods, true, now);
            for piece in stream.chunks(step) {
                sieve.received(piece, now).unwrap();
            }
            assert_eq!((sieve.take_tally().rx_reset, sieve.goes_away()), (1, true), "in steps of {step}");
            assert_eq!(sieve.take_tally(), Tally::default());
        }
    }

    #[test]
    fn a_connection_begins_with_settings() {
        let now = Instant::now();
        for first in [frame(6, 0, &[0; 8]), frame(HEADERS, 4, b"x"), frame(SETTINGS, FLAG_ACK, &[])] {
            for from_client in [true, false] {
                let mut sieve = Sieve::new(Http2Options::default().floods, from_client, now);
                let preface: &[u8] = if from_client { &[0; PREFACE] } else { &[] };
                sieve.received(preface, now).unwrap();
                assert_eq!(sieve.received(&first, now), Err(Flood::NoSettings));
            }
        }
    }

    #[test]
    fn the_settings_have_come_with_their_last_byte() {
        let now = Instant::now();
        let settings = frame(SETTINGS, 0, &[0; 12]);
        let mut sieve = sieve();
        for byte in &settings {
            assert!(!sieve.has_settings());
            sieve.received(&[*byte], now).unwrap();
        }
        assert!(sieve.has_settings());
        sieve.received(&frame(PING, 0, &[0; 8])[..3], now).unwrap();
        assert!(sieve.has_settings());
    }

    #[test]
    fn empty_frames_are_a_flood_unless_they_end_something() {
        let mut ends = sieve();
        feed(&mut ends, &frame(0, FLAG_END_STREAM, &[]), 50).unwrap();
        let mut between = sieve();
        for _ in 0..50 {
            feed(&mut between, &frame(0, 0, &[]), 1).unwrap();
            feed(&mut between, &frame(0, 0, b"x"), 1).unwrap();
        }
        assert_eq!(feed(&mut sieve(), &frame(0, 0, &[]), 2), Err(Flood::EmptyFrames));
        assert_eq!(feed(&mut sieve(), &frame(9, 0, &[]), 2), Err(Flood::EmptyFrames));
    }

    #[test]
    fn priority_and_window_updates_are_measured_by_the_streams() {
        let priority = frame(2, 0, &[0; 5]);
        assert_eq!(feed(&mut sieve(), &priority, 101), Err(Flood::Priority));
        let mut busy = sieve();
        busy.sent(&[&[0; PREFACE], &frame(HEADERS, 4, b"x")[..]].concat());
        feed(&mut busy, &priority, 200).unwrap();
        let update = frame(8, 0, &[0; 4]);
        feed(&mut sieve(), &update, 5).unwrap();
        assert_eq!(feed(&mut sieve(), &update, 6), Err(Flood::WindowUpdate));
        let mut busy = sieve();
        busy.sent(&[&[0; PREFACE], &frame(HEADERS, 4, b"x")[..], &frame(DATA, 0, b"x")].concat());
        feed(&mut busy, &update, 27).unwrap();
        assert_eq!(feed(&mut busy, &update, 1), Err(Flood::WindowUpdate));
    }

    #[test]
    fn streams_of_a_client_count_as_soon_as_they_are_opened() {
        let now = Instant::now();
        let mut sieve = Sieve::new(Http2Options::default().floods, true, now);
        sieve.received(&[&[0; PREFACE][..], &frame(SETTINGS, 0, &[])].concat(), now).unwrap();
        feed(&mut sieve, &frame(HEADERS, 4, b"x"), 10).unwrap();
        let update = frame(8, 0, &[0; 4]);
        feed(&mut sieve, &update, 25).unwrap();
        assert_eq!(feed(&mut sieve, &update, 1), Err(Flood::WindowUpdate));
    }

    #[test]
    fn what_must_be_answered_is_limited_by_time() {
        let ping = frame(6, 0, &[0; 8]);
        let mut sieve = sieve();
        feed(&mut sieve, &ping, 1000).unwrap();
        assert_eq!(feed(&mut sieve, &ping, 1), Err(Flood::Control));
        let later = Instant::now() + WINDOW;
        sieve.received(&ping, later).unwrap();
        sieve.received(&frame(6, FLAG_ACK, &[0; 8]), later).unwrap();
    }
}
