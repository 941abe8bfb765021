//! `/proc` and `/sys`.

use super::*;

fn text(w: &World, path: &str) -> String {
    String::from_utf8(w.cat(path).unwrap_or_else(|errno| panic!("{path}: {errno:?}"))).unwrap()
}

fn running() -> World {
    let w = World::new();
    w.process.threads()[0].attach();
    w
}

#[test]
fn a_process_finds_itself() {
    let w = running();
    let pid = w.process.pid;
    assert_eq!(w.readlink("/proc/self"), Ok(pid.to_string().into_bytes()));
    assert_eq!(w.readlink("/proc/thread-self"), Ok(format!("{pid}/task/{pid}").into_bytes()));
    assert_eq!(text(&w, "/proc/self/comm"), "tester\n");
    assert_eq!(text(&w, "/proc/self/cmdline"), "tester\0-x\0");
    assert_eq!(text(&w, "/proc/self/environ"), "HOME=/\0");
    let page_size = "\u{6}\0\0\0\0\0\0\0\0\u{10}\0\0\0\0\0\0";
    assert!(text(&w, "/proc/self/auxv").starts_with(page_size));
    assert_eq!(text(&w, &format!("/proc/{pid}/task/{pid}/comm")), "tester\n");
    assert!(w.list("/proc").unwrap().contains(&pid.to_string()));
    assert_eq!(w.open("/proc/99999", 0), Err(Errno::ENOENT));
    assert_eq!(w.open("/proc/01", 0), Err(Errno::ENOENT));
    w.call(80, [w.path("/dev")]).unwrap();
    assert_eq!(w.readlink("/proc/self/cwd"), Ok(b"/dev".to_vec()));
    assert_eq!(w.readlink("/proc/self/root"), Ok(b"/".to_vec()));
}

#[test]
fn descriptors_lead_to_what_they_are() {
    let w = running();
    w.make("/f", b"12345");
    let fd = w.open("/f", O_RDWR).unwrap();
    w.read(fd, 2).unwrap();
    let link = format!("/proc/self/fd/{fd}");
    assert_eq!(w.readlink(&link), Ok(b"/f".to_vec()));
    assert_eq!(text(&w, &link), "12345");
    assert!(text(&w, &format!("/proc/self/fdinfo/{fd}")).starts_with("pos:\t2\nflags:\t0100002\n"));
    w.call(87, [w.path("/f")]).unwrap();
    assert_eq!(w.readlink(&link), Ok(b"/f (deleted)".to_vec()));
    assert_eq!(text(&w, &link), "12345", "also when it has no name any more");
    w.call(293, [MEMORY, O_NONBLOCK]).unwrap();
    let reader = u32::from_le_bytes(w.peek(MEMORY, 4).try_into().unwrap());
    let shown = w.readlink(&format!("/proc/self/fd/{reader}")).unwrap();
    assert!(shown.starts_with(b"pipe:["), "{}", shown.escape_ascii());
    let again = w.open(&format!("/dev/fd/{reader}"), O_NONBLOCK).unwrap();
    w.write(u64::from(reader) + 1, b"piped").unwrap();
    assert_eq!(w.read(again, 9), Ok(b"piped".to_vec()));
    let out = w.open("/dev/stdout", O_WRONLY).unwrap();
    w.write(out, b"through /dev").unwrap();
    assert_eq!(w.platform.output(1), b"through /dev");
    assert_eq!(w.list("/proc/self/fd").unwrap()[2..5], ["0", "1", "2"]);
    assert_eq!(w.open("/proc/self/fd/99", 0), Err(Errno::ENOENT));
}

#[test]
fn maps_show_the_memory() {
    let w = running();
    let maps = text(&w, "/proc/self/maps");
    assert!(maps.contains("00100000-00200000 rw-p 00000000 00:00 0"), "{maps}");
    assert!(text(&w, "/proc/self/status").contains("\nVmSize:\t    1024 kB\n"));
    assert!(text(&w, "/proc/self/statm").starts_with("256 "));
    let stat = text(&w, "/proc/self/stat");
    assert_eq!(stat.split(' ').count(), 52, "{stat}");
}

