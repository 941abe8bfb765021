//! `execve(2)`, `exit(2)`, `arch_prctl(2)` and what a thread tells of itself at its start.

use super::path::{PathAt, fd_of};
use super::{DirFd, UserStr};
use crate::thread::WORK_EXIT;
use crate::{Ctx, fs, process};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, UserAddr, UserPtr, bail};
use linux_abi::process::status_exited;
use vfs::{Node, WalkFlags};

/// Longest path (PATH_MAX).
const PATH_MAX: usize = 4096;
/// Longest argument, and most of them.
const STRING_MAX: usize = 128 << 10;
const STRINGS_MAX: u64 = 1 << 20;
/// Bytes of arguments and environment that are copied at most, before the stack's size is looked at.
const TOTAL_MAX: usize = 8 << 20;

const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;
const AT_EMPTY_PATH: u32 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;

/// Copies a null-terminated array of strings.
fn strings(ctx: &Ctx<'_>, array: UserPtr<u64>, total: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if array.non_null().is_none() {
        return Ok(strings);
    }
    for index in 0..STRINGS_MAX {
        let address = array.index(index)?.read(ctx.user())?;
        if address == 0 {
            return Ok(strings);
        }
        let string =
            ctx.user().load_c_string(UserAddr(address), STRING_MAX).map_err(|error| match error.errno() {
                Errno::ENAMETOOLONG => Error::new(Errno::E2BIG, "an argument is too long"),
                _ => error,
            })?;
        *total = total.saturating_add(string.len() + 1 + size_of::<u64>());
        if *total > TOTAL_MAX {
            break;
        }
        strings.push(string);
    }
    bail!(E2BIG, "arguments and environment are too long")
}

/// `execve(2)`.
pub(super) fn execve(ctx: &Ctx<'_>, path: UserStr, argv: UserPtr<u64>, envp: UserPtr<u64>) -> Result<()> {
    let path = ctx.user().load_c_string(path.0, PATH_MAX)?;
    start(ctx, &path, None, argv, envp)
}

/// Starts a program by its path, or one that was found already.
fn start(
    ctx: &Ctx<'_>,
    path: &[u8],
    opened: Option<fs::Executable>,
    argv: UserPtr<u64>,
    envp: UserPtr<u64>,
) -> Result<()> {
    let mut total = 0;
    let arguments = strings(ctx, argv, &mut total)?;
    let environment = strings(ctx, envp, &mut total)?;
    process::execve(ctx, path, opened, arguments, environment)
}

/// `execveat(2)`.
pub(super) fn execveat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    argv: UserPtr<u64>,
    envp: UserPtr<u64>,
    flags: u32,
) -> Result<()> {
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        bail!(EINVAL, "unknown flag");
    }
    let place = PathAt::new(ctx, from, path)?;
    let found = match from {
        DirFd::Fd(fd) if place.path.is_empty() && flags & AT_EMPTY_PATH != 0 => {
            let open = ctx.files.get(fd_of(fd)?)?;
            match open.dentry() {
                Some(dentry) => Arc::clone(dentry),
                None => bail!(EACCES, "a program is a regular file"),
            }
        }
        _ => {
            let follows = flags & AT_SYMLINK_NOFOLLOW == 0;
            place.resolve(ctx, if follows { WalkFlags::FOLLOW } else { WalkFlags::empty() })?
        }
    };
    if matches!(found.node(), Node::Symlink(_)) {
        bail!(ELOOP, "the program is a symbolic link");
    }
    let opened = fs::executable(&found, &place.places)?;
    // What the program is told, and what a script is opened by.
    let shown = match from {
        DirFd::Fd(fd) if !place.path.starts_with(b"/") => {
            let mut shown = format!("/dev/fd/{fd}").into_bytes();
            if !place.path.is_empty() {
                shown.push(b'/');
                shown.extend_from_slice(&place.path);
            }
            shown
        }
        _ => place.path.clone(),
    };
    start(ctx, &shown, Some(opened), argv, envp)
}

/// `exit(2)`: ends the calling thread.
pub(super) fn exit(ctx: &Ctx<'_>, code: i32) -> Result<()> {
    let is_last = ctx.process.state.lock().threads.len() <= 1;
    if is_last {
        ctx.process.end_with(status_exited(code));
    }
    ctx.thread.add_work(WORK_EXIT);
    Ok(())
}

/// `exit_group(2)`: ends the calling process.
pub(super) fn exit_group(ctx: &Ctx<'_>, code: i32) -> Result<()> {
    ctx.process.end_with(status_exited(code));
    Ok(())
}

