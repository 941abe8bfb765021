/* Nanoseconds per operation, one line each: a name, a tab, a number. `testing/bench` runs it in both worlds. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Doubles the number of operations until they take 50 ms, then reports. */
#define MEASURE(name, operation)                                    \
    do {                                                            \
        long count = 16;                                            \
        double took;                                                \
        for (;;) {                                                  \
            double from = now();                                    \
            for (long i = 0; i < count; i++) {                      \
                operation;                                          \
            }                                                       \
            took = now() - from;                                    \
            if (took > 5e7)                                         \
                break;                                              \
            count *= 2;                                             \
        }                                                           \
        printf("%s\t%.2f\n", name, took / count);                   \
        fflush(stdout);                                             \
    } while (0)

static long raw(long number) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
    return result;
}

static void handler(int number) { (void)number; }

int main(void) {
    static char block[65536];
    char path[64];
    struct timespec t;
    struct stat s;

    MEASURE("getppid (libc)", getppid());
    MEASURE("syscall(SYS_getppid)", syscall(SYS_getppid));
    MEASURE("getppid (inline syscall)", raw(SYS_getppid));
    MEASURE("clock_gettime", clock_gettime(CLOCK_MONOTONIC, &t));

    MEASURE("mmap + munmap, 1 page", munmap(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096));
    MEASURE("mmap + touch + munmap, 1 MiB", {
        char *area = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int at = 0; at < 1 << 20; at += 4096)
            area[at] = 1;
        munmap(area, 1 << 20);
    });
    char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MEASURE("mprotect twice", (mprotect(page, 4096, PROT_READ), mprotect(page, 4096, PROT_READ | PROT_WRITE)));

    snprintf(path, sizeof path, "/tmp/occlum-bench-%d", getpid());
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 16; i++)
        if (write(fd, block, sizeof block) < 0)
            return 1;
    MEASURE("open + close", close(open(path, O_RDONLY)));
    MEASURE("open + read 4 KiB + close", {
        int file = open(path, O_RDONLY);
        if (read(file, block, 4096) != 4096)
            return 1;
        close(file);
    });
    MEASURE("pread 4 KiB, cached", pread(fd, block, 4096, 8192));
    MEASURE("pread 64 KiB, cached", pread(fd, block, 65536, 65536));
    MEASURE("pwrite 4 KiB, cached", pwrite(fd, block, 4096, 8192));
    MEASURE("stat", stat(path, &s));
    close(fd);
    unlink(path);
    MEASURE("stat of what is not there", stat("/nothing/there", &s));

    int null = open("/dev/null", O_WRONLY), ends[2];
    MEASURE("write 1 byte to /dev/null", write(null, block, 1));
    if (pipe(ends))
        return 1;
    MEASURE("pipe: write + read 1 byte", (write(ends[1], block, 1), read(ends[0], block, 1)));
    MEASURE("pipe: write + read 64 KiB", (write(ends[1], block, 65536), read(ends[0], block, 65536)));
    signal(SIGUSR1, handler);
    MEASURE("signal to itself", raise(SIGUSR1));
    return 0;
}
