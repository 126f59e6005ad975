//! `mintwarden`, with its own functions in the place of those of libc that change a file: before each
//! change of a store the [`Order`] is asked whether the process ends here, and whether there is room. See
//! the library.

use std::{
    ffi::{c_int, c_void},
    fs,
    os::fd::BorrowedFd,
    process::ExitCode,
};

use faulty_store::Order;
use rustix::{
    io::Errno,
    process::{Signal, getpid, kill_process},
};

fn main() -> ExitCode {
    mintwarden::cli::run()
}

/// Ends this process if the order for this file says so. A file that is no store is left alone.
fn before_a_change(fd: c_int) {
    let Ok(path) = fs::read_link(format!("/proc/self/fd/{fd}")) else { return };
    let Some(order) = Order::about(&path) else { return };
    if order.is_due().expect("an order can be read and counted down") {
        let _sent = kill_process(getpid(), Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// Whether the disk has room for what would be written to this file.
fn has_room(fd: c_int) -> rustix::io::Result<()> {
    let Ok(path) = fs::read_link(format!("/proc/self/fd/{fd}")) else { return Ok(()) };
    let full = Order::about(&path).map(|order| order.is_full().expect("a file can be looked for"));
    if full == Some(true) { Err(Errno::NOSPC) } else { Ok(()) }
}

/// Says what went wrong as libc does: -1, and the reason in `errno`.
fn failed(error: Errno) -> c_int {
    #[allow(unsafe_code, reason = "libc's, and as it is declared there")]
    unsafe extern "C" {
        safe fn __errno_location() -> *mut c_int;
    }
    // SAFETY: it points to this thread's errno, to which nobody else has a reference.
    #[allow(unsafe_code, reason = "libc has no function that sets errno")]
    unsafe {
        *__errno_location() = error.raw_os_error();
    }
    -1
}

fn status(result: rustix::io::Result<()>) -> c_int {
    result.map_or_else(failed, |()| 0)
}

/// The caller's descriptor.
fn borrowed<'a>(fd: c_int) -> BorrowedFd<'a> {
    // SAFETY: it is used for one call of the system, which looks whether it is open.
    #[allow(unsafe_code, reason = "a caller of libc's functions owns the descriptor")]
    unsafe {
        BorrowedFd::borrow_raw(fd)
    }
}

/// pwrite(2), as the standard library calls it.
///
/// # Safety
/// `bytes` are `count` bytes that can be read.
#[allow(unsafe_code, reason = "it takes the place of libc's")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    bytes: *const c_void,
    count: usize,
    offset: i64,
) -> isize {
    before_a_change(fd);
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) };
    let offset = u64::try_from(offset).map_err(|_| Errno::INVAL);
    let offset = offset.and_then(|offset| has_room(fd).map(|()| offset));
    match offset.and_then(|offset| rustix::io::pwrite(borrowed(fd), bytes, offset)) {
        Ok(written) => written.cast_signed(),
        Err(error) => failed(error) as isize,
    }
}

/// ftruncate(2).
#[allow(unsafe_code, reason = "it takes the place of libc's")]
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    before_a_change(fd);
    let length = u64::try_from(length).map_err(|_| Errno::INVAL);
    let length = length.and_then(|length| has_room(fd).map(|()| length));
    status(length.and_then(|length| rustix::fs::ftruncate(borrowed(fd), length)))
}

/// fdatasync(2).
#[allow(unsafe_code, reason = "it takes the place of libc's")]
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    before_a_change(fd);
    status(rustix::fs::fdatasync(borrowed(fd)))
}

/// fsync(2).
#[allow(unsafe_code, reason = "it takes the place of libc's")]
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    before_a_change(fd);
    status(rustix::fs::fsync(borrowed(fd)))
}
