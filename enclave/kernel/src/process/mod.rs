//! Processes: what the threads of a program share.
//!
//! Lock order: the table, then a process, then what it owns.

mod account;
mod attributes;
mod children;
mod clone;
mod credentials;
pub(crate) mod elf;
mod end;
mod exec;
mod stack;
#[cfg(test)]
mod tests;
mod unshare;
mod users;
mod vdso;

pub(crate) use account::{Account, Accounts, SignalSlot};
pub(crate) use attributes::Attributes;
pub(crate) use children::{Who, wait};
pub(crate) use clone::{CloneRequest, clone};
pub(crate) use credentials::{ALL_CAPABILITIES, Capabilities, Credentials, Ids, capability};
pub(crate) use exec::execve;
pub(crate) use unshare::unshare;
pub(crate) use users::Users;
pub(crate) use vdso::file as vdso_file;

use crate::Thread;
use crate::fs::{FileTable, FsContext};
use crate::signal::ProcessSignals;
use crate::thread::{NewThread, Workers};
use crate::time::ProcessTimes;
use crate::vm::AddressSpace;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boot_config::Limits;
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;
use kbase::{Result, bail};
use linux_abi::process::{RLIM_INFINITY, RLIM_NLIMITS, Rlimit, resource};
use platform::{Platform, ThreadHandle};
use vfs::ReadinessNotifier;

/// Highest number of a process or thread (`/proc/sys/kernel/pid_max`).
const PID_MAX: u32 = 1 << 22;

/// A process.
pub struct Process {
    /// Its number, which is also that of its first thread.
    pub(crate) pid: u32,
    /// Number of its parent; 0 for those started from outside.
    pub(crate) parent: AtomicU32,
    /// Number of its process group.
    pub(crate) group: AtomicU32,
    /// Number of its session.
    pub(crate) session: AtomicU32,
    pub(crate) state: Mutex<ProcessState>,
    pub(crate) signals: ProcessSignals,
    pub(crate) credentials: Credentials,
    pub(crate) times: ProcessTimes,
    /// Settings of `prctl(2)` and `personality(2)`.
    pub(crate) attributes: Attributes,
    /// Resource limits.
    pub(crate) limits: Mutex<[Rlimit; RLIM_NLIMITS]>,
    /// What it runs.
    pub(crate) program: Mutex<Program>,
    /// Woken when it ends, and when one of its threads does.
    pub(crate) ended: WaiterQueue,
    /// Tells of the end of the process.
    pub(crate) has_ended: ReadinessNotifier,
    /// Woken when a child ends, stops or goes on.
    pub(crate) children: WaiterQueue,
    /// The signal that its end sends to its parent; 0: none.
    pub(crate) exit_signal: AtomicU32,
    /// Whether it was started from outside, where its status is wanted.
    pub(crate) is_outsiders: bool,
}

/// What a process runs, for `/proc`.
#[derive(Clone, Default)]
pub(crate) struct Program {
    /// Absolute path of the file.
    pub(crate) path: Vec<u8>,
    /// Arguments, each ended by NUL.
    pub(crate) arguments: Vec<u8>,
    /// Environment, each ended by NUL.
    pub(crate) environment: Vec<u8>,
    /// Auxiliary vector as the program got it.
    pub(crate) auxv: Vec<u8>,
}

/// What changes in a process.
pub(crate) struct ProcessState {
    /// Its memory; `execve` of a process that shares it replaces it.
    pub(crate) space: Arc<AddressSpace>,
    /// The descriptors of its first thread.
    pub(crate) files: Arc<FileTable>,
    /// Working directory, root and umask of its first thread.
    pub(crate) fs: Arc<FsContext>,
    /// Those of each of its threads, by number.
    pub(super) tables: BTreeMap<u32, Tables>,
    /// Its threads that have not ended.
    pub(crate) threads: Vec<Arc<Thread>>,
    /// The wait status that was decided, and then the end.
    pub(crate) status: Option<i32>,
    /// Whether its last thread has ended and everything is given back.
    pub(crate) has_ended: bool,
    /// Nobody can wait for it any more.
    pub(crate) was_waited_for: bool,
    /// Whether the memory is that of the process that created it (CLONE_VM), so that `execve` leaves it alone.
    pub(crate) borrows_memory: bool,
    /// The wait status of a stop or a continuation that the parent has not waited for.
    pub(crate) change: Option<i32>,
}

/// Descriptors of a thread, and its working directory, root and umask: those of all threads of its process, unless `unshare(2)`
/// gave it others. Threads do not have them themselves: what threads refer to, descriptors refer to in many ways, and the
/// compiler would follow all of them to find out what may be sent between threads.
pub(crate) type Tables = (Arc<FileTable>, Arc<FsContext>);

/// Memory, descriptors and places of a process, as [`crate::Ctx`] wants them.
pub(crate) type World = (Arc<AddressSpace>, Arc<FileTable>, Arc<FsContext>);

impl Process {
    /// What its first thread works with, and mostly all of them.
    pub(crate) fn world(&self) -> World {
        let state = self.state.lock();
        (state.space.clone(), state.files.clone(), state.fs.clone())
    }

