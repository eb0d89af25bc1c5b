use super::*;

/// A body with a bit of everything, and the first bytes of a next message behind it.
const CHUNKED: &[u8] = b"5\r\nhello\r\n00A;name=\"val ue\"\r\n0123456789\r\n1 ; x\r\n!\r\n1000\t\r\n\
      0123456789abcdef\r\nx";

/// [`CHUNKED`] with its long chunk filled, an end and trailers.
fn chunked() -> Vec<u8> {
    let mut text = CHUNKED[..CHUNKED.len() - b"0123456789abcdef\r\nx".len()].to_vec();
    text.extend_from_slice(&b"0123456789abcdef".repeat(256));
    text.extend_from_slice(b"\r\n0;last\r\nTrailer-One: 1\r\ntrailer-two: 2\r\n\r\nGET");
    text
}

/// Reads a body to its end; what it holds, its trailers, what is left behind it.
fn read(framing: &mut Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Headers, BytesMut), FramingError> {
    let mut buffer = BytesMut::new();
    let mut body = Vec::new();
    let mut end = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while end.is_none() {
            match framing.decode(&mut buffer, &Limits::default())? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Decoded::NeedMore => break,
                Decoded::End(trailers) => end = Some(trailers),
            }
        }
    }
    end.map(|trailers| (body, trailers, buffer)).ok_or(FramingError::Truncated)
}

