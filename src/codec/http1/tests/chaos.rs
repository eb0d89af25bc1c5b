//! Splits and mutations: how bytes arrive must not matter, and no bytes may do harm.

use super::*;

const REQUESTS: &[&[u8]] = &[
    b"GET /a HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\nPOST /b HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: c\r\n\r\n",
    b"\r\n\r\nPOST /b HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\nHost: c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\x01\r\nB: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\nB: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r2\r\nB: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n folded\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.7\r\nHost: a\r\n\r\n",
    b"GET /old\r\nHost: a\r\n\r\n",
    b"GET /a\x02 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: s\r\n\r\nokHTTP/1.1 304 x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\nHTTP/1.1 200\r\n\r\nuntil close",
    b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
    b"HTTP/1.1 abc\r\nA: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\nA: 1\n\n",
];

fn agree<H: PartialEq + std::fmt::Debug>(reader: fn() -> Reader<H>, text: &[u8]) {
    let shown = String::from_utf8_lossy(text);
    let whole = reader().read(&[text]);
    for at in 0..=text.len() {
        assert_eq!(reader().read(&[&text[..at], &text[at..]]), whole, "{shown:?} cut at {at}");
    }
    assert_eq!(reader().read(&text.chunks(1).collect::<Vec<_>>()), whole, "{shown:?} byte by byte");
    assert_eq!(reader().read(&text.chunks(3).collect::<Vec<_>>()), whole, "{shown:?} by threes");
}

#[test]
fn how_bytes_arrive_does_not_matter() {
    REQUESTS.iter().for_each(|text| agree(request_reader, text));
    RESPONSES.iter().for_each(|text| agree(response_reader, text));
}

/// Changes a few bytes: replaced, dropped, doubled, or a piece of another text put in.
fn mutate(seeds: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut text = seeds[random.below(seeds.len())].to_vec();
    for _ in 0..=random.below(4) {
        if text.is_empty() {
            break;
        }
        let at = random.below(text.len());
        match random.below(5) {
            0 => text[at] = random.below(256) as u8,
            1 => text[at] = b"\r\n :;,\t\0%0f"[random.below(11)],
            2 => drop(text.remove(at)),
            3 => text.insert(at, text[at]),
            _ => {
                let other = seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let to = from + random.below(other.len() - from);
                text.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    // A line that is never completed may be judged early or not; none is left so.
    text.extend_from_slice(b"\r\n\r\n");
    text
}

#[test]
fn mutated_messages_neither_panic_nor_depend_on_how_they_arrive() {
    for seed in 1..=4000 {
        let mut random = Random::seeded(seed);
        let text = mutate(REQUESTS, &mut random);
        let at = random.below(text.len() + 1);
        let whole = request_reader().read(&[&text]);
        let shown = String::from_utf8_lossy(&text);
        assert_eq!(request_reader().read(&[&text[..at], &text[at..]]), whole, "seed {seed}: {shown:?} cut at {at}");
        assert_eq!(request_reader().read(&text.chunks(1).collect::<Vec<_>>()), whole, "seed {seed}: {shown:?}");
        let text = mutate(RESPONSES, &mut random);
        let whole = response_reader().read(&[&text]);
        let shown = String::from_utf8_lossy(&text);
        assert_eq!(response_reader().read(&text.chunks(1).collect::<Vec<_>>()), whole, "seed {seed}: {shown:?}");
    }
}

#[test]
fn what_is_accepted_is_written_as_one_message() {
    // Whatever a request looked like, what goes upstream reads as the same head with the same body: nothing can hide in it.
    let mut accepted = 0;
    for seed in 1..=8000 {
        let text = mutate(REQUESTS, &mut Random::seeded(seed));
        let Ok(Some(parsed)) =
            parse_request(&mut BytesMut::from(&text[..]), &mut Scan::default(), &RequestRules::default())
        else {
            continue;
        };
        accepted += 1;
        let body = match parsed.framing.length_left() {
            Some(0) => Body::Empty,
            Some(length) => Body::Length(length),
            None => Body::Chunked,
        };
        let mut out = BytesMut::new();
        encode_request(&parsed.head, body, &mut out);
        let again = parse_request(&mut out, &mut Scan::default(), &RequestRules::default()).unwrap().unwrap();
        assert!(out.is_empty());
        assert_eq!(
            (&again.framing, &again.head.path, &again.head.authority),
            (&parsed.framing, &parsed.head.path, &parsed.head.authority)
        );
    }
    assert!(accepted > 500, "{accepted}");
}

#[test]
fn random_states_and_bytes_do_no_harm() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let state: Vec<u8> = (0..random.below(18)).map(|_| random.below(9) as u8).collect();
        if let Ok(mut framing) = Framing::from_bytes(&state) {
            let text: Vec<u8> = (0..random.below(40)).map(|_| b"0123af\r\n;x: "[random.below(12)]).collect();
            let mut buffer = BytesMut::from(&text[..]);
            while let Ok(Decoded::Data(_)) = framing.decode(&mut buffer, &Limits::default()) {}
            assert_eq!(Framing::from_bytes(&framing.to_bytes()), Ok(framing));
        }
    }
}