/// `arch_prctl(2)`. GS is the LibOS's.
pub(super) fn arch_prctl(ctx: &Ctx<'_>, code: u32, address: u64) -> Result<()> {
    match code {
        ARCH_SET_FS => {
            if !ctx.space.range().contains(&address) && address != 0 {
                bail!(EPERM, "outside the memory of programs");
            }
            ctx.registers.borrow_mut().fs_base = address;
            Ok(())
        }
        ARCH_GET_FS => {
            let base = ctx.registers.borrow().fs_base;
            UserPtr::new(UserAddr(address)).write(ctx.user(), &base)
        }
        ARCH_GET_GS => UserPtr::new(UserAddr(address)).write(ctx.user(), &0u64),
        ARCH_SET_GS => bail!(EINVAL, "GS belongs to the LibOS"),
        _ => bail!(EINVAL, "unknown code"),
    }
}

/// `set_tid_address(2)`.
pub(super) fn set_tid_address(ctx: &Ctx<'_>, address: u64) -> Result<u32> {
    ctx.thread.clear_child_tid.store(address, Ordering::Relaxed);
    Ok(ctx.thread.tid())
}

/// Bytes of `struct robust_list_head`.
const ROBUST_LIST_HEAD: usize = 24;

/// `set_robust_list(2)`.
pub(super) fn set_robust_list(ctx: &Ctx<'_>, head: u64, len: usize) -> Result<()> {
    if len != ROBUST_LIST_HEAD {
        bail!(EINVAL, "not the size of a list head");
    }
    ctx.thread.robust_list.store(head, Ordering::Relaxed);
    Ok(())
}

/// `get_robust_list(2)`.
pub(super) fn get_robust_list(ctx: &Ctx<'_>, tid: u32, head: UserPtr<u64>, len: UserPtr<u64>) -> Result<()> {
    let thread = match tid {
        0 => Some(ctx.thread.clone()),
        tid => ctx.kernel.processes.thread(tid),
    };
    let Some(thread) = thread else { bail!(ESRCH, "no such thread") };
    len.write(ctx.user(), &(ROBUST_LIST_HEAD as u64))?;
    head.write(ctx.user(), &thread.robust_list.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use crate::testing::{SCRATCH, World};
    use kbase::Errno;

    const EXECVEAT: u64 = 322;
    const EMPTY_PATH: u64 = 0x1000;
    const NOFOLLOW: u64 = 0x100;

    #[test]
    fn a_program_can_be_named_by_a_descriptor() {
        let world = World::new();
        world.install("script", b"#!/nothing");
        world.with_ctx(|ctx| {
            ctx.poke_bytes(SCRATCH, b"\0");
            ctx.poke_bytes(SCRATCH + 64, b"/script\0");
            ctx.poke_bytes(SCRATCH + 128, b"/link\0");
            let execveat = |fd: u64, path: u64, flags: u64| ctx.call(EXECVEAT, &[fd, path, 0, 0, flags]);
            assert_eq!(execveat(1, SCRATCH, 0x8000), Err(Errno::EINVAL));
            assert_eq!(execveat(1, SCRATCH, 0), Err(Errno::ENOENT));
            assert_eq!(execveat(99, SCRATCH, EMPTY_PATH), Err(Errno::EBADF));
            assert_eq!(execveat(1, SCRATCH, EMPTY_PATH), Err(Errno::EACCES), "a terminal");
            let fd = ctx.call(2, &[SCRATCH + 64, 0, 0]).unwrap();
            assert_eq!(execveat(fd, SCRATCH, EMPTY_PATH), Err(Errno::ENOENT), "its interpreter is missing");
            ctx.call(88, &[SCRATCH + 64, SCRATCH + 128]).unwrap();
            assert_eq!(execveat(-100i64 as u64, SCRATCH + 128, NOFOLLOW), Err(Errno::ELOOP));
        });
    }

    #[test]
    fn the_thread_that_replaces_the_program_gets_the_number_of_the_process() {
        let world = World::new();
        world.with_ctx(|ctx| {
            let table = &ctx.kernel.processes;
            let pid = ctx.process.pid;
            ctx.thread.become_first(pid + 5);
            table.make_first(ctx.thread, pid);
            assert_eq!(ctx.call(186, &[]), Ok(pid.into()));
            assert!(table.thread(pid + 5).is_none());
            assert!(table.thread(pid).is_some());
        });
    }
}