#[test]
fn the_status_tells_of_signals() {
    const ACTION: u64 = MEMORY + MEMORY_LEN - 0x200;
    let w = running();
    let set = |name: &str| {
        let status = text(&w, "/proc/self/status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    for name in ["SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:"] {
        assert_eq!(set(name), 0, "{name}");
    }
    // SIGUSR1 is caught, SIGUSR2 ignored, both are blocked, and SIGUSR1 waits.
    for (signal, handler) in [(10, 0x1234_u64), (12, 1)] {
        w.poke(ACTION, &[handler, 0x400_0000, 0x1234, 0].map(u64::to_le_bytes).concat());
        assert_eq!(w.call(13, [signal, ACTION, 0, 8]), Ok(0));
    }
    let both = 1 << 9 | 1 << 11;
    w.poke(ACTION, &u64::to_le_bytes(both));
    assert_eq!(w.call(14, [0, ACTION, 0, 8]), Ok(0));
    assert_eq!(w.call(62, [w.process.pid.into(), 10]), Ok(0));
    assert_eq!((set("SigBlk:"), set("SigIgn:"), set("SigCgt:")), (both, 1 << 11, 1 << 9));
    assert_eq!((set("SigPnd:"), set("ShdPnd:")), (0, 1 << 9));
}

#[test]
fn the_machine_is_described() {
    let w = running();
    assert!(text(&w, "/proc/meminfo").starts_with("MemTotal:         262144 kB\n"));
    assert!(text(&w, "/proc/cpuinfo").contains("processor\t: 0\n"));
    assert_eq!(text(&w, "/proc/sys/kernel/hostname"), "tester\n");
    assert_eq!(text(&w, "/proc/sys/vm/overcommit_memory"), "1\n");
    assert_eq!(text(&w, "/proc/sys/kernel/random/boot_id").len(), 37);
    assert_eq!(text(&w, "/proc/sys/kernel/random/boot_id"), text(&w, "/proc/sys/kernel/random/boot_id"));
    assert_ne!(text(&w, "/proc/sys/kernel/random/uuid"), text(&w, "/proc/sys/kernel/random/uuid"));
    assert_eq!(w.list("/proc/sys").unwrap(), [".", "..", "fs", "kernel", "net", "vm"]);
    let mounts = text(&w, "/proc/mounts");
    assert!(mounts.starts_with("tmpfs / tmpfs rw,noatime 0 0\n"), "{mounts}");
    assert!(mounts.contains("tmpfs /ro tmpfs ro,noatime 0 0\n"));
    assert_eq!(text(&w, "/proc/self/mountinfo").lines().count(), mounts.lines().count());
    for name in w.list("/proc").unwrap() {
        if w.stat(&format!("/proc/{name}")).unwrap().0 & 0o170_000 == 0o100_000 {
            text(&w, &format!("/proc/{name}"));
        }
    }
    w.call(83, [w.path("/bin"), 0o755]).unwrap();
    w.make("/bin/tester", b"program");
    assert_eq!(w.readlink("/proc/self/exe"), Ok(b"/bin/tester".to_vec()));
    assert_eq!(text(&w, "/proc/self/exe"), "program");
    for name in w.list("/proc/self").unwrap() {
        if w.stat(&format!("/proc/self/{name}")).unwrap().0 & 0o170_000 == 0o100_000 {
            text(&w, &format!("/proc/self/{name}"));
        }
    }
}

#[test]
fn settings_are_read_only() {
    let w = running();
    let fd = w.open("/proc/sys/kernel/hostname", O_WRONLY).unwrap();
    assert_eq!(w.write(fd, b"other"), Err(Errno::EACCES));
    let fd = w.open("/proc/self/oom_score_adj", O_WRONLY | O_TRUNC).unwrap();
    assert_eq!(w.write(fd, b"-500"), Ok(4));
    assert_eq!(w.open("/proc/new", O_CREAT | O_WRONLY), Err(Errno::EROFS));
}

#[test]
fn sys_counts_the_processors() {
    let w =
        World::with_mounts(vec![Mount { target: "/sys".into(), source: MountSource::Sys, read_only: true }]);
    assert!(text(&w, "/sys/devices/system/cpu/online").starts_with('0'));
    assert_eq!(text(&w, "/sys/kernel/mm/transparent_hugepage/enabled"), "always madvise [never]\n");
}
