//! Threads and children, each on a host thread of the test.

use crate::ctx::Ctx;
use crate::testing::{SCRATCH, World, elf, interpret};
use fake_platform::FakePlatform;
use kbase::Errno;
use platform::{Trap, UserMemory, UserRegisters};
use std::sync::Arc;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const YIELD: u64 = 24;
const CLONE: u64 = 56;
const FORK: u64 = 57;
const VFORK: u64 = 58;
const EXIT: u64 = 60;
const WAIT4: u64 = 61;
const KILL: u64 = 62;
const EXECVE: u64 = 59;
const EXIT_GROUP: u64 = 231;
const UNSHARE: u64 = 272;
const CLOSE_RANGE: u64 = 436;

const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_SYSVSEM: u64 = 0x4_0000;
const SIGCHLD: u64 = 17;

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
    assert_eq!(world.pages_in_use(), 0);
    assert!(world.kernel.processes.all().is_empty());
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    World::new().with_ctx(|ctx| {
        for (flags, errno) in
            [(0x1_0000, Errno::EINVAL), (0x800, Errno::EINVAL), (0x1000_0000 | 17, Errno::EPERM)]
        {
            assert_eq!(ctx.call(CLONE, &[flags, 0, 0, 0, 0]), Err(errno), "{flags:#x}");
        }
    });
}

fn word(platform: &FakePlatform, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    platform.user_load(address, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

#[test]
fn a_forked_child_has_a_copy_and_neither_sees_what_the_other_changes() {
    let world = World::new();
    let mut round = 0u64;
    let child = host(&world, 0, move |platform, registers| {
        // Each round adds to the child's own word, then lets the parent run.
        assert_eq!(word(platform, SCRATCH), Some(100 + round));
        assert_eq!(word(platform, SCRATCH + 0x9000), Some(7));
        round += 1;
        platform.user_store(SCRATCH, &(100 + round).to_le_bytes()).unwrap();
        (registers.rax, registers.rdi) = if round == 50 { (EXIT_GROUP, 0) } else { (YIELD, 0) };
        Trap::Syscall
    });
    world.with_ctx(|ctx| {
        ctx.poke(SCRATCH, 100u64);
        ctx.poke(SCRATCH + 0x9000, 7u64);
        let pid = ctx.call(FORK, &[]).unwrap();
        for round in 0..50u64 {
            ctx.poke(SCRATCH, 1000 + round);
            ctx.poke(SCRATCH + 0x9000, round);
            ctx.call(YIELD, &[]).unwrap();
            assert_eq!(ctx.peek::<u64>(SCRATCH), 1000 + round);
            assert_eq!(ctx.peek::<u64>(SCRATCH + 0x9000), round);
        }
        ctx.poke(SCRATCH + 8, 9u64);
        assert_eq!(ctx.call(WAIT4, &[pid, 0, 0, 0]), Ok(pid));
        child.join().unwrap();
        assert_eq!(ctx.peek::<u64>(SCRATCH + 8), 9);
        assert_eq!(ctx.peek::<u64>(SCRATCH), 1049);
        ctx.kernel.processes.forget(ctx.process.pid);
    });
    assert_eq!(world.pages_in_use(), 0);
}

#[test]
fn shared_memory_is_the_same_for_both_and_private_changes_of_the_map_are_not() {
    let world = World::new();
    let mut step = 0;
    let child = host(&world, 0, move |platform, registers| {
        let shared = registers.rbx;
        step += 1;
        match step {
            1 => {
                assert_eq!(word(platform, shared), Some(5));
                platform.user_store(shared, &6u64.to_le_bytes()).unwrap();
                // munmap(SCRATCH, 4096)
                (registers.rax, registers.rdi, registers.rsi) = (MUNMAP, SCRATCH, 4096);
            }
            _ => {
                assert_eq!(word(platform, SCRATCH), None);
                (registers.rax, registers.rdi) = (EXIT_GROUP, 0);
            }
        }
        Trap::Syscall
    });
    world.with_ctx(|ctx| {
        let shared = ctx.call(MMAP, &[0, 0x10_0000, 3, 0x21, u64::MAX, 0]).unwrap();
        ctx.registers.borrow_mut().rbx = shared;
        ctx.poke(shared, 5u64);
        ctx.poke(SCRATCH, 1u64);
        let pid = ctx.call(FORK, &[]).unwrap();
        assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH + 64, 0, 0]), Ok(pid));
        assert_eq!((ctx.peek::<u64>(shared), ctx.peek::<u64>(SCRATCH)), (6, 1));
        child.join().unwrap();
    });
}