    /// What one of its threads works with.
    pub(crate) fn tables(&self, thread: &Thread) -> Tables {
        let state = self.state.lock();
        let own = state.tables.get(&thread.tid()).cloned();
        own.unwrap_or_else(|| (state.files.clone(), state.fs.clone()))
    }

    /// Its threads that have not ended.
    pub(crate) fn threads(&self) -> Vec<Arc<Thread>> {
        self.state.lock().threads.clone()
    }

    /// A soft limit.
    pub(crate) fn limit(&self, resource: usize) -> u64 {
        self.limits.lock().get(resource).map_or(RLIM_INFINITY, |limit| limit.rlim_cur)
    }
}

/// The limits of a program that is started from outside.
fn initial_limits(limits: &Limits) -> [Rlimit; RLIM_NLIMITS] {
    let unlimited = Rlimit { rlim_cur: RLIM_INFINITY, rlim_max: RLIM_INFINITY };
    let mut all = [unlimited; RLIM_NLIMITS];
    let mut set = |resource: usize, soft: u64, hard: u64| {
        if let Some(limit) = all.get_mut(resource) {
            *limit = Rlimit { rlim_cur: soft, rlim_max: hard };
        }
    };
    let threads = limits.max_threads.into();
    set(resource::STACK, limits.default_stack_size, RLIM_INFINITY);
    set(resource::DATA, limits.default_heap_size, RLIM_INFINITY);
    set(resource::CORE, 0, RLIM_INFINITY);
    set(resource::NPROC, threads, threads);
    set(resource::NOFILE, 1024, 1 << 20);
    set(resource::MEMLOCK, 8 << 20, 8 << 20);
    set(resource::SIGPENDING, 16_384, 16_384);
    set(resource::MSGQUEUE, 819_200, 819_200);
    set(resource::NICE, 0, 0);
    set(resource::RTPRIO, 0, 0);
    all
}

/// All processes and threads by number.
pub(crate) struct ProcessTable {
    state: Mutex<TableState>,
    /// The threads that are at work.
    pub(crate) workers: Arc<Workers>,
    /// What is counted by user.
    accounts: Arc<Accounts>,
}

struct TableState {
    next: u32,
    processes: BTreeMap<u32, Arc<Process>>,
    threads: BTreeMap<u32, Arc<Thread>>,
}

impl ProcessTable {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(TableState { next: 1, processes: BTreeMap::new(), threads: BTreeMap::new() }),
            workers: Arc::default(),
            accounts: Arc::default(),
        }
    }

    /// The process of a number.
    pub(crate) fn process(&self, pid: u32) -> Option<Arc<Process>> {
        self.state.lock().processes.get(&pid).cloned()
    }

    /// The thread of a number.
    pub(crate) fn thread(&self, tid: u32) -> Option<Arc<Thread>> {
        self.state.lock().threads.get(&tid).cloned()
    }

    /// The thread that a host thread runs.
    pub(crate) fn running(&self, host: ThreadHandle) -> Option<Arc<Thread>> {
        self.state.lock().threads.values().find(|thread| thread.handle() == Some(host)).cloned()
    }

    /// All processes.
    pub(crate) fn all(&self) -> Vec<Arc<Process>> {
        self.state.lock().processes.values().cloned().collect()
    }

    /// Number of threads.
    pub(crate) fn thread_count(&self) -> usize {
        self.state.lock().threads.len()
    }

    /// Takes a free number.
    ///
    /// # Errors
    /// EAGAIN there are `max_threads` threads.
    fn allocate(state: &mut TableState, max_threads: u32) -> Result<u32> {
        if state.threads.len() as u64 >= u64::from(max_threads) {
            bail!(EAGAIN, "resource_limits.max_num_of_threads threads exist");
        }
        loop {
            let tid = state.next;
            state.next = if tid >= PID_MAX { 1 } else { tid + 1 };
            if !state.threads.contains_key(&tid) && !state.processes.contains_key(&tid) {
                return Ok(tid);
            }
        }
    }

    /// Adds a process with one thread, both of a new number.
    ///
    /// # Errors
    /// EAGAIN there are too many threads.
    pub(crate) fn add(
        &self,
        platform: &Arc<dyn Platform>,
        max_threads: u32,
        new: NewProcess,
    ) -> Result<Arc<Process>> {
        let mut table = self.state.lock();
        let pid = Self::allocate(&mut table, max_threads)?;
        let process = Arc::new_cyclic(|weak: &Weak<Process>| {
            let thread = Thread::new(pid, weak, platform.clone(), self.workers.clone(), new.thread);
            Process::assemble(pid, new.world, thread, new.program, new.origin, &self.accounts)
        });
        table.processes.insert(pid, process.clone());
        for thread in process.threads() {
            table.threads.insert(thread.tid(), thread);
        }
        Ok(process)
    }

    /// Adds a thread of a new number to a process.
    ///
    /// # Errors
    /// EAGAIN there are too many threads, or the process ends.
    pub(crate) fn add_thread(
        &self,
        platform: &Arc<dyn Platform>,
        max_threads: u32,
        process: &Arc<Process>,
        new: NewThread,
        tables: Tables,
    ) -> Result<Arc<Thread>> {
        let mut table = self.state.lock();
        let tid = Self::allocate(&mut table, max_threads)?;
        let thread = Thread::new(tid, &Arc::downgrade(process), platform.clone(), self.workers.clone(), new);
        let mut state = process.state.lock();
        if state.status.is_some() {
            bail!(EAGAIN, "the process ends");
        }
        state.threads.push(thread.clone());
        state.tables.insert(tid, tables);
        table.threads.insert(tid, thread.clone());
        Ok(thread)
    }

    /// Forgets a process that never ran.
    #[cfg(test)]
    pub(crate) fn forget(&self, pid: u32) {
        self.remove_thread(pid);
        self.remove_process(pid);
    }

    /// Forgets a thread.
    fn remove_thread(&self, tid: u32) {
        self.state.lock().threads.remove(&tid);
    }

    /// Forgets a thread, unless another has its number by now.
    fn forget_thread(&self, thread: &Arc<Thread>) {
        let mut state = self.state.lock();
        if state.threads.get(&thread.tid()).is_some_and(|there| Arc::ptr_eq(there, thread)) {
            state.threads.remove(&thread.tid());
        }
    }

    /// Gives the only thread of a process the number of the process, which its first thread had (`execve(2)`).
    pub(crate) fn make_first(&self, thread: &Arc<Thread>, pid: u32) {
        let mut state = self.state.lock();
        state.threads.remove(&thread.tid());
        if let Some(process) = thread.process() {
            let mut own = process.state.lock();
            let tables = own.tables.remove(&thread.tid());
            own.tables.extend(tables.map(|tables| (pid, tables)));
        }
        thread.become_first(pid);
        state.threads.insert(pid, Arc::clone(thread));
    }

    /// Forgets a process.
    fn remove_process(&self, pid: u32) {
        self.state.lock().processes.remove(&pid);
    }
}

