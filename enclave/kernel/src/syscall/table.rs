//! The table: number, name, arguments, what serves it, and how far it is done.
//!
//! A row without arguments is a call that Linux has and this kernel lacks: it answers ENOSYS. The same rows make
//! the dispatcher, the names and decoded arguments of `--strace`, and the coverage page of the book.

use super::arg::{Arg, Value};
use super::*;
use core::fmt::{self, Write};
use kbase::{Result, UserAddr, UserPtr};
use linux_abi::fs as fs_abi;
use linux_abi::ipc as ipc_abi;
use linux_abi::mm::{LockAllFlags, MapFlags, Prot, RemapFlags, SyncFlags};
use linux_abi::net::{Mmsghdr, Msghdr};
use linux_abi::process::WaitOptions;
use linux_abi::process::{Rlimit, Rusage, Sysinfo, Utsname};
use linux_abi::signal::{SigAction, SigInfo, SigStack, SignalSet};
use linux_abi::time::{Itimerval, Timespec, Timeval, Timezone, Tms};

macro_rules! syscalls {
    ($($number:literal $name:ident $(($($arg:ident: $type:ty),*) = $serve:path, $support:expr)?;)*) => {
        /// Serves call `number`. The result is written once, to where the caller wants it: a copy of it in this path
        /// waits for the stores of the registers, which costs a fifth of a short call.
        #[expect(clippy::redundant_closure_call, reason = "the closure is what `?` returns from")]
        pub(super) fn invoke(ctx: &Ctx<'_>, number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Result<u64> {
            match number {
                $($($number => (|| {
                    let registers = &mut [a, b, c, d, e, f].into_iter();
                    $(let $arg = <$type>::from_arg(registers.next().unwrap_or_default())?;)*
                    let _ = registers;
                    $serve(ctx, $($arg),*).map(Value::into_register)
                })(),)?)*
                _ => missing(ctx, number),
            }
        }

        /// The name of call `number`.
        pub(crate) const fn name(number: u64) -> Option<&'static str> {
            Some(match number {
                $($number => stringify!($name),)*
                _ => return None,
            })
        }

        /// Prints the arguments of call `number`.
        pub(super) fn show_arguments(
            ctx: &Ctx<'_>, number: u64, arguments: [u64; 6], into: &mut dyn Write,
        ) -> fmt::Result {
            let registers = &mut arguments.into_iter();
            match number {
                $($($number => {
                    let mut _separator = "";
                    $(into.write_str(_separator)?;
                    let raw = registers.next().unwrap_or_default();
                    if !trace::show(ctx, number, stringify!($arg), raw, &arguments, into)? {
                        <$type>::show(raw, ctx, into)?;
                    }
                    _separator = ", ";)*
                })?)*
                _ => {
                    for (index, raw) in registers.enumerate() {
                        write!(into, "{}{raw:#x}", if index == 0 { "" } else { ", " })?;
                    }
                }
            }
            let _ = registers;
            Ok(())
        }

        /// Every call that Linux has, with how far it is done.
        pub const TABLE: &[(u64, &str, Support)] = &[
            $(($number, stringify!($name), support!($($support)?))),*
        ];
    };
}

macro_rules! support {
    () => {
        Support::Missing
    };
    ($support:expr) => {
        $support
    };
}

use Support::Full;
#[allow(unused_imports, reason = "used by rows of the table as they are written")]
use Support::Partial;

