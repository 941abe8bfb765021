//! Files of a process: `/proc/PID/…`, `/proc/PID/task/TID/…`.

use super::{Text, put};
use crate::fs::{OpenFile, tty};
use crate::vm::{Backing, Role, Vma};
use crate::{Kernel, Process, Thread};
use alloc::string::String;
use core::sync::atomic::Ordering;
use kbase::Result;
use linux_abi::fs::major_minor;
use linux_abi::process::{RLIM_INFINITY, resource};
use linux_abi::time::{CLOCKS_PER_SEC, NSEC_PER_SEC};
use platform::{PAGE_SIZE, Protection};

/// Whom a file is about.
pub(super) struct Subject<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) process: &'a Process,
    pub(super) thread: &'a Thread,
}

/// Makes the text of a file.
pub(super) type Make = fn(&Subject<'_>, &mut Text) -> Result<()>;

/// The files, by name.
pub(super) const FILES: &[(&str, Make)] = &[
    ("auxv", auxv),
    ("cgroup", cgroup),
    ("cmdline", cmdline),
    ("comm", comm),
    ("environ", environ),
    ("limits", limits),
    ("maps", maps),
    ("mountinfo", mountinfo),
    ("mounts", mounts),
    ("oom_score", zero),
    ("oom_score_adj", oom_score_adj),
    ("smaps", smaps),
    ("stat", stat),
    ("statm", statm),
    ("status", status),
];

/// Whether a file takes what is written and has no use for it.
pub(super) fn takes_writes(make: Make) -> bool {
    core::ptr::fn_addr_eq(make, oom_score_adj as Make) || core::ptr::fn_addr_eq(make, comm as Make)
}

fn zero(_: &Subject<'_>, text: &mut Text) -> Result<()> {
    text.bytes(b"0\n");
    Ok(())
}

fn oom_score_adj(_: &Subject<'_>, text: &mut Text) -> Result<()> {
    text.bytes(b"0\n");
    Ok(())
}

fn cgroup(_: &Subject<'_>, text: &mut Text) -> Result<()> {
    text.bytes(b"0::/\n");
    Ok(())
}

fn auxv(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    text.bytes(&subject.process.program.lock().auxv);
    Ok(())
}

fn cmdline(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    text.bytes(&subject.process.program.lock().arguments);
    Ok(())
}

fn environ(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    text.bytes(&subject.process.program.lock().environment);
    Ok(())
}

fn name(thread: &Thread, text: &mut Text) {
    let name = *thread.name.lock();
    text.bytes(name.split(|&byte| byte == 0).next().unwrap_or_default());
}

fn comm(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    name(subject.thread, text);
    text.bytes(b"\n");
    Ok(())
}

/// Bytes mapped in all, for data, and for the stack; pages that are committed now.
struct Sizes {
    total: u64,
    data: u64,
    stack: u64,
    text: u64,
    resident: u64,
    peak: u64,
}

fn sizes(process: &Process) -> Sizes {
    let space = process.world().0;
    let (resident, peak) = space.resident();
    let mut sizes = Sizes { total: 0, data: 0, stack: 0, text: 0, resident, peak };
    for (start, vma) in space.mappings() {
        let len = vma.end.saturating_sub(start);
        sizes.total += len;
        match vma.role {
            Role::Stack => sizes.stack += len,
            _ if vma.protection.contains(Protection::EXEC) => sizes.text += len,
            _ if vma.protection.contains(Protection::WRITE) => sizes.data += len,
            _ => {}
        }
    }
    sizes
}

fn stat(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    let process = subject.process;
    let sizes = sizes(process);
    put!(text, "{} (", subject.thread.tid());
    name(subject.thread, text);
    let load = |number: &core::sync::atomic::AtomicU32| number.load(Ordering::Relaxed);
    let (terminal, foreground) = tty::terminal_of(subject.kernel, process)
        .map_or((0, -1), |(number, group)| (number, i64::from(group)));
    let (own, children) = (process.cpu_times(), process.times.children());
    let ticks = |ns: u64| ns / (NSEC_PER_SEC / CLOCKS_PER_SEC);
    put!(
        text,
        ") R {} {} {} {} {} 4194304 0 0 0 0 {} {} {} {} 20 0 {} 0 0 {} {} 18446744073709551615",
        load(&process.parent),
        load(&process.group),
        load(&process.session),
        terminal,
        foreground,
        ticks(own.user),
        ticks(own.system),
        ticks(children.user),
        ticks(children.system),
        process.threads().len(),
        sizes.total,
        sizes.resident,
    );
    // startcode … wchan, nswap, cnswap, exit_signal, processor, rt_priority, policy, delays, guest, …
    put!(text, " 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(())
}

fn statm(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    let sizes = sizes(subject.process);
    let pages = |bytes: u64| bytes / PAGE_SIZE;
    put!(
        text,
        "{} {} 0 {} 0 {} 0\n",
        pages(sizes.total),
        sizes.resident,
        pages(sizes.text),
        pages(sizes.data + sizes.stack)
    );
    Ok(())
}

fn status(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    let process = subject.process;
    let sizes = sizes(process);
    let (files, fs) = process.tables(subject.thread);
    let kib = |bytes: u64| bytes / 1024;
    let pages = |pages: u64| pages * PAGE_SIZE / 1024;
    text.bytes(b"Name:\t");
    name(subject.thread, text);
    put!(text, "\nUmask:\t{:04o}\nState:\tR (running)\n", fs.umask());
    put!(text, "Tgid:\t{}\nNgid:\t0\nPid:\t{}\n", process.pid, subject.thread.tid());
    put!(text, "PPid:\t{}\nTracerPid:\t0\n", process.parent.load(Ordering::Relaxed));
    let credentials = &process.credentials;
    for (name, ids) in [("Uid", &credentials.users), ("Gid", &credentials.groups)] {
        let [real, effective, saved] = ids.get();
        put!(text, "{name}:\t{real}\t{effective}\t{saved}\t{effective}\n");
    }
    put!(text, "FDSize:\t{}\nGroups:\t \n", files.numbers(0, usize::MAX).len().next_power_of_two().max(64));
    put!(text, "VmPeak:\t{:8} kB\nVmSize:\t{:8} kB\n", kib(sizes.total), kib(sizes.total));
    put!(text, "VmLck:\t       0 kB\nVmPin:\t       0 kB\n");
    put!(text, "VmHWM:\t{:8} kB\nVmRSS:\t{:8} kB\n", pages(sizes.peak), pages(sizes.resident));
    put!(text, "RssAnon:\t{:8} kB\nRssFile:\t       0 kB\nRssShmem:\t       0 kB\n", pages(sizes.resident));
    put!(text, "VmData:\t{:8} kB\nVmStk:\t{:8} kB\n", kib(sizes.data), kib(sizes.stack));
    put!(text, "VmExe:\t{:8} kB\nVmLib:\t       0 kB\nVmPTE:\t       0 kB\n", kib(sizes.text));
    put!(text, "VmSwap:\t       0 kB\nThreads:\t{}\n", process.threads().len());
    let signals = &process.signals;
    let limit = process.limit(resource::SIGPENDING);
    put!(text, "SigQ:\t{}/{limit}\n", process.credentials.account().signals());
    put!(text, "SigPnd:\t{:016x}\n", subject.thread.signals.pending().0);
    put!(text, "ShdPnd:\t{:016x}\n", signals.pending().0);
    put!(text, "SigBlk:\t{:016x}\n", subject.thread.signals.mask().0);
    let (ignored, caught) = signals.ignored_and_caught();
    put!(text, "SigIgn:\t{:016x}\nSigCgt:\t{:016x}\n", ignored.0, caught.0);
    let (capabilities, bounding) = (credentials.capabilities(), credentials.bounding());
    put!(text, "CapInh:\t{:016x}\nCapPrm:\t{:016x}\n", capabilities.inheritable, capabilities.permitted);
    put!(text, "CapEff:\t{:016x}\nCapBnd:\t{bounding:016x}\nCapAmb:\t{:016x}\n", capabilities.effective, 0);
    put!(text, "NoNewPrivs:\t0\nSeccomp:\t0\n");
    let cpus = subject.kernel.platform().host_facts().cpus.max(1);
    put!(text, "Cpus_allowed_list:\t0-{}\nMems_allowed_list:\t0\n", cpus - 1);
    put!(text, "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
    Ok(())
}

/// One line of `maps`, without its newline.
fn map_line(start: u64, vma: &Vma, text: &mut Text) {
    let begin = text.0.len();
    let flag = |protection: Protection, letter: char| {
        if vma.protection.contains(protection) { letter } else { '-' }
    };
    let (read, write) = (flag(Protection::READ, 'r'), flag(Protection::WRITE, 'w'));
    let execute = flag(Protection::EXEC, 'x');
    let shared = if vma.is_shared { 's' } else { 'p' };
    put!(text, "{start:08x}-{:08x} {read}{write}{execute}{shared} ", vma.end);
    let file = match &vma.backing {
        Backing::File { file, offset, .. } => Some((file, *offset)),
        Backing::Anonymous | Backing::Stubs { .. } => None,
    };
    match &file {
        Some((file, offset)) => {
            let metadata = file.file.metadata();
            let (dev, ino) = metadata.map_or((0, 0), |metadata| (metadata.dev, metadata.ino));
            let (major, minor) = major_minor(dev);
            put!(text, "{offset:08x} {major:02x}:{minor:02x} {ino} ");
        }
        None => put!(text, "00000000 00:00 0 "),
    }
    let shown: &[u8] = match (&file, vma.role) {
        (Some((file, _)), _) => &file.path,
        (None, Role::Heap) => b"[heap]",
        (None, Role::Stack) => b"[stack]",
        (None, Role::Mapping) => b"",
    };
    if !shown.is_empty() {
        // Linux puts the name into column 74.
        let width = text.0.len() - begin;
        text.0.resize(begin + width.max(73), b' ');
        for &byte in shown {
            if byte == b'\n' { text.bytes(b"\\012") } else { text.bytes(&[byte]) }
        }
    }
}

fn maps(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    for (start, vma) in subject.process.world().0.mappings() {
        map_line(start, &vma, text);
        text.bytes(b"\n");
    }
    Ok(())
}

fn smaps(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    for (start, vma) in subject.process.world().0.mappings() {
        map_line(start, &vma, text);
        let kib = vma.end.saturating_sub(start) / 1024;
        put!(text, "\nSize:           {kib:8} kB\nKernelPageSize:        4 kB\n");
        put!(text, "MMUPageSize:           4 kB\nRss:            {kib:8} kB\n");
        put!(text, "Pss:            {kib:8} kB\nSwap:                  0 kB\n");
    }
    Ok(())
}

fn limits(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    const ROWS: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    put!(text, "{:<26}{:<21}{:<21}{:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let limits = *subject.process.limits.lock();
    let show = |value: u64| match value {
        RLIM_INFINITY => String::from("unlimited"),
        value => alloc::format!("{value}"),
    };
    for ((name, unit), limit) in ROWS.iter().zip(&limits) {
        put!(text, "{name:<26}{:<21}{:<21}{unit:<10}\n", show(limit.rlim_cur), show(limit.rlim_max));
    }
    Ok(())
}

/// Bytes of a path with the escapes of `/proc/mounts`.
fn escaped(path: &[u8], text: &mut Text) {
    for &byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => put!(text, "\\{byte:03o}"),
            _ => text.bytes(&[byte]),
        }
    }
}

fn mount_options(mount: &vfs::Mount) -> String {
    let options = mount.options();
    let mut line = String::from(if mount.is_read_only() { "ro" } else { "rw" });
    for (is_set, option) in [(options.no_dev, ",nodev"), (options.no_exec, ",noexec")] {
        if is_set {
            line.push_str(option);
        }
    }
    line.push_str(",noatime");
    line
}

fn mounts(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    let namespace = subject.kernel.mounts.namespace();
    for (mount, root) in namespace.mounts() {
        escaped(mount.options().source.as_bytes(), text);
        text.bytes(b" ");
        escaped(&root.path_from(namespace.root()).path, text);
        put!(text, " {} {} 0 0\n", mount.fs().type_name(), mount_options(&mount));
    }
    Ok(())
}

fn mountinfo(subject: &Subject<'_>, text: &mut Text) -> Result<()> {
    let namespace = subject.kernel.mounts.namespace();
    for (mount, root) in namespace.mounts() {
        let dev = root.node().inode().metadata().map_or(0, |metadata| metadata.dev);
        let (major, minor) = major_minor(dev);
        let parent = root.parent().and_then(|parent| parent.mount().map(|mount| mount.id()));
        put!(text, "{} {} {major}:{minor} / ", mount.id(), parent.unwrap_or(0));
        escaped(&root.path_from(namespace.root()).path, text);
        let options = mount_options(&mount);
        put!(text, " {options} - {} ", mount.fs().type_name());
        escaped(mount.options().source.as_bytes(), text);
        put!(text, " {}\n", if mount.is_read_only() { "ro" } else { "rw" });
    }
    Ok(())
}

/// A file of `/proc/PID/fdinfo`.
pub(super) fn descriptor(open: &OpenFile, text: &mut Text) {
    let mount = open.dentry().and_then(|dentry| dentry.mount().map(|mount| mount.id()));
    put!(
        text,
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{}\n",
        open.tell(),
        open.flags().bits(),
        mount.unwrap_or(0)
    );
}
