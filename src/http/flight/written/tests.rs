use super::*;
use crate::local::Local;
use std::task::{Context, Poll, Waker};

fn read<T: Message + Default>(written: &T) -> T {
    T::decode(&*written.encode_to_vec()).unwrap()
}

/// What a pump still writes when its body ends as announced.
fn wire(pump: &mut Pump, local: &Local, data: &[u8]) -> Vec<u8> {
    let mut wire = pump.outbox.to_vec();
    let mut rest = Outbox::default();
    rest.push(Bytes::copy_from_slice(data), &mut pump.writer, local).unwrap();
    rest.end(None, &mut pump.writer).unwrap();
    wire.extend(rest.to_vec());
    wire
}

#[test]
fn a_direction_goes_on_in_every_coding() {
    let local = Local::new();
    for coding in [http1::Body::Length(7), http1::Body::Chunked, http1::Body::UntilClose] {
        let make = || {
            let mut outbox = Outbox::new(local.block());
            outbox.front.extend_from_slice(b"head");
            let mut pump = Pump::new(outbox, coding, true);
            pump.outbox.push(Bytes::from_static(b"abc"), &mut pump.writer, &local).unwrap();
            (pump.taken, pump.sent) = (3, 9);
            let mut context = Context::from_waker(Waker::noop());
            let flushed = pump.outbox.poll_flush(&mut context, &local, |_, _| Poll::Pending);
            assert!(flushed.is_pending());
            pump
        };
        let mut there = read(&Direction::of(&make())).into_pump().unwrap();
        assert!(there.outbox.is_blocked() && there.trailers && !there.ended);
        assert_eq!((there.taken, there.sent), (3, 9));
        assert_eq!(wire(&mut there, &local, b"defg"), wire(&mut make(), &local, b"defg"), "{coding:?}");
    }
    for (coding, ended) in [(http1::Body::Empty, true), (http1::Body::Suppressed, false)] {
        let pump = Pump { ended, ..Pump::new(Outbox::default(), coding, false) };
        let there = read(&Direction::of(&pump)).into_pump().unwrap();
        assert_eq!((there.ended, there.writer.rest(), there.outbox.len()), (ended, http1::Body::Empty, 0));
    }
}

#[test]
fn a_coding_of_tomorrow_is_refused() {
    let direction = Direction { coding: 4, ..Direction::default() };
    assert!(matches!(direction.into_pump(), Err(Reason::Record)));
}

#[test]
fn deadlines_travel_as_what_is_left_of_them() {
    let local = Local::new();
    let timer = local.timers().timer();
    let hour = Duration::from_secs(3600);
    let deadlines = Deadlines {
        duration: Cell::new(Deadline::NEVER),
        request: timer.at(Instant::now() + hour),
        route: Cell::new(Deadline::NEVER),
        route_timeout: Cell::new(Some(hour)),
        idle: Cell::new(timer.at(Instant::now() + hour)),
        idle_timeout: Cell::new(None),
        drained: Cell::new(Deadline::NEVER),
    };
    let there = read(&Times::of(&deadlines, &timer)).into_deadlines(&timer);
    for deadline in [there.request, there.idle.get()] {
        let left = timer.left(deadline).unwrap();
        assert!(left <= hour + crate::local::timer::TICK && left > hour / 2, "{left:?}");
    }
    assert_eq!((there.route.get(), there.drained.get()), (Deadline::NEVER, Deadline::NEVER));
    assert_eq!((there.route_timeout.get(), there.idle_timeout.get()), (Some(hour), None));
}

#[test]
fn a_time_without_end_is_none() {
    let local = Local::new();
    let timer = local.timers().timer();
    let all = Some(u64::MAX);
    let times = Times {
        request_ms: all,
        route_ms: all,
        route_timeout_ms: all,
        idle_ms: all,
        idle_timeout_ms: all,
        duration_ms: all,
    };
    let there = times.into_deadlines(&timer);
    assert_eq!(
        (there.request, there.route.get(), there.idle.get()),
        (Deadline::NEVER, Deadline::NEVER, Deadline::NEVER)
    );
    assert_eq!((there.route_timeout.get(), there.idle_timeout.get()), (None, None));
}

#[test]
fn facts_are_remembered() {
    let facts = record::Record::new(Method::PUT, before(5000));
    facts.internal.set(true);
    facts.client.set(Some("192.0.2.7".parse().unwrap()));
    *facts.request_id.borrow_mut() = Some(HeaderValue::from_static("an-id"));
    facts.status.set(206);
    facts.received.set(77);
    facts.received_at.set(Some(before(4000)));
    facts.flag(Flag::UpstreamOverflow);
    facts.flag(Flag::RateLimited);
    facts.set_details("via_upstream");
    let there = read(&Facts::of(&facts)).into_record(Method::PUT, None).unwrap();
    assert!(there.internal.get() && there.answered_at.get().is_none());
    assert_eq!((there.client.get(), there.status.get(), there.received.get()), (facts.client.get(), 206, 77));
    assert_eq!((there.flags(), &*there.details()), (facts.flags(), "via_upstream"));
    assert!(there.has_flag(Flag::RateLimited) && !there.has_flag(Flag::FaultInjected));
    assert_eq!(*there.request_id.borrow(), *facts.request_id.borrow());
    assert!(there.started.elapsed() >= Duration::from_millis(5000));
    assert!(there.received_at.get().unwrap() > there.started);
}

#[test]
fn facts_that_cannot_be_are_refused() {
    let cases = [
        Facts { client: "nobody".into(), ..Facts::default() },
        Facts { status: 70_000, ..Facts::default() },
        Facts { request_id: Some(b"a\nb".to_vec()), ..Facts::default() },
    ];
    for facts in cases {
        assert!(matches!(facts.into_record(Method::GET, None), Err(Reason::Record)));
    }
    assert!(method("G E T").is_err());
    assert!(framing(&[9, 9]).is_err());
}
