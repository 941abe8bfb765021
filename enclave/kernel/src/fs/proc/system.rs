//! Files about everything: `/proc/meminfo`, `/proc/cpuinfo`, `/proc/sys/…`.

use super::{Shared, Text, cpu, put};
use crate::Kernel;
use kbase::Result;

/// The version of Linux whose system calls this kernel follows; `uname(2)` says the same.
const RELEASE: &str = "6.12.0-occlum";

/// Makes the text of a file.
pub(super) type Make = fn(&Kernel, &Shared, &mut Text) -> Result<()>;

/// The files, by name.
pub(super) const FILES: &[(&str, Make)] = &[
    ("cmdline", empty),
    ("cpuinfo", cpu::cpuinfo),
    ("devices", devices),
    ("filesystems", filesystems),
    ("loadavg", loadavg),
    ("meminfo", meminfo),
    ("partitions", partitions),
    ("stat", stat),
    ("swaps", swaps),
    ("uptime", uptime),
    ("version", version),
];

/// The files of `/proc/sys`, by path, sorted.
pub(super) const SETTINGS: &[(&str, Make)] = &[
    ("fs/file-max", |_, _, text| line(text, "1048576")),
    ("fs/inotify/max_queued_events", |_, _, text| line(text, "16384")),
    ("fs/inotify/max_user_instances", |_, _, text| line(text, "1048576")),
    ("fs/inotify/max_user_watches", |_, _, text| line(text, "65536")),
    ("fs/mqueue/msg_default", |_, _, text| line(text, "10")),
    ("fs/mqueue/msg_max", |_, _, text| line(text, "10")),
    ("fs/mqueue/msgsize_default", |_, _, text| line(text, "8192")),
    ("fs/mqueue/msgsize_max", |_, _, text| line(text, "8192")),
    ("fs/mqueue/queues_max", |_, _, text| line(text, "256")),
    ("fs/nr_open", |_, _, text| line(text, "1048576")),
    ("fs/pipe-max-size", |_, _, text| line(text, "1048576")),
    ("kernel/cap_last_cap", |_, _, text| line(text, "40")),
    ("kernel/core_pattern", |_, _, text| line(text, "core")),
    ("kernel/domainname", |_, _, text| line(text, "(none)")),
    ("kernel/hostname", |kernel, _, text| line(text, &kernel.config().hostname)),
    ("kernel/msgmax", |_, _, text| line(text, "8192")),
    ("kernel/msgmnb", |_, _, text| line(text, "16384")),
    ("kernel/msgmni", |_, _, text| line(text, "32000")),
    ("kernel/ngroups_max", |_, _, text| line(text, "65536")),
    ("kernel/osrelease", |_, _, text| line(text, RELEASE)),
    ("kernel/ostype", |_, _, text| line(text, "Linux")),
    ("kernel/overflowgid", |_, _, text| line(text, "65534")),
    ("kernel/overflowuid", |_, _, text| line(text, "65534")),
    ("kernel/pid_max", |_, _, text| line(text, "4194304")),
    ("kernel/random/boot_id", |_, shared, text| uuid(text, shared.boot_id)),
    ("kernel/random/entropy_avail", |_, _, text| line(text, "256")),
    ("kernel/random/poolsize", |_, _, text| line(text, "256")),
    ("kernel/random/uuid", fresh_uuid),
    ("kernel/randomize_va_space", |_, _, text| line(text, "0")),
    ("kernel/seccomp/actions_avail", |_, _, text| line(text, "")),
    ("kernel/sem", |_, _, text| line(text, "32000\t1024000000\t500\t32000")),
    ("kernel/shmall", |_, _, text| line(text, "18446744073692774399")),
    ("kernel/shmmax", |_, _, text| line(text, "18446744073692774399")),
    ("kernel/shmmni", |_, _, text| line(text, "4096")),
    ("kernel/threads-max", |kernel, _, text| {
        put!(text, "{}\n", kernel.config().limits.max_threads);
        Ok(())
    }),
    ("kernel/version", |_, _, text| line(text, "#1 SMP")),
    ("net/core/somaxconn", |_, _, text| line(text, "4096")),
    ("net/ipv4/ip_local_port_range", |_, _, text| line(text, "32768\t60999")),
    ("net/ipv4/tcp_fin_timeout", |_, _, text| line(text, "60")),
    ("vm/max_map_count", |_, _, text| line(text, "65530")),
    ("vm/overcommit_memory", |_, _, text| line(text, "1")),
    ("vm/overcommit_ratio", |_, _, text| line(text, "50")),
    ("vm/swappiness", |_, _, text| line(text, "0")),
];

fn line(text: &mut Text, content: &str) -> Result<()> {
    put!(text, "{content}\n");
    Ok(())
}

fn empty(_: &Kernel, _: &Shared, _: &mut Text) -> Result<()> {
    Ok(())
}

/// A UUID of version 4 in its usual form.
fn uuid(text: &mut Text, mut bytes: [u8; 16]) -> Result<()> {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.bytes(b"-");
        }
        put!(text, "{byte:02x}");
    }
    text.bytes(b"\n");
    Ok(())
}

fn fresh_uuid(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    let mut bytes = [0; 16];
    kernel.platform().fill_random(&mut bytes);
    uuid(text, bytes)
}

fn devices(_: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"Character devices:\n  1 mem\n  5 /dev/tty\n\nBlock devices:\n");
    Ok(())
}

fn filesystems(_: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"nodev\ttmpfs\nnodev\tproc\nnodev\tsysfs\nnodev\tdevtmpfs\n\terofs\nnodev\toverlay\n");
    Ok(())
}

fn loadavg(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    let threads = kernel.processes.thread_count();
    put!(text, "0.00 0.00 0.00 1/{threads} {threads}\n");
    Ok(())
}

fn partitions(_: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"major minor  #blocks  name\n\n");
    Ok(())
}

fn swaps(_: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    Ok(())
}

fn meminfo(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    let total = kernel.platform().user_limit();
    let pages: u64 = kernel.processes.all().iter().map(|process| process.world().0.resident().0).sum();
    let free = total.saturating_sub(pages.saturating_mul(4096));
    let rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", total - free),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", total - free),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("CommitLimit", total),
        ("Committed_AS", total - free),
        ("VmallocTotal", total),
    ];
    for (name, bytes) in rows {
        put!(text, "{:<16}{:>8} kB\n", alloc::format!("{name}:"), bytes / 1024);
    }
    text.bytes(b"HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n");
    Ok(())
}

fn stat(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"cpu  0 0 0 0 0 0 0 0 0 0\n");
    for number in 0..kernel.platform().host_facts().cpus.max(1) {
        put!(text, "cpu{number} 0 0 0 0 0 0 0 0 0 0\n");
    }
    let platform = kernel.platform();
    let boot = platform.realtime_ns().saturating_sub(platform.monotonic_ns()) / 1_000_000_000;
    put!(text, "intr 0\nctxt 0\nbtime {boot}\nprocesses {}\n", kernel.processes.all().len());
    text.bytes(b"procs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(())
}

fn uptime(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    let ns = kernel.platform().monotonic_ns();
    put!(text, "{}.{:02} 0.00\n", ns / 1_000_000_000, ns / 10_000_000 % 100);
    Ok(())
}

fn version(_: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    put!(text, "Linux version {RELEASE} (occlum) #1 SMP\n");
    Ok(())
}
