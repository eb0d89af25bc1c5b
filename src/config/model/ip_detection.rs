//! How a client's address is found out.

use http::HeaderName;

use super::Cidr;

/// One of `original_ip_detection_extensions`: the first that finds an address has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpDetection {
    /// `envoy.http.original_ip_detection.custom_header`: a header that holds the address and nothing else.
    Header {
        /// `header_name`.
        name: HeaderName,
        /// `allow_extension_to_set_address_as_trusted`: the address may make the request one from inside.
        trusted: bool,
        /// `reject_with_status`: who has no such header is refused with this.
        reject: Option<u16>,
    },
    /// `envoy.http.original_ip_detection.xff`: `x-forwarded-for`.
    Forwarded {
        /// `xff_num_trusted_hops`; not with the next.
        hops: u32,
        /// `xff_trusted_cidrs`: proxies that are believed.
        trusted: Option<Vec<Cidr>>,
        /// Not `skip_xff_append`: the peer is added to the header.
        append: bool,
    },
}