syscalls! {
    0 read(fd: Fd, buffer: UserAddr, count: usize) = rw::read, Full;
    1 write(fd: Fd, buffer: UserAddr, count: usize) = rw::write, Full;
    2 open(path: UserStr, flags: u32, mode: u32) = open::open, Full;
    3 close(fd: Fd) = open::close, Full;
    4 stat(path: UserStr, into: UserPtr<fs_abi::Stat>) = stat::stat, Full;
    5 fstat(fd: Fd, into: UserPtr<fs_abi::Stat>) = stat::fstat, Full;
    6 lstat(path: UserStr, into: UserPtr<fs_abi::Stat>) = stat::lstat, Full;
    7 poll(fds: UserPtr<fs_abi::Pollfd>, count: u32, timeout_ms: i32) = poll::poll, Full;
    8 lseek(fd: Fd, offset: i64, whence: u32) = rw::lseek, Full;
    9 mmap(address: u64, len: u64, prot: Prot, flags: MapFlags, fd: i32, offset: u64) = memory::mmap, Partial("MAP_SHARED of a file is written back, not coherent");
    10 mprotect(start: u64, len: u64, prot: Prot) = memory::mprotect, Partial("no PROT_GROWSDOWN");
    11 munmap(start: u64, len: u64) = memory::munmap, Full;
    12 brk(end: u64) = memory::brk, Full;
    13 rt_sigaction(number: signal::SignalNumber, new: UserPtr<SigAction>, old: UserPtr<SigAction>, set_len: usize) = signal::rt_sigaction, Full;
    14 rt_sigprocmask(how: u32, new: UserPtr<SignalSet>, old: UserPtr<SignalSet>, set_len: usize) = signal::rt_sigprocmask, Full;
    15 rt_sigreturn() = signal::rt_sigreturn, Full;
    16 ioctl(fd: Fd, request: u32, argument: UserAddr) = fcntl::ioctl, Partial("terminals of the host: what the host has; FIOASYNC not for what the host has");
    17 pread64(fd: Fd, buffer: UserAddr, count: usize, offset: i64) = rw::pread64, Full;
    18 pwrite64(fd: Fd, buffer: UserAddr, count: usize, offset: i64) = rw::pwrite64, Full;
    19 readv(fd: Fd, vector: UserPtr<fs_abi::Iovec>, len: u32) = rw::readv, Full;
    20 writev(fd: Fd, vector: UserPtr<fs_abi::Iovec>, len: u32) = rw::writev, Full;
    21 access(path: UserStr, mode: u32) = attr::access, Full;
    22 pipe(into: UserPtr<[u32; 2]>) = pipe::pipe, Full;
    23 select(count: u32, read: UserPtr<u64>, write: UserPtr<u64>, except: UserPtr<u64>, timeout: UserPtr<Timeval>) = poll::select, Full;
    24 sched_yield() = sched::sched_yield, Full;
    25 mremap(old: u64, old_len: u64, new_len: u64, flags: RemapFlags, new: u64) = memory::mremap, Partial("MREMAP_DONTUNMAP of private anonymous memory only");
    26 msync(start: u64, len: u64, flags: SyncFlags) = memory::msync, Full;
    27 mincore(start: u64, len: u64, into: UserAddr) = memory::mincore, Full;
    28 madvise(start: u64, len: u64, advice: i32) = memory::madvise, Partial("fork advice has no effect");
    29 shmget(key: i32, size: usize, flags: u32) = shm::shmget, Partial("no huge pages");
    30 shmat(id: i32, address: u64, flags: u32) = shm::shmat, Partial("at one address, for a process and those that it is forked from or forks");
    31 shmctl(id: i32, command: u32, argument: UserAddr) = shm::shmctl, Full;
    32 dup(fd: Fd) = fcntl::dup, Full;
    33 dup2(from: Fd, to: Fd) = fcntl::dup2, Full;
    34 pause() = signal::pause, Full;
    35 nanosleep(time: UserPtr<Timespec>, remaining: UserAddr) = time::nanosleep, Full;
    36 getitimer(which: i32, into: UserPtr<Itimerval>) = timer::getitimer, Full;
    37 alarm(seconds: u32) = timer::alarm, Full;
    38 setitimer(which: i32, new: UserPtr<Itimerval>, old: UserPtr<Itimerval>) = timer::setitimer, Partial("ITIMER_VIRTUAL counts system time too");
    39 getpid() = ids::getpid, Full;
    40 sendfile(to: Fd, from: Fd, offset: UserPtr<i64>, count: usize) = transfer::sendfile, Full;
    41 socket(domain: u32, kind: u32, protocol: u32) = socket::socket, Partial("the Unix domain; IPv4 and IPv6: TCP and UDP; netlink: interfaces and addresses; no raw sockets");
    42 connect(fd: Fd, address: UserAddr, len: u32) = socket::connect, Full;
    43 accept(fd: Fd, into: UserAddr, len: UserPtr<u32>) = socket::accept, Full;
    44 sendto(fd: Fd, buffer: UserAddr, count: usize, flags: u32, to: UserAddr, to_len: u32) = socket::sendto, Partial("no MSG_ZEROCOPY");
    45 recvfrom(fd: Fd, buffer: UserAddr, count: usize, flags: u32, from: UserAddr, from_len: UserPtr<u32>) = socket::recvfrom, Full;
    46 sendmsg(fd: Fd, message: UserPtr<Msghdr>, flags: u32) = socket::sendmsg, Partial("no MSG_ZEROCOPY");
    47 recvmsg(fd: Fd, message: UserPtr<Msghdr>, flags: u32) = socket::recvmsg, Full;
    48 shutdown(fd: Fd, how: u32) = socket::shutdown, Full;
    49 bind(fd: Fd, address: UserAddr, len: u32) = socket::bind, Full;
    50 listen(fd: Fd, backlog: u32) = socket::listen, Full;
    51 getsockname(fd: Fd, into: UserAddr, len: UserPtr<u32>) = socket::getsockname, Full;
    52 getpeername(fd: Fd, into: UserAddr, len: UserPtr<u32>) = socket::getpeername, Full;
    53 socketpair(domain: u32, kind: u32, protocol: u32, into: UserPtr<[u32; 2]>) = socket::socketpair, Full;
    54 setsockopt(fd: Fd, level: u32, option: u32, from: UserAddr, len: u32) = socket::setsockopt, Partial("docs/sockets.md lists the options");
    55 getsockopt(fd: Fd, level: u32, option: u32, into: UserAddr, len: UserPtr<u32>) = socket::getsockopt, Partial("docs/sockets.md lists the options");
    56 clone(flags: u64, stack: u64, parent_tid: UserPtr<u32>, child_tid: UserPtr<u32>, tls: u64) = clone::clone, Partial("no namespaces");
    57 fork() = clone::fork, Full;
    58 vfork() = clone::vfork, Full;
    59 execve(path: UserStr, argv: UserPtr<u64>, envp: UserPtr<u64>) = program::execve, Full;
    60 exit(code: i32) = program::exit, Full;
    61 wait4(pid: i32, status: UserPtr<i32>, options: WaitOptions, rusage: UserPtr<Rusage>) = wait::wait4, Full;
    62 kill(pid: i32, number: signal::SignalNumber) = signal::kill, Full;
    63 uname(into: UserPtr<Utsname>) = system::uname, Full;
    64 semget(key: i32, count: i32, flags: u32) = sysv::semget, Full;
    65 semop(id: i32, operations: UserPtr<ipc_abi::Sembuf>, count: usize) = sysv::semop, Full;
    66 semctl(id: i32, number: i32, command: u32, argument: UserAddr) = sysv::semctl, Full;
    67 shmdt(address: u64) = shm::shmdt, Full;
    68 msgget(key: i32, flags: u32) = sysv::msgget, Full;
    69 msgsnd(id: i32, from: UserPtr<i64>, len: usize, flags: u32) = sysv::msgsnd, Full;
    70 msgrcv(id: i32, into: UserPtr<i64>, len: usize, kind: i64, flags: u32) = sysv::msgrcv, Full;
    71 msgctl(id: i32, command: u32, argument: UserAddr) = sysv::msgctl, Full;
    72 fcntl(fd: Fd, command: u32, argument: u64) = fcntl::fcntl, Partial("no leases; O_ASYNC not for terminals of the host");
    73 flock(fd: Fd, operation: u32) = fcntl::flock, Full;
    74 fsync(fd: Fd) = space::fsync, Full;
    75 fdatasync(fd: Fd) = space::fdatasync, Full;
    76 truncate(path: UserStr, size: i64) = space::truncate, Full;
    77 ftruncate(fd: Fd, size: i64) = space::ftruncate, Full;
    78 getdents(fd: Fd, into: UserAddr, count: u32) = dir::getdents, Full;
    79 getcwd(into: UserAddr, size: usize) = dir::getcwd, Full;
    80 chdir(path: UserStr) = dir::chdir, Full;
    81 fchdir(fd: Fd) = dir::fchdir, Full;
    82 rename(from: UserStr, to: UserStr) = link::rename, Full;
    83 mkdir(path: UserStr, mode: u32) = dir::mkdir, Full;
    84 rmdir(path: UserStr) = dir::rmdir, Full;
    85 creat(path: UserStr, mode: u32) = open::creat, Full;
    86 link(from: UserStr, to: UserStr) = link::link, Full;
    87 unlink(path: UserStr) = link::unlink, Full;
    88 symlink(target: UserStr, path: UserStr) = link::symlink, Full;
    89 readlink(path: UserStr, into: UserAddr, size: u32) = link::readlink, Full;
    90 chmod(path: UserStr, mode: u32) = attr::chmod, Full;
    91 fchmod(fd: Fd, mode: u32) = attr::fchmod, Full;
    92 chown(path: UserStr, uid: u32, gid: u32) = attr::chown, Full;
    93 fchown(fd: Fd, uid: u32, gid: u32) = attr::fchown, Full;
    94 lchown(path: UserStr, uid: u32, gid: u32) = attr::lchown, Full;
    95 umask(mask: u32) = dir::umask, Full;
    96 gettimeofday(time: UserPtr<Timeval>, zone: UserPtr<Timezone>) = time::gettimeofday, Full;
    97 getrlimit(resource: u32, into: UserPtr<Rlimit>) = system::getrlimit, Full;
    98 getrusage(who: i32, into: UserPtr<Rusage>) = time::getrusage, Partial("CPU time and the largest resident set only; all CPU time is user time");
    99 sysinfo(into: UserPtr<Sysinfo>) = system::sysinfo, Partial("no load averages");
    100 times(into: UserPtr<Tms>) = time::times, Partial("all CPU time is user time");
    101 ptrace;
    102 getuid() = ids::getuid, Full;
    103 syslog(kind: i32, buffer: UserAddr, len: i32) = system::syslog, Partial("always EPERM");
    104 getgid() = ids::getgid, Full;
    105 setuid(id: u32) = ids::setuid, Full;
    106 setgid(id: u32) = ids::setgid, Full;
    107 geteuid() = ids::geteuid, Full;
    108 getegid() = ids::getegid, Full;
    109 setpgid(pid: i32, group: i32) = ids::setpgid, Full;
    110 getppid() = ids::getppid, Full;
    111 getpgrp() = ids::getpgrp, Full;
    112 setsid() = ids::setsid, Full;
    113 setreuid(real: u32, effective: u32) = ids::setreuid, Full;
    114 setregid(real: u32, effective: u32) = ids::setregid, Full;
    115 getgroups(size: i32, into: UserPtr<u32>) = ids::getgroups, Full;
    116 setgroups(size: usize, from: UserPtr<u32>) = ids::setgroups, Full;
    117 setresuid(real: u32, effective: u32, saved: u32) = ids::setresuid, Full;
    118 getresuid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) = ids::getresuid, Full;
    119 setresgid(real: u32, effective: u32, saved: u32) = ids::setresgid, Full;
    120 getresgid(real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) = ids::getresgid, Full;
    121 getpgid(pid: i32) = ids::getpgid, Full;
    122 setfsuid(id: u32) = ids::setfsuid, Partial("stays the effective user");
    123 setfsgid(id: u32) = ids::setfsgid, Partial("stays the effective group");
    124 getsid(pid: i32) = ids::getsid, Full;
    125 capget(head: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) = prctl::capget, Full;
    126 capset(head: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) = prctl::capset, Full;
    127 rt_sigpending(into: UserPtr<u64>, set_len: usize) = signal::rt_sigpending, Full;
    128 rt_sigtimedwait(set: UserPtr<SignalSet>, info: UserPtr<SigInfo>, timeout: UserPtr<Timespec>, set_len: usize) = signal::rt_sigtimedwait, Full;
    129 rt_sigqueueinfo(pid: i32, number: signal::SignalNumber, info: UserPtr<SigInfo>) = signal::rt_sigqueueinfo, Full;
    130 rt_sigsuspend(mask: UserPtr<SignalSet>, set_len: usize) = signal::rt_sigsuspend, Full;
    131 sigaltstack(new: UserPtr<SigStack>, old: UserPtr<SigStack>) = signal::sigaltstack, Full;
    132 utime(path: UserStr, times: UserPtr<[i64; 2]>) = attr::utime, Full;
    133 mknod(path: UserStr, mode: u32, dev: u32) = link::mknod, Full;
    134 uselib;
    135 personality(persona: u32) = time::personality, Partial("remembered, without effect");
    136 ustat;
    137 statfs(path: UserStr, into: UserPtr<fs_abi::Statfs>) = space::statfs, Full;
    138 fstatfs(fd: Fd, into: UserPtr<fs_abi::Statfs>) = space::fstatfs, Full;
    139 sysfs;
    140 getpriority(which: i32, who: i32) = sched::getpriority, Full;
    141 setpriority(which: i32, who: i32, nice: i32) = sched::setpriority, Full;
    142 sched_setparam(tid: i32, from: UserPtr<i32>) = sched::sched_setparam, Partial("no SCHED_DEADLINE; real-time policies are a nice value to the host");
    143 sched_getparam(tid: i32, into: UserPtr<i32>) = sched::sched_getparam, Full;
    144 sched_setscheduler(tid: i32, policy: i32, parameter: UserPtr<i32>) = sched::sched_setscheduler, Partial("no SCHED_DEADLINE; real-time policies are a nice value to the host");
    145 sched_getscheduler(tid: i32) = sched::sched_getscheduler, Full;
    146 sched_get_priority_max(policy: u32) = sched::sched_get_priority_max, Full;
    147 sched_get_priority_min(policy: u32) = sched::sched_get_priority_min, Full;
    148 sched_rr_get_interval(tid: i32, into: UserPtr<Timespec>) = sched::sched_rr_get_interval, Full;
    149 mlock(start: u64, len: u64) = memory::mlock, Full;
    150 munlock(start: u64, len: u64) = memory::munlock, Full;
    151 mlockall(flags: LockAllFlags) = memory::mlockall, Full;
    152 munlockall() = memory::munlockall, Full;
    153 vhangup;
    154 modify_ldt;
    155 pivot_root() = dir::mount, Partial("EPERM");
    156 _sysctl;
    157 prctl(operation: u32, a: u64, b: u64, c: u64, d: u64) = prctl::prctl, Partial("what concerns names, privileges, parents and children");
    158 arch_prctl(code: u32, address: u64) = program::arch_prctl, Partial("GS cannot be set");
    159 adjtimex(timex: UserPtr<[u64; 26]>) = time::adjtimex, Partial("reads only");
    160 setrlimit(resource: u32, from: UserPtr<Rlimit>) = system::setrlimit, Full;
    161 chroot(path: UserStr) = dir::chroot, Full;
    162 sync() = space::sync, Full;
    163 acct;
    164 settimeofday(time: UserPtr<Timeval>, zone: UserPtr<Timezone>) = time::settimeofday, Partial("always EPERM");
    165 mount() = dir::mount, Partial("EPERM");
    166 umount2() = dir::mount, Partial("EPERM");
    167 swapon;
    168 swapoff;
    169 reboot;
    170 sethostname(name: UserAddr, len: usize) = system::sethostname, Partial("always EPERM");
    171 setdomainname(name: UserAddr, len: usize) = system::sethostname, Partial("always EPERM");
    172 iopl;
    173 ioperm;
    174 create_module;
    175 init_module;
    176 delete_module;
    177 get_kernel_syms;
    178 query_module;
    179 quotactl;
    180 nfsservctl;
    181 getpmsg;
    182 putpmsg;
    183 afs_syscall;
    184 tuxcall;
    185 security;
    186 gettid() = ids::gettid, Full;
    187 readahead(fd: Fd, offset: i64, count: usize) = space::readahead, Partial("only advice");
    188 setxattr(path: UserStr, name: UserStr, value: UserAddr, size: usize, flags: u32) = xattr::setxattr, Partial("no access control lists");
    189 lsetxattr(path: UserStr, name: UserStr, value: UserAddr, size: usize, flags: u32) = xattr::lsetxattr, Partial("no access control lists");
    190 fsetxattr(fd: Fd, name: UserStr, value: UserAddr, size: usize, flags: u32) = xattr::fsetxattr, Partial("no access control lists");
    191 getxattr(path: UserStr, name: UserStr, into: UserAddr, size: usize) = xattr::getxattr, Full;
    192 lgetxattr(path: UserStr, name: UserStr, into: UserAddr, size: usize) = xattr::lgetxattr, Full;
    193 fgetxattr(fd: Fd, name: UserStr, into: UserAddr, size: usize) = xattr::fgetxattr, Full;
    194 listxattr(path: UserStr, into: UserAddr, size: usize) = xattr::listxattr, Full;
    195 llistxattr(path: UserStr, into: UserAddr, size: usize) = xattr::llistxattr, Full;
    196 flistxattr(fd: Fd, into: UserAddr, size: usize) = xattr::flistxattr, Full;
    197 removexattr(path: UserStr, name: UserStr) = xattr::removexattr, Full;
    198 lremovexattr(path: UserStr, name: UserStr) = xattr::lremovexattr, Full;
    199 fremovexattr(fd: Fd, name: UserStr) = xattr::fremovexattr, Full;
    200 tkill(tid: i32, number: signal::SignalNumber) = signal::tkill, Full;
    201 time(into: UserPtr<u64>) = time::time, Full;
    202 futex(address: UserAddr, operation: u32, value: u32, fourth: u64, second: UserAddr, third_value: u32) = futex::futex, Partial("an owner is not scheduled better for its waiters; keys are address spaces and addresses");
    203 sched_setaffinity(tid: i32, len: u32, from: UserAddr) = sched::sched_setaffinity, Full;
    204 sched_getaffinity(tid: i32, len: u32, into: UserAddr) = sched::sched_getaffinity, Full;
    205 set_thread_area;
    206 io_setup;
    207 io_destroy;
    208 io_getevents;
    209 io_submit;
    210 io_cancel;
    211 get_thread_area;
    212 lookup_dcookie;
    213 epoll_create(size: i32) = epoll::epoll_create, Full;
    214 epoll_ctl_old;
    215 epoll_wait_old;
    216 remap_file_pages;
    217 getdents64(fd: Fd, into: UserAddr, count: u32) = dir::getdents64, Full;
    218 set_tid_address(address: u64) = program::set_tid_address, Full;
    219 restart_syscall() = signal::restart_syscall, Full;
    220 semtimedop(id: i32, operations: UserPtr<ipc_abi::Sembuf>, count: usize, timeout: UserPtr<Timespec>) = sysv::semtimedop, Full;
    221 fadvise64(fd: Fd, offset: i64, len: i64, advice: u32) = space::fadvise64, Partial("only advice");
    222 timer_create(clock: i32, event: UserPtr<[u64; 8]>, into: UserPtr<i32>) = timer::timer_create, Full;
    223 timer_settime(id: i32, flags: u32, new: UserPtr<[Timespec; 2]>, old: UserPtr<[Timespec; 2]>) = timer::timer_settime, Full;
    224 timer_gettime(id: i32, into: UserPtr<[Timespec; 2]>) = timer::timer_gettime, Full;
    225 timer_getoverrun(id: i32) = timer::timer_getoverrun, Full;
    226 timer_delete(id: i32) = timer::timer_delete, Full;
    227 clock_settime(clock: i32, time: UserPtr<Timespec>) = time::clock_settime, Partial("always EPERM");
    228 clock_gettime(clock: i32, into: UserPtr<Timespec>) = time::clock_gettime, Full;
    229 clock_getres(clock: i32, into: UserPtr<Timespec>) = time::clock_getres, Full;
    230 clock_nanosleep(clock: i32, flags: u32, time: UserPtr<Timespec>, remaining: UserAddr) = time::clock_nanosleep, Full;
    231 exit_group(code: i32) = program::exit_group, Full;
    232 epoll_wait(epoll: Fd, into: UserPtr<fs_abi::EpollEvent>, max: i32, timeout_ms: i32) = epoll::epoll_wait, Full;
    233 epoll_ctl(epoll: Fd, operation: u32, fd: Fd, event: UserPtr<fs_abi::EpollEvent>) = epoll::epoll_ctl, Full;
    234 tgkill(pid: i32, tid: i32, number: signal::SignalNumber) = signal::tgkill, Full;
    235 utimes(path: UserStr, times: UserPtr<[Timeval; 2]>) = attr::utimes, Full;
    236 vserver;
    237 mbind;
    238 set_mempolicy;
    239 get_mempolicy;
    240 mq_open(name: UserStr, flags: u32, mode: u32, attributes: UserPtr<ipc_abi::MqAttr>) = mqueue::mq_open, Full;
    241 mq_unlink(name: UserStr) = mqueue::mq_unlink, Full;
    242 mq_timedsend(fd: Fd, text: UserAddr, len: usize, priority: u32, time: UserPtr<Timespec>) = mqueue::mq_timedsend, Full;
    243 mq_timedreceive(fd: Fd, into: UserAddr, len: usize, priority: UserPtr<u32>, time: UserPtr<Timespec>) = mqueue::mq_timedreceive, Full;
    244 mq_notify(fd: Fd, event: UserPtr<[u64; 8]>) = mqueue::mq_notify, Full;
    245 mq_getsetattr(fd: Fd, new: UserPtr<ipc_abi::MqAttr>, old: UserPtr<ipc_abi::MqAttr>) = mqueue::mq_getsetattr, Full;
    246 kexec_load;
    247 waitid(kind: u32, id: u32, info: UserPtr<SigInfo>, options: WaitOptions, rusage: UserPtr<Rusage>) = wait::waitid, Full;
    248 add_key;
    249 request_key;
    250 keyctl;
    251 ioprio_set(of: u32, who: i32, priority: u32) = ioprio::ioprio_set, Partial("the host is not told");
    252 ioprio_get(of: u32, who: i32) = ioprio::ioprio_get, Full;
    253 inotify_init() = inotify::inotify_init, Full;
    254 inotify_add_watch(fd: Fd, path: UserStr, mask: u32) = inotify::inotify_add_watch, Partial("IN_DELETE_SELF does not wait for a file that is open; what programs do outside is not seen");
    255 inotify_rm_watch(fd: Fd, watch: i32) = inotify::inotify_rm_watch, Full;
    256 migrate_pages;
    257 openat(from: DirFd, path: UserStr, flags: u32, mode: u32) = open::openat, Full;
    258 mkdirat(from: DirFd, path: UserStr, mode: u32) = dir::mkdirat, Full;
    259 mknodat(from: DirFd, path: UserStr, mode: u32, dev: u32) = link::mknodat, Full;
    260 fchownat(from: DirFd, path: UserStr, uid: u32, gid: u32, flags: u32) = attr::fchownat, Full;
    261 futimesat(from: DirFd, path: UserStr, times: UserPtr<[Timeval; 2]>) = attr::futimesat, Full;
    262 newfstatat(from: DirFd, path: UserStr, into: UserPtr<fs_abi::Stat>, flags: u32) = stat::newfstatat, Full;
    263 unlinkat(from: DirFd, path: UserStr, flags: u32) = link::unlinkat, Full;
    264 renameat(from_dir: DirFd, from: UserStr, to_dir: DirFd, to: UserStr) = link::renameat, Full;
    265 linkat(from_dir: DirFd, from: UserStr, to_dir: DirFd, to: UserStr, flags: u32) = link::linkat, Full;
    266 symlinkat(target: UserStr, from: DirFd, path: UserStr) = link::symlinkat, Full;
    267 readlinkat(from: DirFd, path: UserStr, into: UserAddr, size: u32) = link::readlinkat, Full;
    268 fchmodat(from: DirFd, path: UserStr, mode: u32) = attr::fchmodat, Full;
    269 faccessat(from: DirFd, path: UserStr, mode: u32) = attr::faccessat, Full;
    270 pselect6(count: u32, read: UserPtr<u64>, write: UserPtr<u64>, except: UserPtr<u64>, timeout: UserPtr<Timespec>, mask: UserPtr<[u64; 2]>) = poll::pselect6, Full;
    271 ppoll(fds: UserPtr<fs_abi::Pollfd>, count: u32, timeout: UserPtr<Timespec>, mask: UserAddr, mask_len: usize) = poll::ppoll, Full;
    272 unshare(flags: u64) = clone::unshare, Partial("no namespaces");
    273 set_robust_list(head: u64, len: usize) = program::set_robust_list, Full;
    274 get_robust_list(tid: u32, head: UserPtr<u64>, len: UserPtr<u64>) = program::get_robust_list, Full;
    275 splice(from: Fd, from_offset: UserPtr<i64>, to: Fd, to_offset: UserPtr<i64>, count: usize, flags: u32) = transfer::splice, Partial("copies");
    276 tee(from: Fd, to: Fd, count: usize, flags: u32) = transfer::tee, Full;
    277 sync_file_range(fd: Fd, offset: i64, len: i64, flags: u32) = space::sync_file_range, Partial("the range is the whole file");
    278 vmsplice(fd: Fd, vector: UserPtr<fs_abi::Iovec>, len: usize, flags: u32) = transfer::vmsplice, Partial("copies");
    279 move_pages;
    280 utimensat(from: DirFd, path: UserStr, times: UserPtr<[Timespec; 2]>, flags: u32) = attr::utimensat, Full;
    281 epoll_pwait(epoll: Fd, into: UserPtr<fs_abi::EpollEvent>, max: i32, timeout_ms: i32, mask: UserAddr, mask_len: usize) = epoll::epoll_pwait, Full;
    282 signalfd(fd: i32, set: UserPtr<SignalSet>, set_len: usize) = signal::signalfd, Full;
    283 timerfd_create(clock: i32, flags: u32) = timerfd::timerfd_create, Full;
    284 eventfd(initial: u32) = pipe::eventfd, Full;
    285 fallocate(fd: Fd, mode: u32, offset: i64, len: i64) = space::fallocate, Partial("no collapsing, inserting or unsharing");
    286 timerfd_settime(fd: Fd, flags: u32, new: UserPtr<[Timespec; 2]>, old: UserPtr<[Timespec; 2]>) = timerfd::timerfd_settime, Full;
    287 timerfd_gettime(fd: Fd, into: UserPtr<[Timespec; 2]>) = timerfd::timerfd_gettime, Full;
    288 accept4(fd: Fd, into: UserAddr, len: UserPtr<u32>, flags: u32) = socket::accept4, Full;
    289 signalfd4(fd: i32, set: UserPtr<SignalSet>, set_len: usize, flags: u32) = signal::signalfd4, Full;
    290 eventfd2(initial: u32, flags: u32) = pipe::eventfd2, Full;
    291 epoll_create1(flags: u32) = epoll::epoll_create1, Full;
    292 dup3(from: Fd, to: Fd, flags: u32) = fcntl::dup3, Full;
    293 pipe2(into: UserPtr<[u32; 2]>, flags: u32) = pipe::pipe2, Full;
    294 inotify_init1(flags: u32) = inotify::inotify_init1, Full;
    295 preadv(fd: Fd, vector: UserPtr<fs_abi::Iovec>, len: u32, offset: i64, high: u64) = rw::preadv, Full;
    296 pwritev(fd: Fd, vector: UserPtr<fs_abi::Iovec>, len: u32, offset: i64, high: u64) = rw::pwritev, Full;
    297 rt_tgsigqueueinfo(pid: i32, tid: i32, number: signal::SignalNumber, info: UserPtr<SigInfo>) = signal::rt_tgsigqueueinfo, Full;
    298 perf_event_open;
    299 recvmmsg(fd: Fd, vector: UserPtr<Mmsghdr>, count: u32, flags: u32, timeout: UserPtr<Timespec>) = messages::recvmmsg, Full;
    300 fanotify_init;
    301 fanotify_mark;
    302 prlimit64(pid: i32, resource: u32, new: UserPtr<Rlimit>, old: UserPtr<Rlimit>) = system::prlimit64, Full;
    303 name_to_handle_at;
    304 open_by_handle_at;
    305 clock_adjtime(clock: i32, timex: UserPtr<[u64; 26]>) = time::clock_adjtime, Partial("reads only");
    306 syncfs(fd: Fd) = space::syncfs, Full;
    307 sendmmsg(fd: Fd, vector: UserPtr<Mmsghdr>, count: u32, flags: u32) = messages::sendmmsg, Full;
    308 setns;
    309 getcpu(cpu: UserPtr<u32>, node: UserPtr<u32>, cache: UserAddr) = sched::getcpu, Partial("there is one node");
    310 process_vm_readv;
    311 process_vm_writev;
    312 kcmp(one: i32, other: i32, kind: u32, first: Fd, second: Fd) = kcmp::kcmp, Partial("files, memory, tables of files and places");
    313 finit_module;
    314 sched_setattr(tid: i32, from: UserPtr<u32>, flags: u32) = sched::sched_setattr, Partial("no SCHED_DEADLINE; real-time policies are a nice value to the host");
    315 sched_getattr(tid: i32, into: UserAddr, size: u32, flags: u32) = sched::sched_getattr, Full;
    316 renameat2(from_dir: DirFd, from: UserStr, to_dir: DirFd, to: UserStr, flags: u32) = link::renameat2, Partial("no RENAME_EXCHANGE and RENAME_WHITEOUT");
    317 seccomp;
    318 getrandom(into: UserAddr, len: usize, flags: u32) = system::getrandom, Full;
    319 memfd_create(name: UserStr, flags: u32) = pipe::memfd_create, Partial("no huge pages");
    320 kexec_file_load;
    321 bpf;
    322 execveat(from: DirFd, path: UserStr, argv: UserPtr<u64>, envp: UserPtr<u64>, flags: u32) = program::execveat, Full;
    323 userfaultfd;
    324 membarrier(command: i32, flags: u32, cpu: i32) = futex::membarrier, Partial("no restartable sequences");
    325 mlock2(start: u64, len: u64, flags: u32) = memory::mlock2, Full;
    326 copy_file_range(from: Fd, from_offset: UserPtr<i64>, to: Fd, to_offset: UserPtr<i64>, count: usize, flags: u32) = transfer::copy_file_range, Full;
    327 preadv2(fd: Fd, vector: UserPtr<fs_abi::Iovec>, len: u32, offset: i64, high: u64, flags: u32) = rw::preadv2, Partial("of the flags RWF_HIPRI, RWF_DSYNC and RWF_SYNC only");
    328 pwritev2(fd: Fd, vector: UserPtr<fs_abi::Iovec>, len: u32, offset: i64, high: u64, flags: u32) = rw::pwritev2, Partial("of the flags RWF_HIPRI, RWF_DSYNC and RWF_SYNC only");
    329 pkey_mprotect;
    330 pkey_alloc;
    331 pkey_free;
    332 statx(from: DirFd, path: UserStr, flags: u32, mask: u32, into: UserPtr<fs_abi::Statx>) = stat::statx, Full;
    333 io_pgetevents;
    334 rseq() = futex::rseq, Support::Missing;
    335 uretprobe;
    424 pidfd_send_signal(fd: Fd, number: signal::SignalNumber, info: UserPtr<SigInfo>, flags: u32) = pidfd::pidfd_send_signal, Full;
    425 io_uring_setup;
    426 io_uring_enter;
    427 io_uring_register;
    428 open_tree;
    429 move_mount;
    430 fsopen;
    431 fsconfig;
    432 fsmount;
    433 fspick;
    434 pidfd_open(pid: i32, flags: u32) = pidfd::pidfd_open, Partial("no PIDFD_THREAD");
    435 clone3(args: UserAddr, size: usize) = clone::clone3, Partial("no namespaces");
    436 close_range(first: u32, last: u32, flags: u32) = open::close_range, Full;
    437 openat2(from: DirFd, path: UserStr, how: UserPtr<fs_abi::OpenHow>, size: usize) = open::openat2, Full;
    438 pidfd_getfd(fd: Fd, target: Fd, flags: u32) = pidfd::pidfd_getfd, Full;
    439 faccessat2(from: DirFd, path: UserStr, mode: u32, flags: u32) = attr::faccessat2, Full;
    440 process_madvise;
    441 epoll_pwait2(epoll: Fd, into: UserPtr<fs_abi::EpollEvent>, max: i32, timeout: UserPtr<Timespec>, mask: UserAddr, mask_len: usize) = epoll::epoll_pwait2, Full;
    442 mount_setattr;
    443 quotactl_fd;
    444 landlock_create_ruleset;
    445 landlock_add_rule;
    446 landlock_restrict_self;
    447 memfd_secret;
    448 process_mrelease;
    449 futex_waitv(rows: UserPtr<[u64; 3]>, count: u32, flags: u32, timeout: UserPtr<Timespec>, clock: i32) = futex::futex_waitv, Full;
    450 set_mempolicy_home_node;
    451 cachestat(fd: Fd, range: UserPtr<[u64; 2]>, into: UserPtr<[u64; 5]>, flags: u32) = space::cachestat, Partial("of files in memory only");
    452 fchmodat2(from: DirFd, path: UserStr, mode: u32, flags: u32) = attr::fchmodat2, Full;
    453 map_shadow_stack;
    454 futex_wake(address: UserAddr, mask: u64, count: i32, flags: u32) = futex::futex_wake, Full;
    455 futex_wait(address: UserAddr, value: u64, mask: u64, flags: u32, timeout: UserPtr<Timespec>, clock: i32) = futex::futex_wait, Full;
    456 futex_requeue(rows: UserPtr<[u64; 3]>, flags: u32, wake: i32, requeue: i32) = futex::futex_requeue, Full;
    457 statmount;
    458 listmount;
    459 lsm_get_self_attr;
    460 lsm_set_self_attr;
    461 lsm_list_modules;
    462 mseal;
    463 setxattrat(from: DirFd, path: UserStr, at: u32, name: UserStr, args: UserPtr<xattr::XattrArgs>, len: usize) = xattr::setxattrat, Partial("no access control lists");
    464 getxattrat(from: DirFd, path: UserStr, at: u32, name: UserStr, args: UserPtr<xattr::XattrArgs>, len: usize) = xattr::getxattrat, Full;
    465 listxattrat(from: DirFd, path: UserStr, at: u32, into: UserAddr, size: usize) = xattr::listxattrat, Full;
    466 removexattrat(from: DirFd, path: UserStr, at: u32, name: UserStr) = xattr::removexattrat, Full;
    467 open_tree_attr;
    468 file_getattr;
    469 file_setattr;
}
