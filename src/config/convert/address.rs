//! `envoy.config.core.v3.Address`, `CidrRange`, `Locality`.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3 as api;

use super::context::Context;
use crate::config::model::{Address, Cidr, Locality};

/// `sun_path` holds this many bytes, with the final zero.
const LONGEST_PATH: usize = 108;

/// An address and what stands beside it that only a listener heeds.
pub(super) struct Converted {
    pub(super) address: Address,
    pub(super) ipv4_compat: bool,
}

/// The address in `field`; absent is an error.
pub(super) fn required(cx: &mut Context, field: &'static str, address: Option<api::Address>) -> Option<Converted> {
    let Some(api::Address { address }) = address else {
        cx.error_at(field, "is required");
        return None;
    };
    cx.at(field, |cx| match address {
        Some(api::address::Address::SocketAddress(address)) => cx.at("socket_address", |cx| socket(cx, address)),
        Some(api::address::Address::Pipe(pipe)) => cx.at("pipe", |cx| unix(cx, pipe)),
        Some(api::address::Address::EnvoyInternalAddress(_)) => {
            cx.refuse("envoy_internal_address");
            None
        }
        None => {
            cx.error("is required");
            None
        }
    })
}

fn socket(cx: &mut Context, message: api::SocketAddress) -> Option<Converted> {
    let api::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = message;
    refuse!(cx; resolver_name, network_namespace_filepath);
    if protocol != api::socket_address::Protocol::Tcp as i32 {
        cx.error_at("protocol", "only TCP is supported here");
        return None;
    }
    let port = match port_specifier {
        Some(api::socket_address::PortSpecifier::PortValue(port)) => u16::try_from(port).ok(),
        Some(api::socket_address::PortSpecifier::NamedPort(_)) => {
            cx.refuse("named_port");
            return None;
        }
        None => None,
    };
    let Ok(ip) = address.parse::<IpAddr>() else {
        cx.error_at("address", format!("malformed IP address: {address} (names are not resolved here)"));
        return None;
    };
    let is_mappable = matches!(ip, IpAddr::V6(ip) if ip.is_unspecified() || ip.to_ipv4_mapped().is_some());
    if ipv4_compat && !is_mappable {
        cx.error_at("ipv4_compat", "only the IPv6 address '::' or an IPv4-mapped IPv6 address can set it");
    }
    let address = Address::Tcp(SocketAddr::new(ip, port?));
    Some(Converted { address, ipv4_compat })
}

fn unix(cx: &mut Context, message: api::Pipe) -> Option<Converted> {
    let api::Pipe { path, mode } = message;
    if path.len() >= LONGEST_PATH {
        cx.error_at("path", format!("exceeds the longest Unix socket path of {} bytes", LONGEST_PATH - 1));
        return None;
    }
    if path.starts_with('@') && mode != 0 {
        cx.error_at("mode", "an abstract socket has no mode");
        return None;
    }
    Some(Converted { address: Address::Unix { path: path.into(), mode }, ipv4_compat: false })
}

/// A network; host bits are cleared, and a prefix longer than the address is as long as the address.
pub(super) fn cidr(cx: &mut Context, message: api::CidrRange) -> Option<Cidr> {
    let api::CidrRange { address_prefix, prefix_len } = message;
    let Ok(ip) = address_prefix.parse::<IpAddr>() else {
        cx.error_at("address_prefix", format!("malformed IP address: {address_prefix}"));
        return None;
    };
    // Absent is zero: every address.
    let wanted = super::values::number(&prefix_len).unwrap_or_default();
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    if wanted > longest {
        cx.at("prefix_len", |cx| cx.warn(format!("is longer than the address: taken as {longest}")));
    }
    let prefix = u8::try_from(wanted.min(longest)).ok()?;
    Some(Cidr { network: network(ip, prefix), prefix })
}

fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or_default();
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or_default();
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

pub(super) fn locality(message: Option<api::Locality>) -> Locality {
    let api::Locality { region, zone, sub_zone } = message.unwrap_or_default();
    Locality { region, zone, sub_zone }
}
