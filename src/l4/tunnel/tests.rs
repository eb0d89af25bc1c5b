use super::*;
use crate::net::Stream;
use crate::upstream::pool::{http1, tcp};

/// A tunnel between two sockets waits with no more than it would if there were no other sides.
#[test]
fn other_sides_cost_a_tunnel_of_sockets_nothing() {
    println!("client {} of {}, host {}", size_of::<Client>(), size_of::<Stream>(), size_of::<Host>());
    assert_eq!(size_of::<Client>(), size_of::<Stream>());
    let widest = size_of::<http1::Lease>().max(size_of::<tcp::Connection>());
    assert!(size_of::<Host>() <= widest + size_of::<usize>(), "{} of {widest}", size_of::<Host>());
}