/// What a new process is made of.
pub(crate) struct NewProcess {
    pub(crate) world: World,
    pub(crate) thread: NewThread,
    pub(crate) program: Program,
    pub(crate) origin: Origin,
}

/// Where a process comes from.
pub(crate) enum Origin {
    /// From outside the enclave.
    Outside(Limits),
    /// From another process, of which it inherits.
    Clone {
        creator: Arc<Process>,
        /// Whether it is a child of its creator's parent (CLONE_PARENT).
        is_sibling: bool,
        /// The signal that its end sends, or 0.
        exit_signal: u32,
        /// Whether it runs in the memory of its creator.
        borrows_memory: bool,
    },
}

impl Process {
    /// Puts a process together.
    fn assemble(
        pid: u32,
        world: World,
        thread: Arc<Thread>,
        program: Program,
        origin: Origin,
        accounts: &Arc<Accounts>,
    ) -> Self {
        let (space, files, fs) = world;
        let borrows_memory = matches!(origin, Origin::Clone { borrows_memory: true, .. });
        let tables = BTreeMap::from([(pid, (files.clone(), fs.clone()))]);
        let state = Mutex::new(ProcessState {
            space,
            tables,
            files,
            fs,
            threads: alloc::vec![thread],
            status: None,
            has_ended: false,
            was_waited_for: false,
            borrows_memory,
            change: None,
        });
        let program = Mutex::new(program);
        match origin {
            Origin::Outside(limits) => Self {
                pid,
                parent: AtomicU32::new(0),
                group: AtomicU32::new(pid),
                session: AtomicU32::new(pid),
                state,
                signals: ProcessSignals::new(),
                credentials: Credentials::root(accounts),
                times: ProcessTimes::new(),
                attributes: Attributes::new(),
                limits: Mutex::new(initial_limits(&limits)),
                program,
                ended: WaiterQueue::new(),
                has_ended: ReadinessNotifier::new(),
                children: WaiterQueue::new(),
                exit_signal: AtomicU32::new(0),
                is_outsiders: true,
            },
            Origin::Clone { creator, is_sibling, exit_signal, .. } => Self {
                pid,
                parent: AtomicU32::new(if is_sibling { creator.parent() } else { creator.pid }),
                group: AtomicU32::new(creator.group.load(Ordering::Relaxed)),
                session: AtomicU32::new(creator.session.load(Ordering::Relaxed)),
                state,
                signals: creator.signals.fork(),
                credentials: creator.credentials.fork(),
                times: ProcessTimes::new(),
                attributes: creator.attributes.fork(),
                limits: Mutex::new(*creator.limits.lock()),
                program,
                ended: WaiterQueue::new(),
                has_ended: ReadinessNotifier::new(),
                children: WaiterQueue::new(),
                exit_signal: AtomicU32::new(exit_signal),
                is_outsiders: false,
            },
        }
    }
}

/// The name of a thread that runs a file: the last component, cut to 15 bytes.
pub(crate) fn short_name(path: &[u8]) -> [u8; 16] {
    let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let mut name = [0; 16];
    for (to, &from) in name.iter_mut().take(15).zip(last) {
        *to = from;
    }
    name
}

impl Process {
    /// Number of its parent.
    pub(crate) fn parent(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }
}
