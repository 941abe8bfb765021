/* Bad arguments to many system calls: the errno, and never a fault. By number, so that no library looks at them first. */
#include "check.h"
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALL(name, ...) show(#name "(" #__VA_ARGS__ ")", syscall(SYS_##name, ##__VA_ARGS__))

static char buffer[4096];

static void pointers(void *bad) {
    int zero = open("/dev/zero", O_RDONLY), file = open("/proc/self/exe", O_RDONLY), ends[2];
    pipe(ends);
    CALL(read, zero, bad, 10);
    CALL(read, file, bad, 10);
    CALL(pread64, file, bad, 10, 0);
    CALL(write, ends[1], bad, 10);
    CALL(readv, zero, bad, 1);
    CALL(writev, ends[1], bad, 1);
    CALL(open, bad, O_RDONLY);
    CALL(openat, AT_FDCWD, bad, O_RDONLY);
    CALL(stat, bad, buffer);
    CALL(stat, "/", bad);
    CALL(fstat, file, bad);
    CALL(lstat, "/", bad);
    CALL(newfstatat, AT_FDCWD, "/", bad, 0);
    CALL(access, bad, 0);
    CALL(chdir, bad);
    CALL(mkdir, bad, 0);
    CALL(rmdir, bad);
    CALL(unlink, bad);
    CALL(rename, bad, "/x");
    CALL(rename, "/nothing", bad);
    CALL(symlink, bad, "/x");
    CALL(readlink, bad, buffer, 10);
    CALL(readlink, "/proc/self/exe", bad, 10);
    CALL(getcwd, bad, 100);
    CALL(getdents64, open("/", O_RDONLY), bad, 1000);
    CALL(pipe2, bad, 0);
    CALL(poll, bad, 1, 0);
    CALL(select, 1, bad, 0, 0, 0);
    CALL(rt_sigaction, SIGUSR1, bad, 0, 8);
    CALL(rt_sigaction, SIGUSR1, 0, bad, 8);
    CALL(rt_sigprocmask, SIG_BLOCK, bad, 0, 8);
    CALL(rt_sigpending, bad, 8);
    CALL(sigaltstack, bad, 0);
    CALL(clock_gettime, CLOCK_MONOTONIC, bad);
    CALL(clock_getres, CLOCK_REALTIME, bad);
    CALL(nanosleep, bad, 0);
    CALL(gettimeofday, bad, 0);
    CALL(uname, bad);
    CALL(sysinfo, bad);
    CALL(getrlimit, RLIMIT_NOFILE, bad);
    CALL(setrlimit, RLIMIT_NOFILE, bad);
    CALL(prlimit64, 0, RLIMIT_NOFILE, bad, 0);
    CALL(getrusage, RUSAGE_SELF, bad);
    CALL(times, bad);
    CALL(getrandom, bad, 16, 0);
    CALL(getgroups, 100, bad);
    CALL(execve, bad, 0, 0);
    CALL(execve, "/proc/self/exe", bad, 0);
    CALL(wait4, -1, bad, 0, 0);
    CALL(futex, bad, 0, 0, 0);
    CALL(set_robust_list, bad, 1);
    CALL(arch_prctl, 0x1002, (uint64_t)1 << 63);
    CALL(statfs, "/", bad);
    CALL(utimensat, AT_FDCWD, "/", bad, 0);
}

static void values(void) {
    char long_name[5000];
    memset(long_name, 'x', sizeof long_name);
    long_name[4999] = 0;
    CALL(read, -1, buffer, 1);
    CALL(read, 999, buffer, 1);
    CALL(write, 999, buffer, 1);
    CALL(lseek, 999, 0, 0);
    CALL(fstat, -1, buffer);
    CALL(ioctl, 999, 0, 0);
    CALL(fcntl, 999, F_GETFD);
    CALL(ftruncate, 999, 0);
    CALL(getdents64, 999, buffer, 100);
    CALL(fchdir, 999);
    CALL(dup, 999);
    CALL(openat, 999, "relative", 0);
    CALL(open, "/nothing/here", O_RDONLY);
    CALL(open, "/dev/null/x", O_RDONLY);
    CALL(open, "/", O_WRONLY);
    CALL(open, long_name, O_RDONLY);
    CALL(mkdir, "/", 0755);
    CALL(rmdir, "/nothing");
    CALL(readlink, "/", buffer, 10);
    CALL(readlink, "/proc/self/exe", buffer, 0);
    CALL(pipe2, buffer, 0x1);
    CALL(kill, 999999, 0);
    CALL(kill, getpid(), 65);
    CALL(tgkill, getpid(), 999999, 0);
    CALL(tgkill, -1, 1, 0);
    CALL(rt_sigaction, 0, 0, 0, 8);
    CALL(rt_sigaction, 65, 0, 0, 8);
    CALL(rt_sigaction, SIGUSR1, 0, 0, 4);
    CALL(rt_sigprocmask, 99, buffer, 0, 8);
    CALL(rt_sigprocmask, SIG_BLOCK, buffer, 0, 16);
    CALL(clock_gettime, 999, buffer);
    CALL(clock_nanosleep, 999, 0, buffer, 0);
    struct timespec bad_time = {.tv_nsec = 1000000000};
    CALL(nanosleep, &bad_time, 0);
    CALL(getrlimit, 99, buffer);
    CALL(getrusage, 99, buffer);
    CALL(getrandom, buffer, 16, 0x100);
    CALL(wait4, -1, 0, 0, 0);
    CALL(wait4, -1, 0, 0x40000, 0);
    CALL(execve, "/nothing", 0, 0);
    CALL(execve, "/", 0, 0);
    CALL(mmap, 0, 4096, PROT_READ, 0x40, 0, 0);
    CALL(munmap, 1, 4096);
    CALL(mprotect, 0x1000, 4096, 1);
    CALL(madvise, 1, 4096, 0);
    CALL(mremap, 1, 4096, 4096, 0, 0);
    CALL(poll, buffer, 1 << 30, 0);
    CALL(getgroups, -1, buffer);
    CALL(prctl, 999999, 0, 0, 0, 0);
    CALL(arch_prctl, 0x9999, 0);
    CALL(futex, buffer + 1, 0, 0, 0);
    CALL(futex, buffer, 127, 0, 0);
    CALL(sched_getaffinity, 0, 1, buffer);
    CALL(sched_getaffinity, 999999, 128, buffer);
    show("a number that no call has", syscall(5000));
    show("a negative number", syscall(-5));
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    printf("-- an address that is not mapped\n");
    pointers((void *)8);
    printf("-- a page that cannot be touched\n");
    pointers(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    printf("-- an address of the kernel\n");
    pointers((void *)0xffff800000000000);
    printf("-- values\n");
    values();
    /* Half a buffer: what fits is transferred. */
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(two + 4096, 4096);
    int ends[2];
    pipe(ends);
    printf("-- half a buffer\n");
    show("write", write(ends[1], two + 4090, 12));
    return 0;
}
