//! `unshare(2)`: what a thread shares with others becomes its own.

use super::clone::NAMESPACES;
use super::{Process, Tables};
use crate::fs::FileTable;
use crate::thread::WORK_WORLD;
use crate::{Ctx, Thread};
use alloc::sync::Arc;
use kbase::{Result, bail};
use linux_abi::process::CloneFlags;

/// CLONE_NEWTIME, which is a part of the exit signal for `clone(2)`.
const NEWTIME: u64 = 0x80;

/// What can be asked for besides namespaces.
const SHARED: CloneFlags = CloneFlags::VM
    .union(CloneFlags::FS)
    .union(CloneFlags::FILES)
    .union(CloneFlags::SIGHAND)
    .union(CloneFlags::THREAD)
    .union(CloneFlags::SYSVSEM);

/// `unshare(2)`.
///
/// # Errors
/// EINVAL an unknown flag, or what cannot be taken apart: memory, signal handlers and the undoing of semaphores of several
/// threads, memory of several processes; EPERM namespaces.
pub(crate) fn unshare(ctx: &Ctx<'_>, raw: u64) -> Result<()> {
    let known = |flags: &CloneFlags| SHARED.union(NAMESPACES).contains(*flags);
    let Some(flags) = CloneFlags::from_bits(raw & !NEWTIME).filter(known) else {
        bail!(EINVAL, "not a flag of unshare(2)")
    };
    check_apart(ctx, flags)?;
    if flags.intersects(NAMESPACES) || raw & NEWTIME != 0 {
        bail!(EPERM, "there are no namespaces");
    }
    if flags.contains(CloneFlags::SYSVSEM) {
        ctx.kernel.ipc.undo_semaphores(ctx.kernel, ctx.process);
    }
    if flags.contains(CloneFlags::FS) {
        ctx.unshare_places();
    }
    if flags.contains(CloneFlags::FILES) {
        ctx.unshare_files();
    }
    Ok(())
}

/// Fails if something is shared that stays shared.
fn check_apart(ctx: &Ctx<'_>, flags: CloneFlags) -> Result<()> {
    // A namespace of users is that of all threads.
    let of_all = CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM | CloneFlags::NEWUSER;
    let has_others = ctx.process.threads().len() > 1;
    if flags.intersects(of_all) && has_others {
        bail!(EINVAL, "the process has other threads");
    }
    if flags.contains(CloneFlags::VM) && !ctx.space.users().is_one() {
        bail!(EINVAL, "the memory is that of another process, too");
    }
    if flags.contains(CloneFlags::SYSVSEM) && has_others {
        bail!(EINVAL, "what is undone for semaphores is remembered for all threads together");
    }
    Ok(())
}

impl Ctx<'_> {
    /// Gives the thread descriptors of its own, if it shares them; others keep those that it had. Returns them, since `files` is what
    /// it had until the end of the call.
    pub(crate) fn unshare_files(&self) -> Arc<FileTable> {
        let (shared, fs) = self.process.tables(self.thread);
        if shared.users().is_one() {
            return shared;
        }
        let own = Arc::new(shared.fork());
        self.take_tables((own.clone(), fs));
        // Others may have left it meanwhile.
        shared.give_up();
        own
    }

    fn unshare_places(&self) {
        let (files, fs) = self.process.tables(self.thread);
        self.take_tables((files, Arc::new(fs.fork())));
    }

    /// The thread has other tables from its next call on.
    fn take_tables(&self, tables: Tables) {
        self.process.set_tables(self.thread, tables);
        self.thread.add_work(WORK_WORLD);
    }
}

impl Process {
    /// Gives one of its threads other tables. The caller has the old ones, so that nothing is dropped under the lock.
    fn set_tables(&self, thread: &Arc<Thread>, tables: Tables) {
        let mut state = self.state.lock();
        if state.threads.first().is_some_and(|first| Arc::ptr_eq(first, thread)) {
            (state.files, state.fs) = tables.clone();
        }
        state.tables.insert(thread.tid(), tables);
    }

    /// RLIMIT_NOFILE, of all its threads.
    pub(crate) fn set_descriptor_limit(&self, limit: u64) {
        for (files, _) in self.state.lock().tables.values() {
            files.set_limit(limit);
        }
    }
}
