//! Children: who waits for whom, and what becomes of those whose parent ended.
//!
//! A process that ended stays in the table, without memory and files, until its parent has waited for it.

use super::Process;
use crate::time::CpuTimes;
use crate::{Ctx, Kernel, signal};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result};
use linux_abi::process::{STATUS_CONTINUED, WaitOptions, status_stopped};
use linux_abi::signal::{SigInfo, Signal, si};
use vfs::Readiness;

/// Which children a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// All.
    Any,
    /// One.
    Pid(u32),
    /// Those of a process group.
    Group(u32),
}

/// What a wait found.
pub(crate) struct Wait {
    /// Number of the child.
    pub(crate) pid: u32,
    /// Its user.
    pub(crate) uid: u32,
    /// Its wait status.
    pub(crate) status: i32,
    /// CPU time of it and the children that it waited for.
    pub(crate) times: CpuTimes,
}

impl Who {
    fn includes(self, child: &Process) -> bool {
        match self {
            Self::Any => true,
            Self::Pid(pid) => child.pid == pid,
            Self::Group(group) => child.group.load(Ordering::Relaxed) == group,
        }
    }
}

/// Waits for a child that ended, stopped or went on. `None`: WNOHANG and there is none yet.
///
/// # Errors
/// ECHILD no such children; ERESTARTSYS a signal came.
pub(crate) fn wait(ctx: &Ctx<'_>, who: Who, options: WaitOptions) -> Result<Option<Wait>> {
    let look = || -> Option<Result<Option<Wait>>> {
        let children = ctx.kernel.processes.children(ctx.process.pid);
        let wanted = || children.iter().filter(|child| who.includes(child) && is_eligible(child, options));
        let found = wanted().find_map(|child| collect(ctx, child, options));
        // One that has ended has nothing else to tell.
        let may_tell =
            |child: &Arc<Process>| options.contains(WaitOptions::EXITED) || !child.state.lock().has_ended;
        if found.is_none() && !wanted().any(may_tell) {
            return Some(Err(Error::new(Errno::ECHILD, "no such children")));
        }
        if found.is_none() && !options.contains(WaitOptions::NOHANG) {
            return None;
        }
        Some(Ok(found))
    };
    ctx.wait_until(&ctx.process.children, None, look)?
}

/// Whether a wait is for this kind of child: one whose end sends SIGCHLD, or with __WCLONE one whose end does not, or with
/// __WALL any.
fn is_eligible(child: &Process, options: WaitOptions) -> bool {
    let is_clone = child.exit_signal() != Some(Signal::SIGCHLD);
    options.contains(WaitOptions::ALL) || is_clone == options.contains(WaitOptions::CLONE)
}

/// What a child has to tell, which is told once unless WNOWAIT.
fn collect(ctx: &Ctx<'_>, child: &Arc<Process>, options: WaitOptions) -> Option<Wait> {
    let keeps = options.contains(WaitOptions::NOWAIT);
    let found = |status| Wait {
        pid: child.pid,
        uid: child.credentials.uid(),
        status,
        times: child.cpu_times() + child.times.children(),
    };
    let (status, is_end) = {
        let mut state = child.state.lock();
        if state.has_ended {
            (options.contains(WaitOptions::EXITED).then_some(state.status.unwrap_or(0))?, true)
        } else {
            let change = state.change?;
            let wanted =
                if change == STATUS_CONTINUED { WaitOptions::CONTINUED } else { WaitOptions::UNTRACED };
            if !options.contains(wanted) {
                return None;
            }
            if !keeps {
                state.change = None;
            }
            (change, false)
        }
    };
    let wait = found(status);
    if is_end && !keeps {
        // Two threads may wait for one child: who takes it out of the table has it.
        if !ctx.kernel.processes.take_process(child.pid) {
            return None;
        }
        ctx.process.times.add_child(child);
    }
    Some(wait)
}

/// What the end of a process means for others.
#[derive(Default)]
pub(super) struct Bequest {
    /// Its children.
    orphans: Vec<Arc<Process>>,
    /// Who has ended, and the parent that is to hear of it.
    ended: Vec<(Arc<Process>, Arc<Process>)>,
}

