use super::*;

/// A connection's memory is the sum of such futures: parked it holds the first, busy the second as well.
#[test]
fn the_futures_of_a_connection_stay_small() {
    fn size<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }
    let parked = size(|conn| Manager::run(conn, None));
    let serving = size(|conn: &'static Downstream| serve(conn));
    let exchange = crate::http::forward::HTTP1_EXCHANGE;
    println!("parked {parked}, serving {serving}, exchange {exchange}");
    assert!(parked <= 384, "a parked connection's future: {parked} bytes");
    assert!(serving <= 2048, "a request's future: {serving} bytes");
    assert!(exchange <= 512, "an upstream exchange: {exchange} bytes");
    println!("parked {parked}, serving {serving}, exchange {exchange}");
}
