//! A message of connections, with descriptors that may fit it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use heirloom_supervisor::wire::message::Moved;
use prost::Message;

use super::unpack;

/// How many descriptors come along, and whether some were lost; how long the file is that they all are; the message.
pub(crate) fn moved(data: &[u8]) {
    let Some(([count, length], data)) = data.split_first_chunk::<2>() else { return };
    let Ok(moved) = Moved::decode(data) else { return };
    let connections = moved.connections.len();
    let file = || -> std::io::Result<OwnedFd> {
        let mut file = File::from(nix::sys::memfd::memfd_create(c"fuzz", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&vec![7; usize::from(*length)])?;
        Ok(file.into())
    };
    let descriptors = (0..count & 7).filter_map(|_| file().ok()).collect();
    if let Some(frozen) = unpack(moved, descriptors, count & 8 != 0) {
        assert_eq!(frozen.len(), connections);
        for frozen in frozen.into_iter().flatten() {
            assert!(frozen.sockets.len() <= 2 && frozen.record.len() <= 1 << 20);
        }
    }
}
