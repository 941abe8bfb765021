//! Calls that tell and remember.

use super::{Support, TABLE};
use crate::testing::{SCRATCH, World};
use fake_platform::FakePlatform;
use kbase::Errno;
use linux_abi::process::{Rlimit, Utsname, resource};
use linux_abi::time::Timespec;
use platform::{Clocks, Level};

const DATA: u64 = SCRATCH + 0x100;
/// Nothing is mapped there.
const NOWHERE: u64 = 0x1_0000;

fn now(world: &World) -> u64 {
    world.platform.monotonic_ns()
}

#[test]
fn identity_is_that_of_root_until_it_is_given_up() {
    World::new().with_ctx(|ctx| {
        let pid = u64::from(ctx.process.pid);
        for (number, value) in
            [(39, pid), (110, 0), (186, pid), (102, 0), (107, 0), (104, 0), (108, 0), (111, pid)]
        {
            assert_eq!(ctx.call(number, &[]), Ok(value), "{number}");
        }
        // setgroups, setresgid, setresuid to a service's user.
        ctx.poke(DATA, [7u32, 5]);
        assert_eq!(ctx.call(116, &[2, DATA]), Ok(0));
        assert_eq!(ctx.call(119, &[33, 33, 33]), Ok(0));
        assert_eq!(ctx.call(117, &[33, 33, 33]), Ok(0));
        assert_eq!(ctx.call(102, &[]), Ok(33));
        assert_eq!(ctx.call(105, &[0]), Err(Errno::EPERM));
        assert_eq!(ctx.call(116, &[0, 0]), Err(Errno::EPERM));
        assert_eq!(ctx.call(115, &[0, 0]), Ok(2));
        assert_eq!(ctx.call(115, &[1, DATA]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(115, &[2, DATA]), Ok(2));
        assert_eq!(ctx.peek::<[u32; 2]>(DATA), [5, 7]);
    });
}

#[test]
fn affinity_takes_and_gives_buffers_of_any_size() {
    World::new().with_ctx(|ctx| {
        // The fake host has two processors.
        assert_eq!(ctx.call(204, &[0, 128, DATA]), Ok(8));
        assert_eq!(ctx.peek::<u64>(DATA), 3);
        assert_eq!(ctx.call(204, &[0, 8, DATA]), Ok(8));
        assert_eq!(ctx.call(204, &[0, 0, DATA]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(204, &[0, 12, DATA]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(204, &[0, 8, NOWHERE]), Err(Errno::EFAULT));
        ctx.poke(DATA, 2u8);
        assert_eq!(ctx.call(203, &[0, 1, DATA]), Ok(0));
        assert_eq!(ctx.call(204, &[0, 8, DATA]), Ok(8));
        assert_eq!(ctx.peek::<u64>(DATA), 2);
        ctx.poke(DATA, 4u64);
        assert_eq!(ctx.call(203, &[0, 8, DATA]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(203, &[9999, 8, DATA]), Err(Errno::ESRCH));
    });
}

#[test]
fn clocks_agree_with_the_platform_and_refuse_to_be_set() {
    let world = World::new();
    world.with_ctx(|ctx| {
        for clock in [0u64, 1, 2, 3, 4, 5, 6, 7, 11] {
            assert_eq!(ctx.call(228, &[clock, DATA]), Ok(0), "clock {clock}");
        }
        assert_eq!(ctx.call(228, &[1, DATA]), Ok(0));
        assert_eq!(ctx.peek::<Timespec>(DATA).to_ns(), Some(now(&world)));
        assert_eq!(ctx.call(228, &[99, DATA]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(228, &[1, NOWHERE]), Err(Errno::EFAULT));
        assert_eq!(ctx.call(227, &[0, DATA]), Err(Errno::EPERM));
        assert_eq!(ctx.call(227, &[1, DATA]), Err(Errno::EINVAL));
    });
}

#[test]
fn sleeping_takes_the_time_that_is_asked_for() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let start = now(&world);
        ctx.poke(DATA, Timespec { tv_sec: 0, tv_nsec: 500 });
        assert_eq!(ctx.call(35, &[DATA, 0]), Ok(0));
        assert_eq!(now(&world), start + 500);
        ctx.poke(DATA, Timespec::from_ns(start + 2000));
        assert_eq!(ctx.call(230, &[1, 1, DATA, 0]), Ok(0));
        assert_eq!(now(&world), start + 2000);
        // A time that is over.
        assert_eq!(ctx.call(230, &[1, 1, DATA, 0]), Ok(0));
        ctx.poke(DATA, Timespec { tv_sec: 0, tv_nsec: 1_000_000_000 });
        assert_eq!(ctx.call(35, &[DATA, 0]), Err(Errno::EINVAL));
        ctx.poke(DATA, Timespec { tv_sec: -1, tv_nsec: 0 });
        assert_eq!(ctx.call(35, &[DATA, 0]), Err(Errno::EINVAL));
    });
}

#[test]
fn limits_bound_each_other() {
    World::new().with_ctx(|ctx| {
        let nofile = resource::NOFILE as u64;
        let set = |soft: u64, hard: u64| {
            ctx.poke(DATA, Rlimit { rlim_cur: soft, rlim_max: hard });
            ctx.call(302, &[0, nofile, DATA, DATA + 16])
        };
        assert_eq!(set(100, 200), Ok(0));
        assert_eq!(ctx.peek::<Rlimit>(DATA + 16).rlim_cur, 1024);
        assert_eq!(set(300, 200), Err(Errno::EINVAL));
        assert_eq!(set(1, 1 << 30), Err(Errno::EPERM));
        assert_eq!(ctx.call(97, &[nofile, DATA]), Ok(0));
        assert_eq!(ctx.peek::<Rlimit>(DATA), Rlimit { rlim_cur: 100, rlim_max: 200 });
        assert_eq!(ctx.call(97, &[16, DATA]), Err(Errno::EINVAL));
    });
}

#[test]
fn a_thread_has_the_name_that_it_took() {
    World::new().with_ctx(|ctx| {
        ctx.poke_bytes(DATA, b"a name that is too long\0");
        assert_eq!(ctx.call(157, &[15, DATA]), Ok(0));
        assert_eq!(ctx.call(157, &[16, DATA + 64]), Ok(0));
        assert_eq!(&ctx.peek::<[u8; 16]>(DATA + 64), b"a name that is \0");
        assert_eq!(ctx.call(157, &[9999]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(157, &[23, 40]), Ok(1));
        assert_eq!(ctx.call(157, &[24, 40]), Ok(0));
        assert_eq!(ctx.call(157, &[23, 40]), Ok(0));
        assert_eq!(ctx.call(157, &[23, 41]), Err(Errno::EINVAL));
    });
}

#[test]
fn random_bytes_come_in_any_number_and_stop_at_bad_memory() {
    World::new().with_ctx(|ctx| {
        assert_eq!(ctx.call(318, &[DATA, 1000, 0]), Ok(1000));
        assert_ne!(ctx.peek::<[u64; 2]>(DATA + 984), [0; 2]);
        assert_eq!(ctx.call(318, &[DATA, 8, 8]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(318, &[DATA, 8, 6]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(318, &[NOWHERE, 8, 0]), Err(Errno::EFAULT));
    });
}

#[test]
fn the_system_says_that_it_is_linux() {
    World::new().with_ctx(|ctx| {
        assert_eq!(ctx.call(63, &[DATA]), Ok(0));
        let names = ctx.peek::<Utsname>(DATA);
        assert!(names.sysname.starts_with(b"Linux\0") && names.machine.starts_with(b"x86_64\0"));
        assert_eq!(ctx.call(170, &[DATA, 1]), Err(Errno::EPERM));
        assert_eq!(ctx.call(334, &[DATA, 32, 0, 0]), Err(Errno::ENOSYS));
    });
}

#[test]
fn priorities_fit_their_policies() {
    World::new().with_ctx(|ctx| {
        assert_eq!(ctx.call(146, &[1]), Ok(99));
        assert_eq!(ctx.call(147, &[1]), Ok(1));
        assert_eq!(ctx.call(147, &[0]), Ok(0));
        assert_eq!(ctx.call(146, &[77]), Err(Errno::EINVAL));
        ctx.poke(DATA, 0i32);
        assert_eq!(ctx.call(144, &[0, 1, DATA]), Err(Errno::EINVAL));
        ctx.poke(DATA, 10i32);
        assert_eq!(ctx.call(144, &[0, 1, DATA]), Ok(0));
        assert_eq!(ctx.call(145, &[0]), Ok(1));
        assert_eq!(ctx.call(141, &[0, 0, (-5i32).cast_unsigned().into()]), Ok(0));
        assert_eq!(ctx.call(140, &[0, 0]), Ok(25));
    });
}

#[test]
fn every_number_that_linux_has_is_in_the_table_once() {
    // As of Linux 6.18. 336 to 423 are those of no call: numbers are the same on all architectures from 424 on.
    let numbers: Vec<u64> = TABLE.iter().map(|&(number, ..)| number).collect();
    let expected: Vec<u64> = (0..=335).chain(424..=469).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn the_names_are_those_of_the_headers() {
    let header = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let Ok(text) = std::fs::read_to_string(header) else {
        assert!(std::env::var_os("CI").is_none(), "`{header}` is missing: apt-get install linux-libc-dev");
        eprintln!("SKIPPED: `{header}` is missing: apt-get install linux-libc-dev");
        return;
    };
    let mut count = 0;
    for line in text.lines() {
        let Some((name, number)) = line.strip_prefix("#define __NR_").and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let number: u64 = number.trim().parse().unwrap();
        assert_eq!(super::name(number), Some(name), "{number}");
        count += 1;
    }
    assert!(count > 350, "the header lists {count} calls");
}

#[test]
fn a_call_that_is_missing_answers_enosys_and_one_warning_names_it() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let missing: Vec<(u64, &str)> = TABLE
            .iter()
            .filter(|(.., support)| *support == Support::Missing)
            .map(|&(number, name, _)| (number, name))
            // Glibc asks for it in each thread and does without: not worth a warning.
            .filter(|&(_, name)| name != "rseq")
            .collect();
        assert!(missing.len() > 50);
        for (number, name) in missing {
            let before = world.platform.log_lines().len();
            for _ in 0..3 {
                assert_eq!(ctx.call(number, &[]), Err(Errno::ENOSYS), "{name}");
            }
            let lines = &world.platform.log_lines()[before..];
            assert_eq!(lines.len(), 1, "{name}: {lines:?}");
            assert_eq!(lines[0].0, Level::Warn);
            assert!(lines[0].1.contains(&format!("{number} ({name})")), "{lines:?}");
        }
        for number in [336, 423, 470, 511, u64::MAX] {
            assert_eq!(ctx.call(number, &[]), Err(Errno::ENOSYS), "{number}");
        }
        assert_eq!(ctx.call(334, &[]), Err(Errno::ENOSYS), "rseq");
    });
}

#[test]
fn a_trace_shows_names_strings_and_addresses_as_people_read_them() {
    let platform = FakePlatform::new();
    platform.want_trace();
    World::on(platform.clone()).with_ctx(|ctx| {
        ctx.poke_bytes(DATA, b"/a\"b\0");
        let cwd = (-100i64).cast_unsigned();
        assert_eq!(ctx.call(257, &[cwd, DATA, 0x8_0241, 0o640]), Ok(3));
        assert_eq!(ctx.call(1, &[3, DATA, 4]), Ok(4));
        assert_eq!(ctx.call(1, &[3, DATA, 40]), Ok(40));
        assert_eq!(ctx.call(2, &[DATA, 3 | 1 << 30, 0]), Ok(4));
        assert_eq!(ctx.call(3, &[3]), Ok(0));
        assert_eq!(ctx.call(3, &[3]), Err(Errno::EBADF));
        assert_eq!(ctx.call(9, &[0, 4096, 3, 0x22, u64::MAX, 0]).map(|_| ()), Ok(()));
        assert_eq!(ctx.call(11, &[0x4000_0000, 4096]), Ok(0));
        assert_eq!(ctx.call(12, &[0]).map(|_| ()), Ok(()));
        assert_eq!(ctx.call(425, &[1, 2]), Err(Errno::ENOSYS));
    });
    let lines = platform.trace_lines();
    let expected = [
        r#"openat(AT_FDCWD, "/a\"b", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0o640) = 3"#,
        r#"write(3, "/a\"b", 4) = 4"#,
        r#"write(3, "/a\"b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"..., 40) = 40"#,
        r#"open("/a\"b", O_ACCMODE|0x40000000, 0o0) = 4"#,
        "close(3) = 0",
        "close(3) = -1 EBADF",
        "mmap(NULL, 4096, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0) = 0x",
        "munmap(0x40000000, 4096) = 0",
        "brk(NULL) = ",
        "io_uring_setup(0x1, 0x2, 0x0, 0x0, 0x0, 0x0) = -1 ENOSYS",
    ];
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(expected) {
        let (pid, call) = line.split_once("] ").unwrap();
        assert!(pid.starts_with("[pid ") && call.starts_with(expected), "{line} is not {expected}");
    }
}

#[test]
fn a_signal_ends_a_long_transfer_between_files_after_a_part() {
    World::new().with_ctx(|ctx| {
        ctx.poke_bytes(DATA, b"name\0");
        let (from, to) = (ctx.call(319, &[DATA, 0]).unwrap(), ctx.call(319, &[DATA, 0]).unwrap());
        // ftruncate, kill with SIGUSR1
        ctx.call(77, &[from, 1 << 20]).unwrap();
        ctx.call(62, &[ctx.process.pid.into(), 10]).unwrap();
        let part = ctx.call(40, &[to, from, 0, 1 << 20]).unwrap();
        assert!(part > 0 && part < 1 << 20);
    });
}
