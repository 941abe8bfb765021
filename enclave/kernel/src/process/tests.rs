//! Threads and children, each on a host thread of the test.

use crate::ctx::Ctx;
use crate::testing::{SCRATCH, World, elf, interpret};
use fake_platform::FakePlatform;
use kbase::Errno;
use platform::{Trap, UserRegisters};
use std::sync::Arc;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const CLONE: u64 = 56;
const VFORK: u64 = 58;
const EXIT: u64 = 60;
const WAIT4: u64 = 61;
const KILL: u64 = 62;
const EXECVE: u64 = 59;
const EXIT_GROUP: u64 = 231;

/// VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID: what a C library passes.
const THREAD: u64 = 0x3d_0f00;
const WNOHANG: u64 = 1;

/// Runs the next thread that the kernel asks for, `index` being how many were asked for before, with `code` as its
/// user code.
fn host(
    world: &World,
    index: usize,
    code: impl FnMut(&FakePlatform, &mut UserRegisters) -> Trap + Send + 'static,
) -> JoinHandle<i32> {
    let (platform, kernel) = (world.platform.clone(), Arc::clone(&world.kernel));
    spawn(move || {
        FakePlatform::become_thread(u32::try_from(index).unwrap() + 100);
        let tid = loop {
            if let Some(&tid) = platform.started_threads().get(index) {
                break tid;
            }
            sleep(Duration::from_millis(1));
        };
        platform.run(code);
        kernel.run_thread(tid).unwrap()
    })
}

/// User code that makes these calls, one after the other.
fn calls(list: Vec<[u64; 4]>) -> impl FnMut(&FakePlatform, &mut UserRegisters) -> Trap + Send {
    let mut list = list.into_iter();
    move |_, registers| {
        let [number, a, b, c] = list.next().expect("the last call ends the thread");
        (registers.rax, registers.rdi, registers.rsi, registers.rdx) = (number, a, b, c);
        Trap::Syscall
    }
}

fn status(ctx: &Ctx<'_>) -> i32 {
    ctx.peek(SCRATCH)
}

#[test]
fn a_thread_begins_as_asked_and_clears_its_word_at_its_end() {
    let world = World::new();
    let child = host(&world, 0, |_, registers| {
        assert_eq!((registers.rax, registers.rsp, registers.fs_base), (0, 0x5000, 0x6000));
        (registers.rax, registers.rdi) = (EXIT, 3);
        Trap::Syscall
    });
    world.with_ctx(|ctx| {
        let word = SCRATCH + 64;
        let tid = ctx.call(CLONE, &[THREAD, 0x5000, word, word, 0x6000]).unwrap();
        assert_eq!(child.join().unwrap(), 0);
        assert_eq!(ctx.peek::<u32>(word), 0);
        assert_eq!(ctx.process.threads().len(), 1);
        assert!(ctx.kernel.processes.thread(u32::try_from(tid).unwrap()).is_none());
        assert!(ctx.process.state.lock().status.is_none());
    });
}

#[test]
fn a_vforked_child_gets_memory_of_its_own_by_execve_and_is_waited_for() {
    let world = World::new();
    // mov edi, 7; mov eax, 231; syscall
    world.install("prog", &elf(0, b"\xbf\x07\0\0\0\xb8\xe7\0\0\0\x0f\x05", true));
    let mut has_called = false;
    let child = host(&world, 0, move |platform, registers| {
        if has_called {
            return interpret(platform, registers);
        }
        has_called = true;
        (registers.rax, registers.rdi, registers.rsi, registers.rdx) = (EXECVE, SCRATCH, SCRATCH + 16, 0);
        Trap::Syscall
    });
    world.with_ctx(|ctx| {
        ctx.poke_bytes(SCRATCH, b"/prog\0");
        ctx.poke(SCRATCH + 16, [SCRATCH, 0u64]);
        let pid = ctx.call(VFORK, &[]).unwrap();
        // The memory is the parent's again, and untouched.
        assert_eq!(ctx.peek::<[u8; 5]>(SCRATCH), *b"/prog");
        assert_eq!(ctx.call(WAIT4, &[u64::MAX, SCRATCH, 0, 0]), Ok(pid));
        assert_eq!(status(ctx), 7 << 8);
        assert_eq!(ctx.call(WAIT4, &[u64::MAX, SCRATCH, 0, 0]), Err(Errno::ECHILD));
        child.join().unwrap();
        assert_eq!(ctx.kernel.processes.all().len(), 1);
    });
}

#[test]
fn waiting_without_hanging_finds_a_child_only_once_it_ended() {
    let world = World::new();
    world.with_ctx(|ctx| {
        // Without CLONE_VFORK the creator goes on at once.
        let pid = ctx.call(CLONE, &[0x100 | 17, 0, 0, 0, 0]).unwrap();
        assert_eq!(ctx.call(WAIT4, &[u64::MAX, SCRATCH, WNOHANG, 0]), Ok(0));
        assert_eq!(ctx.call(WAIT4, &[pid + 1, SCRATCH, WNOHANG, 0]), Err(Errno::ECHILD));
        host(&world, 0, calls(vec![[EXIT_GROUP, 300, 0, 0]])).join().unwrap();
        assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH, WNOHANG, 0]), Ok(pid));
        assert_eq!(status(ctx), (300 & 0xff) << 8);
    });
}

#[test]
fn a_child_that_is_killed_says_by_which_signal() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let pid = ctx.call(CLONE, &[0x100 | 17, 0, 0, 0, 0]).unwrap();
        let child = host(&world, 0, |_, _| Trap::Interrupt);
        ctx.call(KILL, &[pid, 9]).unwrap();
        assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH, 0, 0]), Ok(pid));
        assert_eq!(status(ctx), 9);
        child.join().unwrap();
    });
}

#[test]
fn the_end_of_a_process_ends_all_its_threads() {
    let world = World::new();
    world.install("prog", &elf(0, b"\x90", true));
    let pid = world.start("/prog", &["prog"]).unwrap();
    let other = host(&world, 0, |_, _| Trap::Interrupt);
    let mut step = 0;
    world.platform.run(move |_, registers| {
        step += 1;
        match step {
            1 => (registers.rax, registers.rdi, registers.rsi) = (CLONE, THREAD & !0x30_0000, 0x5000),
            _ => (registers.rax, registers.rdi) = (EXIT_GROUP, 4),
        }
        Trap::Syscall
    });
    assert_eq!(world.kernel.run_thread(pid).unwrap(), 4 << 8);
    other.join().unwrap();
    assert_eq!(world.platform.committed_pages(), 0);
    assert!(world.kernel.processes.all().is_empty());
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    World::new().with_ctx(|ctx| {
        for (flags, errno) in [
            (0x1_0000, Errno::EINVAL),
            (0x800, Errno::EINVAL),
            (0x1000_0000 | 17, Errno::EPERM),
            (17, Errno::ENOSYS),
        ] {
            assert_eq!(ctx.call(CLONE, &[flags, 0, 0, 0, 0]), Err(errno), "{flags:#x}");
        }
    });
}