impl Kernel {
    /// Tells children of the end of their parent, and parents of the ends of their children.
    pub(super) fn tell(&self, bequest: Bequest, late: &Process) {
        for orphan in bequest.orphans {
            let death_signal = orphan.attributes.parent_death_signal.load(Ordering::Relaxed);
            if let Some(signal) = Signal::new(death_signal.into()) {
                let info = SigInfo::sent(signal, si::USER, late.pid, late.credentials.uid());
                let _ = signal::send_to_process(&orphan, signal, info);
            }
        }
        for (child, parent) in bequest.ended {
            let status = child.state.lock().status.unwrap_or(0);
            let (code, value) = match status & 0x7f {
                0 => (si::CLD_EXITED, status >> 8 & 0xff),
                signal if status & 0x80 != 0 => (si::CLD_DUMPED, signal),
                signal => (si::CLD_KILLED, signal),
            };
            if let Some(signal) = child.exit_signal() {
                let mut info = SigInfo::child(code, child.pid, child.credentials.uid(), value);
                info.signo = signal.number().into();
                let _ = signal::send_to_process(&parent, signal, info);
            }
            parent.children.wake_all();
        }
    }
}

impl Process {
    /// Notes that it stopped by a signal, or went on (`None`), for its parent's `wait4`.
    pub(crate) fn note_change(&self, kernel: &Kernel, stopped_by: Option<Signal>) {
        let status = stopped_by.map_or(STATUS_CONTINUED, |signal| status_stopped(signal.number().into()));
        self.state.lock().change = Some(status);
        if let Some(parent) = kernel.processes.process(self.parent()) {
            parent.children.wake_all();
        }
    }
}

impl super::ProcessTable {
    /// The children of a process, ended ones too.
    pub(crate) fn children(&self, parent: u32) -> Vec<Arc<Process>> {
        if parent == 0 {
            return Vec::new();
        }
        self.state.lock().processes.values().filter(|process| process.parent() == parent).cloned().collect()
    }

    /// A process has ended: its children get another parent, the nearest living ancestor that is a subreaper or nobody. Who has
    /// ended and will not be waited for is forgotten.
    ///
    /// It is one step under the lock, so that each end is told once, and to one who lives.
    pub(super) fn bequeath(&self, late: &Arc<Process>) -> Bequest {
        let mut table = self.state.lock();
        late.state.lock().has_ended = true;
        let heir = table.heir(late);
        let mut bequest = Bequest::default();
        let mut ended = Vec::new();
        for child in table.processes.values().filter(|child| child.parent() == late.pid) {
            child.parent.store(heir.as_ref().map_or(0, |heir| heir.pid), Ordering::Relaxed);
            child.exit_signal.store(Signal::SIGCHLD.number().into(), Ordering::Relaxed);
            if child.state.lock().has_ended {
                ended.push((child.clone(), heir.clone()));
            }
            bequest.orphans.push(child.clone());
        }
        if !late.is_outsiders {
            ended.push((late.clone(), table.processes.get(&late.parent()).cloned()));
        }
        for (child, parent) in ended {
            let reaps = |parent: &Arc<Process>| parent.signals.child_policy().0;
            let sends_sigchld = child.exit_signal() == Some(Signal::SIGCHLD);
            if parent.as_ref().is_none_or(|parent| reaps(parent) && sends_sigchld) {
                table.processes.remove(&child.pid);
                child.state.lock().was_waited_for = true;
            }
            bequest.ended.extend(parent.map(|parent| (child, parent)));
        }
        bequest
    }

    /// Forgets a process; false: somebody else did.
    fn take_process(&self, pid: u32) -> bool {
        let taken = self.state.lock().processes.remove(&pid);
        if let Some(process) = &taken {
            process.state.lock().was_waited_for = true;
            process.has_ended.broadcast(&Readiness::HUP);
        }
        taken.is_some()
    }
}

impl super::TableState {
    /// The nearest living ancestor that is a subreaper.
    fn heir(&self, process: &Process) -> Option<Arc<Process>> {
        let mut at = process.parent();
        while let Some(ancestor) = self.processes.get(&at) {
            let is_alive = !ancestor.state.lock().has_ended;
            if is_alive && ancestor.attributes.is_subreaper.load(Ordering::Relaxed) != 0 {
                return Some(ancestor.clone());
            }
            at = ancestor.parent();
        }
        None
    }
}