#[test]
fn a_child_that_does_not_sleep_is_made_to_give_way() {
    let world = World::new();
    let child = host(&world, 0, |platform, registers| {
        if word(platform, registers.rbx) == Some(1) {
            (registers.rax, registers.rdi) = (EXIT_GROUP, 5);
            return Trap::Syscall;
        }
        sleep(Duration::from_micros(100));
        Trap::Interrupt
    });
    world.with_ctx(|ctx| {
        let shared = ctx.call(MMAP, &[0, 4096, 3, 0x21, u64::MAX, 0]).unwrap();
        ctx.registers.borrow_mut().rbx = shared;
        ctx.poke(shared, 0u64);
        let pid = ctx.call(FORK, &[]).unwrap();
        for _ in 0..5 {
            ctx.call(YIELD, &[]).unwrap();
            sleep(Duration::from_millis(2));
        }
        ctx.poke(shared, 1u64);
        assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH, 0, 0]), Ok(pid));
        assert_eq!(status(ctx), 5 << 8);
        child.join().unwrap();
    });
}

#[test]
fn a_forked_child_runs_a_program_that_must_be_where_its_parent_is() {
    let world = World::new();
    // The program is where the scratch memory of the test is.
    world.install("fixed", &elf(SCRATCH, b"\xbf\x09\0\0\0\xb8\xe7\0\0\0\x0f\x05", false));
    for call in [FORK, VFORK] {
        let mut has_called = false;
        let index = world.platform.started_threads().len();
        let child = host(&world, index, move |platform, registers| {
            if has_called {
                return interpret(platform, registers);
            }
            has_called = true;
            (registers.rax, registers.rdi, registers.rsi, registers.rdx) = (EXECVE, SCRATCH, SCRATCH + 16, 0);
            Trap::Syscall
        });
        world.with_ctx(|ctx| {
            ctx.poke_bytes(SCRATCH, b"/fixed\0");
            ctx.poke(SCRATCH + 16, [SCRATCH, 0u64]);
            let pid = ctx.call(call, &[]).unwrap();
            assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH + 64, 0, 0]), Ok(pid));
            assert_eq!(ctx.peek::<i32>(SCRATCH + 64), 9 << 8);
            assert_eq!(ctx.peek::<[u8; 6]>(SCRATCH), *b"/fixed");
            child.join().unwrap();
            ctx.kernel.processes.forget(ctx.process.pid);
        });
        assert_eq!(world.pages_in_use(), 0);
    }
}

#[test]
fn many_forks_leave_nothing_behind() {
    let world = World::new();
    world.with_ctx(|ctx| {
        for round in 0..20u64 {
            ctx.poke(SCRATCH + round * 4096, round);
            let index = usize::try_from(round).unwrap();
            let child = host(&world, index, calls(vec![[EXIT_GROUP, 0, 0, 0]]));
            let pid = ctx.call(FORK, &[]).unwrap();
            assert_eq!(ctx.call(WAIT4, &[pid, 0, 0, 0]), Ok(pid));
            child.join().unwrap();
        }
        for round in 0..20u64 {
            assert_eq!(ctx.peek::<u64>(SCRATCH + round * 4096), round);
        }
        assert_eq!(ctx.kernel.processes.all().len(), 1);
        ctx.kernel.processes.forget(ctx.process.pid);
    });
    assert_eq!(world.pages_in_use(), 0);
}

#[test]
fn stopping_and_going_on_is_told_to_who_asks() {
    const SIGCONT: u64 = 18;
    const SIGSTOP: u64 = 19;
    const WUNTRACED: u64 = 2;
    const WCONTINUED: u64 = 8;
    let world = World::new();
    world.with_ctx(|ctx| {
        let pid = ctx.call(CLONE, &[0x100 | 17, 0, 0, 0, 0]).unwrap();
        let child = host(&world, 0, |_, _| Trap::Interrupt);
        ctx.call(KILL, &[pid, SIGSTOP]).unwrap();
        assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH, WUNTRACED, 0]), Ok(pid));
        assert_eq!(status(ctx), 0x137f);
        ctx.call(KILL, &[pid, SIGCONT]).unwrap();
        assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH, WCONTINUED, 0]), Ok(pid));
        assert_eq!(status(ctx), 0xffff);
        ctx.call(KILL, &[pid, 9]).unwrap();
        assert_eq!(ctx.call(WAIT4, &[pid, SCRATCH, WUNTRACED, 0]), Ok(pid));
        assert_eq!(status(ctx), 9);
        child.join().unwrap();
    });
}

