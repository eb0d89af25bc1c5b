//! The query of a request to the admin endpoint.

use super::query::Query;

/// A query.
pub(crate) fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let query = Query::parse(text);
    match query.filter() {
        Ok(wanted) => assert_eq!(wanted("cluster.a.upstream_cx_total"), wanted("cluster.a.upstream_cx_total")),
        Err(reply) => assert!(reply.body.starts_with("Invalid re2 regex: "), "{}", reply.body),
    }
}
