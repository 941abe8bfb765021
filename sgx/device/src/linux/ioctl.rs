//! The ioctls of /dev/sgx_enclave (`asm/sgx.h`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Set in [`AddPages::flags`]: EEXTEND the pages.
pub(super) const PAGE_MEASURE: u64 = 1;

/// `struct sgx_enclave_create`.
#[repr(C)]
pub(super) struct Create {
    pub(super) src: u64,
}

/// `struct sgx_enclave_add_pages`.
#[repr(C)]
pub(super) struct AddPages {
    pub(super) src: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) secinfo: u64,
    pub(super) flags: u64,
    pub(super) count: u64,
}

/// `struct sgx_enclave_init`.
#[repr(C)]
pub(super) struct Init {
    pub(super) sigstruct: u64,
}

/// `struct sgx_enclave_provision`.
#[repr(C)]
pub(super) struct Provision {
    pub(super) fd: u64,
}

/// `struct sgx_enclave_restrict_permissions`.
#[repr(C)]
pub(super) struct RestrictPermissions {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) permissions: u64,
    pub(super) result: u64,
    pub(super) count: u64,
}

/// `struct sgx_enclave_modify_types`.
#[repr(C)]
pub(super) struct ModifyTypes {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) page_type: u64,
    pub(super) result: u64,
    pub(super) count: u64,
}

/// `struct sgx_enclave_remove_pages`.
#[repr(C)]
pub(super) struct RemovePages {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) count: u64,
}

/// An argument of an ioctl of the driver.
///
/// # Safety
/// The layout is the kernel's for `NUMBER`, and its pointers are valid for what the kernel does with them when it
/// is passed to [`call`].
pub(super) unsafe trait Argument {
    /// Request number.
    const NUMBER: libc::c_ulong;
}

/// `_IOW(0xa4, number, T)`, or `_IOWR` where the kernel writes back.
const fn request<T>(number: u8, writes_back: bool) -> libc::c_ulong {
    let direction = if writes_back { 3 } else { 1 };
    direction << 30 | (size_of::<T>() as libc::c_ulong) << 16 | 0xa4 << 8 | number as libc::c_ulong
}

macro_rules! arguments {
    ($($structure:ident = $number:literal, $writes_back:literal;)*) => {
        $(
            // SAFETY: the layout is `asm/sgx.h`'s; whoever fills in the pointers answers for them.
            unsafe impl Argument for $structure {
                const NUMBER: libc::c_ulong = request::<$structure>($number, $writes_back);
            }
        )*
    };
}

arguments! {
    Create = 0, false;
    AddPages = 1, true;
    Init = 2, false;
    Provision = 3, false;
    RestrictPermissions = 5, true;
    ModifyTypes = 6, true;
    RemovePages = 7, true;
}

/// Performs an ioctl.
///
/// # Errors
/// The driver's.
pub(super) fn call<T: Argument>(file: BorrowedFd<'_>, argument: &mut T) -> io::Result<()> {
    // SAFETY: the number says the size of the argument; the rest is the promise of `Argument`.
    match unsafe { libc::ioctl(file.as_raw_fd(), T::NUMBER, std::ptr::from_mut(argument)) } {
        0 => Ok(()),
        // SGX error codes come as positive numbers.
        code if code > 0 => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("SGX error {code}"))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the driver only stopped for a while.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_header() {
        assert_eq!(Create::NUMBER, 0x4008_a400);
        assert_eq!(AddPages::NUMBER, 0xc030_a401);
        assert_eq!(Init::NUMBER, 0x4008_a402);
        assert_eq!(Provision::NUMBER, 0x4008_a403);
        assert_eq!(RestrictPermissions::NUMBER, 0xc028_a405);
        assert_eq!(ModifyTypes::NUMBER, 0xc028_a406);
        assert_eq!(RemovePages::NUMBER, 0xc018_a407);
    }
}