#[test]
fn a_process_takes_a_table_of_its_own_and_leaves_the_other_as_it_is() {
    let world = World::new();
    world.with_ctx(|ctx| {
        for unknown in [0x8000, 0x100_0000, 1 << 32 | CLONE_FILES] {
            assert_eq!(ctx.call(UNSHARE, &[unknown]), Err(Errno::EINVAL));
        }
        for namespace in [0x80, 0x2_0000, 0x1000_0000, 0x4000_0000 | CLONE_FILES] {
            assert_eq!(ctx.call(UNSHARE, &[namespace]), Err(Errno::EPERM));
        }
        let all = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | 0x1_0000;
        let table = ctx.process.world().1;
        assert_eq!(ctx.call(UNSHARE, &[all]), Ok(0));
        assert!(Arc::ptr_eq(&table, &ctx.process.world().1), "nobody shares it");

        let pid = ctx.call(CLONE, &[CLONE_VM | CLONE_FILES | SIGCHLD, 0, 0, 0, 0]).unwrap();
        let child = ctx.kernel.processes.process(u32::try_from(pid).unwrap()).unwrap();
        assert_eq!(ctx.call(UNSHARE, &[CLONE_VM]), Err(Errno::EINVAL), "two processes have the memory");
        assert_eq!(ctx.call(UNSHARE, &[CLONE_SIGHAND]), Ok(0));
        assert_eq!(ctx.call(CLOSE_RANGE, &[0, u64::from(u32::MAX), 2]), Ok(0));
        let own = ctx.process.world().1;
        assert!(Arc::ptr_eq(&own, &ctx.process.tables(ctx.thread).0) && !Arc::ptr_eq(&own, &table));
        assert!(own.numbers(0, 9).is_empty());
        assert!(Arc::ptr_eq(&table, &child.world().1));
        assert_eq!(table.numbers(0, 9), [0, 1, 2]);
        assert!(table.users().is_one() && own.users().is_one());
        assert!(ctx.thread.has_work(crate::thread::WORK_WORLD));
        host(&world, 0, calls(vec![[EXIT_GROUP, 0, 0, 0]])).join().unwrap();
        assert!(table.numbers(0, 9).is_empty(), "the last has ended");
    });
}

#[test]
fn a_thread_takes_tables_of_its_own_until_it_ends() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let (table, places) = ctx.process.tables(ctx.thread);
        let tid = ctx.call(CLONE, &[THREAD, 0x5000, SCRATCH, SCRATCH, 0]).unwrap();
        assert!(!table.users().is_one());
        for apart in [CLONE_VM, CLONE_SIGHAND, CLONE_SYSVSEM, 0x1_0000, 0x1000_0000] {
            assert_eq!(ctx.call(UNSHARE, &[apart]), Err(Errno::EINVAL));
        }
        let thread = ctx.kernel.processes.thread(u32::try_from(tid).unwrap()).unwrap();
        host(
            &world,
            0,
            calls(vec![
                [UNSHARE, CLONE_FILES | CLONE_FS, 0, 0],
                [CLOSE_RANGE, 1, 2, 0],
                [CLOSE_RANGE, 0, 0, 2],
                [EXIT, 0, 0, 0],
            ]),
        )
        .join()
        .unwrap();
        assert_eq!(table.numbers(0, 9), [0, 1, 2]);
        assert!(table.users().is_one());
        let after = ctx.process.tables(&thread);
        assert!(
            Arc::ptr_eq(&after.0, &table) && Arc::ptr_eq(&after.1, &places),
            "what it had is gone with it"
        );
    });
}

#[test]
fn the_first_thread_leaves_its_tables_to_the_others() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let table = ctx.process.tables(ctx.thread).0;
        let tid = ctx.call(CLONE, &[THREAD, 0x5000, SCRATCH, SCRATCH, 0]).unwrap();
        let thread = ctx.kernel.processes.thread(u32::try_from(tid).unwrap()).unwrap();
        assert_eq!(ctx.call(UNSHARE, &[CLONE_FILES]), Ok(0));
        assert!(!Arc::ptr_eq(&ctx.process.world().1, &table));
        assert!(Arc::ptr_eq(&ctx.process.tables(&thread).0, &table) && table.users().is_one());
        host(&world, 0, calls(vec![[EXIT, 0, 0, 0]])).join().unwrap();
        assert!(table.numbers(0, 9).is_empty(), "nobody has it any more");
        assert_eq!(ctx.process.world().1.numbers(0, 9), [0, 1, 2]);
    });
}

#[test]
fn a_thread_that_was_not_to_share_descriptors_has_its_own() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let tid =
            ctx.call(CLONE, &[THREAD & !(CLONE_FILES | CLONE_FS), 0x5000, SCRATCH, SCRATCH, 0]).unwrap();
        let thread = ctx.kernel.processes.thread(u32::try_from(tid).unwrap()).unwrap();
        let (files, fs) = ctx.process.tables(&thread);
        let (shared, places) = ctx.process.tables(ctx.thread);
        assert!(!Arc::ptr_eq(&files, &shared) && !Arc::ptr_eq(&fs, &places));
        assert!(files.users().is_one() && shared.users().is_one());
        host(&world, 0, calls(vec![[EXIT, 0, 0, 0]])).join().unwrap();
        assert!(files.numbers(0, 9).is_empty());
    });
}