#[test]
fn a_chunked_body_comes_out_whole_however_it_is_cut() {
    let text = chunked();
    let whole = read(&mut Framing::chunked(), &[&text]).unwrap();
    assert_eq!(whole.0.len(), 5 + 10 + 1 + 4096);
    assert_eq!(pairs(&whole.1), [("trailer-one", &b"1"[..]), ("trailer-two", b"2")]);
    assert_eq!(whole.2, "GET");
    for at in 0..=text.len() {
        assert_eq!(read(&mut Framing::chunked(), &[&text[..at], &text[at..]]).unwrap(), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(read(&mut Framing::chunked(), &bytes).unwrap(), whole);
}

#[test]
fn the_state_can_be_written_down_at_every_byte() {
    let text = chunked();
    let whole = read(&mut Framing::chunked(), &[&text]).unwrap();
    for at in 0..=text.len() {
        let mut framing = Framing::chunked();
        let mut buffer = BytesMut::from(&text[..at]);
        let mut body = Vec::new();
        let mut trailers = None;
        loop {
            match framing.decode(&mut buffer, &Limits::default()).unwrap() {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::NeedMore => break,
                Decoded::End(there) => {
                    trailers = Some(there);
                    break;
                }
            }
        }
        // What moves: the state, the unread bytes, then what the network brings.
        let state = framing.to_bytes();
        assert!(state.len() <= 16);
        let mut moved = Framing::from_bytes(&state).unwrap();
        assert_eq!(moved.to_bytes(), state);
        let mut rest = buffer.to_vec();
        rest.extend_from_slice(&text[at..]);
        let (more, ended, left) = read(&mut moved, &[&rest]).unwrap();
        body.extend_from_slice(&more);
        assert_eq!((body, trailers.unwrap_or(ended), left), whole, "moved at {at}");
    }
}

#[test]
fn a_body_of_known_length() {
    let mut framing = Framing::length(5);
    assert_eq!(framing.length_left(), Some(5));
    let mut buffer = BytesMut::from("hel");
    assert_eq!(framing.decode(&mut buffer, &Limits::default()), Ok(Decoded::Data(bytes("hel"))));
    assert_eq!(framing.decode(&mut buffer, &Limits::default()), Ok(Decoded::NeedMore));
    assert_eq!(framing.close(), Err(FramingError::Truncated));
    let mut framing = Framing::from_bytes(&framing.to_bytes()).unwrap();
    buffer.extend_from_slice(b"loGET");
    assert_eq!(framing.decode(&mut buffer, &Limits::default()), Ok(Decoded::Data(bytes("lo"))));
    assert!(framing.is_done());
    assert_eq!(framing.decode(&mut buffer, &Limits::default()), Ok(Decoded::End(Headers::new())));
    assert_eq!((&buffer[..], framing.close()), (&b"GET"[..], Ok(())));
}

#[test]
fn a_body_until_close() {
    let mut framing = Framing::from_bytes(&Framing::until_close().to_bytes()).unwrap();
    let mut buffer = BytesMut::from("abc");
    assert_eq!(framing.decode(&mut buffer, &Limits::default()), Ok(Decoded::Data(bytes("abc"))));
    assert_eq!(framing.decode(&mut buffer, &Limits::default()), Ok(Decoded::NeedMore));
    assert_eq!(framing.close(), Ok(()));
    assert!(framing.is_done());
}

#[test]
fn chunks_that_are_refused() {
    use FramingError as E;
    let rows: &[(&[u8], E)] = &[
        (b"zz\r\n", E::ChunkSize),
        (b" 2\r\nhi\r\n", E::ChunkSize),
        (b"-2\r\nhi\r\n", E::ChunkSize),
        (b"0x2\r\nhi\r\n", E::ChunkSize),
        (b"\r\n", E::ChunkSize),
        (b";x\r\n", E::ChunkSize),
        (b"2 2\r\nhi\r\n", E::ChunkSize),
        (b"2\nhi\r\n", E::ChunkSize),
        (b"2\r\rhi\r\n", E::ChunkEnd),
        (b"2;a\nhi\r\n", E::ChunkExtension),
        (b"2;a\0\r\nhi\r\n", E::ChunkExtension),
        (b"2;a\rb\r\nhi\r\n", E::ChunkEnd),
        (b"2\r\nhiX0\r\n", E::ChunkEnd),
        (b"2\r\nhi\n0\r\n", E::ChunkEnd),
        (b"2\r\nhi\r0\r\n", E::ChunkEnd),
        (b"11111111111111111\r\n", E::ChunkSize),
        (b"00000000000000002\r\nhi\r\n", E::ChunkSize),
        (b"0\r\nfoo\r\n\r\n", E::Trailers(Refusal::CODEC_ERROR)),
        (b"0\r\nA : 1\r\n\r\n", E::Trailers(Refusal::CODEC_ERROR)),
        (b"0\r\nA: 1\n\r\n", E::Trailers(Refusal::CODEC_ERROR)),
        (b"0\r\n\n", E::Trailers(Refusal::CODEC_ERROR)),
        (b"0\r\n A: 1\r\n\r\n", E::Trailers(Refusal::CODEC_ERROR)),
        (b"0\r\nA: \x01\r\n\r\n", E::Trailers(Refusal::INVALID_CHARACTERS)),
    ];
    for (text, expected) in rows {
        let shown = String::from_utf8_lossy(text);
        assert_eq!(read(&mut Framing::chunked(), &[text]), Err(*expected), "{shown:?}");
        let slow: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(read(&mut Framing::chunked(), &slow), Err(*expected), "{shown:?} byte by byte");
    }
    // The largest size is a size; there will just never be so much data.
    let mut framing = Framing::chunked();
    let mut buffer = BytesMut::from("ffffffffffffffff\r\nx");
    assert_eq!(framing.decode(&mut buffer, &Limits::default()), Ok(Decoded::Data(bytes("x"))));
}

#[test]
fn trailers_have_limits() {
    let many: String = (0..101).map(|at| format!("a{at}: 1\r\n")).collect();
    let text = format!("0\r\n{many}");
    let refused = read(&mut Framing::chunked(), &[text.as_bytes()]);
    assert_eq!(refused, Err(FramingError::Trailers(Refusal::TOO_MANY_HEADERS)));
    let text = format!("0\r\nA: {}", "x".repeat(60 * 1024));
    let refused = read(&mut Framing::chunked(), &[text.as_bytes()]);
    assert_eq!(refused, Err(FramingError::Trailers(Refusal::HEADERS_TOO_LARGE)));
}

#[test]
fn lines_may_not_outweigh_data() {
    // One long extension.
    let text = format!("1;{}", "x".repeat(17 * 1024));
    assert_eq!(read(&mut Framing::chunked(), &[text.as_bytes()]), Err(FramingError::ChunkExtension));
    // Many middling ones around single bytes.
    let text = format!("1;{}\r\nx\r\n", "x".repeat(1000)).repeat(100);
    assert_eq!(read(&mut Framing::chunked(), &[text.as_bytes()]), Err(FramingError::ChunkExtension));
    // Chunks of one byte without extensions are only slow.
    let text = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(100_000));
    assert_eq!(read(&mut Framing::chunked(), &[text.as_bytes()]).unwrap().0.len(), 100_000);
    // And so are signed chunks, as object stores send them.
    let text = format!(
        "{}0\r\n\r\n",
        format!("400;chunk-signature={}\r\n{}\r\n", "f".repeat(64), "x".repeat(1024)).repeat(1000)
    );
    assert_eq!(read(&mut Framing::chunked(), &[text.as_bytes()]).unwrap().0.len(), 1024 * 1000);
}

#[test]
fn states_that_no_body_can_have_are_refused() {
    let chunked = |step: u8, digits: u8, size: u64, overhead: u32| {
        let mut state = vec![1, 3, step, digits];
        state.extend_from_slice(&size.to_be_bytes());
        state.extend_from_slice(&overhead.to_be_bytes());
        state
    };
    let rows: &[Vec<u8>] = &[
        vec![],
        vec![1],
        vec![2, 0],
        vec![1, 4],
        vec![1, 0, 0],
        vec![1, 1],
        vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![1, 1, 0, 0, 0, 0, 0, 0, 0],
        vec![1, 2, 0],
        chunked(8, 0, 0, 0),
        chunked(3, 0, 0, 0),
        chunked(3, 1, 5, 0),
        chunked(4, 0, 5, 0),
        chunked(0, 1, 16, 0),
        chunked(0, 17, 16, 0),
        chunked(1, 0, 0, 0),
        chunked(0, 0, 0, 16 * 1024 + 1),
        chunked(0, 0, 0, 0)[..15].to_vec(),
    ];
    for state in rows {
        assert_eq!(Framing::from_bytes(state), Err(StateError), "{state:?}");
    }
    assert_eq!(Framing::from_bytes(&chunked(0, 0, 0, 0)), Ok(Framing::chunked()));
}
