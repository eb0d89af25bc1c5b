use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn ticketer(tickets: &Arc<Tickets>, identity: u8) -> Ticketer {
    Ticketer::shared(tickets.clone(), DAY, [identity; 32])
}

fn key(byte: u8) -> Vec<u8> {
    vec![byte; KEY]
}

#[test]
fn a_ticket_opens_where_the_same_keys_and_rules_are() {
    let (here, there) = (Arc::new(Tickets::default()), Arc::new(Tickets::default()));
    let ticket = ticketer(&here, 1).encrypt(b"session").unwrap();
    assert_eq!(ticketer(&here, 1).decrypt(&ticket).unwrap(), b"session");
    assert!(ticketer(&here, 2).decrypt(&ticket).is_none(), "other rules");
    assert!(ticketer(&there, 1).decrypt(&ticket).is_none(), "other keys");
    for tickets in [&here, &there] {
        tickets.give(&[key(7)], Duration::ZERO);
    }
    let ticket = ticketer(&here, 1).encrypt(b"session").unwrap();
    assert_eq!(ticketer(&there, 1).decrypt(&ticket).unwrap(), b"session");
}

#[test]
fn turned_keys_open_and_do_not_seal() {
    let tickets = Arc::new(Tickets::default());
    let ticketer = ticketer(&tickets, 1);
    tickets.give(&[key(1)], Duration::ZERO);
    let old = ticketer.encrypt(b"old").unwrap();
    tickets.give(&[key(2), key(1)], Duration::ZERO);
    assert_eq!(ticketer.decrypt(&old).unwrap(), b"old");
    assert_eq!(ticketer.encrypt(b"new").unwrap()[..NAME], [2; NAME]);
    tickets.give(&[key(3), key(2)], Duration::ZERO);
    assert!(ticketer.decrypt(&old).is_none());
}

#[test]
fn keys_that_are_none_change_nothing() {
    let tickets = Tickets::default();
    assert!(tickets.given().is_none());
    tickets.give(&[vec![1; KEY - 1]], Duration::ZERO);
    tickets.give(&[], Duration::ZERO);
    assert!(tickets.given().is_none());
    tickets.give(&[vec![1; KEY + 1], key(2)], DAY);
    let (keys, age) = tickets.given().unwrap();
    assert_eq!(keys, [key(2)]);
    assert!(age >= DAY);
    assert!(!format!("{tickets:?}").contains('['));
}

#[test]
fn a_ticket_that_was_touched_or_is_too_old_does_not_open() {
    let tickets = Arc::new(Tickets::default());
    let ticketer = ticketer(&tickets, 1);
    let ticket = ticketer.encrypt(b"session").unwrap();
    for at in 0..ticket.len() {
        let mut touched = ticket.clone();
        touched[at] ^= 1;
        assert!(ticketer.decrypt(&touched).is_none(), "byte {at}");
    }
    for length in 0..ticket.len() {
        assert!(ticketer.decrypt(&ticket[..length]).is_none(), "{length} bytes");
    }
    let ring = tickets.ring.load();
    let issued = Ticketer::now() - DAY.as_secs() - 5;
    let old = ring.keys[0].seal([&issued.to_be_bytes()[..], b"session"].concat(), &[1; 32]).unwrap();
    assert!(ticketer.decrypt(&old).is_none());
}
