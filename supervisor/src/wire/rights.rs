//! One packet with its descriptors, in one system call each way.
//!
//! This is the only place where descriptors arrive: each becomes an [`OwnedFd`] before anything else can fail, and each is close-on-exec from birth.
#![allow(unsafe_code, reason = "descriptors pass the process border here")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors in one packet; the kernel's limit (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;

/// Room for the control message: aligned, and large enough for [`MAX_DESCRIPTORS`].
#[repr(C, align(16))]
struct Control([u8; 2048]);

/// What came in.
pub(super) struct Arrival {
    /// Bytes of the packet that fit into the buffer.
    pub(super) length: usize,
    /// The packet was longer than the buffer.
    pub(super) cut: bool,
    /// Descriptors were dropped by the kernel, for want of room in this process.
    pub(super) lost_descriptors: bool,
    /// The descriptors.
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Sends one packet without waiting.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    debug_assert!(descriptors.len() <= MAX_DESCRIPTORS);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 2048]);
    // SAFETY: a msghdr is plain data for which all zeroes are valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let size = (raw.len() * size_of::<RawFd>()) as libc::c_uint;
        // SAFETY: CMSG_SPACE and CMSG_LEN only calculate.
        let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = space as usize;
        // SAFETY: the control buffer is aligned and holds `space` bytes (253 descriptors need 1032), so there is a first header and
        // `raw.len()` descriptors fit behind it; `raw` and `control` do not overlap.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = length as usize;
            std::ptr::copy_nonoverlapping(raw.as_ptr(), libc::CMSG_DATA(first).cast(), raw.len());
        }
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: every pointer in the header points into a live local or into `bytes`, which the kernel only reads.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes one packet without waiting.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Arrival> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 2048]);
    // SAFETY: a msghdr is plain data for which all zeroes are valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points at `buffer` and `control`, both writable, with their true lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    // A negative length is the error; it never converts.
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    // SAFETY: the kernel has just filled in `header` and `control`.
    let descriptors = unsafe { collect(&header) };
    Ok(Arrival {
        length,
        cut: header.msg_flags & libc::MSG_TRUNC != 0,
        lost_descriptors: header.msg_flags & libc::MSG_CTRUNC != 0,
        descriptors,
    })
}

/// Owns every descriptor that a received header carries.
///
/// # Safety
/// `header` must have been filled in by `recvmsg`, its control buffer must still live, and this must be called once for it.
unsafe fn collect(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut owned = Vec::new();
    // SAFETY: by the contract above the control messages are well formed; descriptors in them are open and belong to nobody yet. They are read
    // unaligned because the kernel promises only the alignment of the message header.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*message).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(message).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    owned.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    owned
}

/// Takes over an inherited descriptor by its number, and keeps it from being inherited further.
///
/// # Errors
/// When no descriptor of that number is open.
pub(crate) fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard streams are not channels"));
    }
    // SAFETY: setting a flag touches no memory, and fails for a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and whoever told this process its number gave it for this purpose; the caller takes it once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets an integer option that neither nix nor socket2 knows.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the size describe a live integer, which the kernel only reads.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
