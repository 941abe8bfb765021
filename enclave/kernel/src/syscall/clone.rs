//! `clone(2)`, `clone3(2)`, `fork(2)`, `vfork(2)`, `unshare(2)`.

use crate::Ctx;
use crate::process::{self, CloneRequest};
use kbase::{Result, UserAddr, UserPtr, bail};
use linux_abi::process::CloneFlags;
use linux_abi::signal::Signal;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bits of `clone`'s flags that are the exit signal.
const EXIT_SIGNAL: u64 = 0xff;
/// Bytes of the first version of `struct clone_args`.
const ARGS_MIN: usize = 64;
/// More than this nobody passes.
const ARGS_MAX: usize = 4096;

/// `struct clone_args`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88, "clone(2)");

/// The exit signal of a number; 0: none.
fn exit_signal(number: u64) -> Result<Option<Signal>> {
    match number {
        0 => Ok(None),
        number => match Signal::new(number) {
            Some(signal) => Ok(Some(signal)),
            None => bail!(EINVAL, "no such exit signal"),
        },
    }
}

/// `clone(2)`.
pub(super) fn clone(
    ctx: &Ctx<'_>,
    flags: u64,
    stack: u64,
    parent_tid: UserPtr<u32>,
    child_tid: UserPtr<u32>,
    tls: u64,
) -> Result<u32> {
    if flags & CloneFlags::PIDFD.bits() != 0 && flags & CloneFlags::PARENT_SETTID.bits() != 0 {
        bail!(EINVAL, "there is one place for the descriptor and the number");
    }
    // The upper half is not looked at, and unknown bits are not refused.
    let known = CloneFlags::from_bits_truncate(flags & 0xffff_ffff & !EXIT_SIGNAL);
    let request = CloneRequest {
        flags: known,
        exit_signal: exit_signal(flags & EXIT_SIGNAL)?,
        stack,
        pidfd: parent_tid,
        parent_tid,
        child_tid,
        tls,
    };
    process::clone(ctx, request)
}

/// `clone3(2)`.
pub(super) fn clone3(ctx: &Ctx<'_>, args: UserAddr, size: usize) -> Result<u32> {
    if size < ARGS_MIN {
        bail!(EINVAL, "shorter than the first version of the structure");
    }
    if size > ARGS_MAX {
        bail!(E2BIG, "longer than any version of the structure");
    }
    let mut bytes = alloc::vec![0; size];
    ctx.user().load(args, &mut bytes)?;
    let mut known = CloneArgs::new_zeroed();
    let len = size.min(size_of::<CloneArgs>());
    let (head, tail) = bytes.split_at(len);
    if tail.iter().any(|&byte| byte != 0) {
        bail!(E2BIG, "fields that are not known here are set");
    }
    if let Some(into) = known.as_mut_bytes().get_mut(..len) {
        into.copy_from_slice(head);
    }
    let Some(flags) = CloneFlags::from_bits(known.flags) else { bail!(EINVAL, "unknown flag") };
    if flags.contains(CloneFlags::DETACHED) || known.set_tid_size != 0 {
        bail!(EINVAL, "CLONE_DETACHED, or chosen numbers");
    }
    if (known.stack == 0) != (known.stack_size == 0) {
        bail!(EINVAL, "a stack needs an address and a size");
    }
    if flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT) && known.exit_signal != 0 {
        bail!(EINVAL, "no exit signal for threads and siblings");
    }
    let Some(stack) = known.stack.checked_add(known.stack_size) else {
        bail!(EINVAL, "the stack wraps around")
    };
    let request = CloneRequest {
        flags,
        exit_signal: exit_signal(known.exit_signal)?,
        stack,
        pidfd: UserPtr::new(UserAddr(known.pidfd)),
        parent_tid: UserPtr::new(UserAddr(known.parent_tid)),
        child_tid: UserPtr::new(UserAddr(known.child_tid)),
        tls: known.tls,
    };
    process::clone(ctx, request)
}

/// A child as `fork` and `vfork` make it.
fn plain(ctx: &Ctx<'_>, flags: CloneFlags) -> Result<u32> {
    let none = UserPtr::new(UserAddr(0));
    let request = CloneRequest {
        flags,
        exit_signal: Some(Signal::SIGCHLD),
        stack: 0,
        pidfd: none,
        parent_tid: none,
        child_tid: none,
        tls: 0,
    };
    process::clone(ctx, request)
}

/// `fork(2)`.
pub(super) fn fork(ctx: &Ctx<'_>) -> Result<u32> {
    plain(ctx, CloneFlags::empty())
}

/// `vfork(2)`.
pub(super) fn vfork(ctx: &Ctx<'_>) -> Result<u32> {
    plain(ctx, CloneFlags::VFORK | CloneFlags::VM)
}

/// `unshare(2)`.
pub(super) fn unshare(ctx: &Ctx<'_>, flags: u64) -> Result<()> {
    process::unshare(ctx, flags)
}
