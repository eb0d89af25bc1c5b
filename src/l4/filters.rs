//! Network filters of this proxy, a file each. The HTTP connection manager, which is one too, stands in `http`.

pub mod tcp_proxy;
