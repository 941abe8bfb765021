/* System calls that few programs make: priorities of transfers, kcmp, cachestat. */
#include "check.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ioprio_set(...) syscall(SYS_ioprio_set, __VA_ARGS__)
#define ioprio_get(...) syscall(SYS_ioprio_get, __VA_ARGS__)
#define CLASS(class, level) ((class) << 13 | (level))
enum { THREAD = 1, GROUP, USER };

static void priorities(void) {
    setpgid(0, 0);
    /* Whoever runs this may be nice, too. */
    setpriority(PRIO_PROCESS, 0, 10);
    show("at first", ioprio_get(THREAD, 0));
    show("what counts", ioprio_get(GROUP, 0));
    setpriority(PRIO_PROCESS, 0, 15);
    show("of who is nice", ioprio_get(GROUP, 0));
    static const int values[] = {CLASS(2, 7), CLASS(2, 0), CLASS(3, 0), CLASS(3, 5), CLASS(1, 3), CLASS(0, 0), CLASS(0, 1), CLASS(4, 0),
                                 CLASS(7, 0), CLASS(2, 9), CLASS(8, 0), -1};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        printf("%x ", values[i]);
        show("set", ioprio_set(THREAD, 0, values[i]));
        show("get", ioprio_get(THREAD, 0));
        show("what counts", ioprio_get(GROUP, 0));
    }
    show("a kind that is none", ioprio_set(4, 0, CLASS(2, 1)));
    show("nor this", ioprio_get(0, 0));
    show("nobody", ioprio_set(THREAD, 4000000, CLASS(2, 1)));
    show("nobody", ioprio_get(THREAD, -5));
    show("no group", ioprio_get(GROUP, 4000000));
    show("no user", ioprio_get(USER, 54321));
    ioprio_set(THREAD, 0, CLASS(2, 6));
    fflush(stdout);
    if (fork() == 0) {
        show("a child has it", ioprio_get(THREAD, 0));
        show("sets all", ioprio_set(GROUP, 0, CLASS(2, 5)));
        setresuid(1000, 1000, 1000);
        show("of another user", ioprio_set(THREAD, getppid(), CLASS(2, 1)));
        show("real time", ioprio_set(THREAD, 0, CLASS(1, 1)));
        show("its own", ioprio_set(THREAD, 0, CLASS(3, 0)));
        show("its user's", ioprio_get(USER, 1000));
        _exit(0);
    }
    wait(NULL);
    show("the child set it", ioprio_get(THREAD, 0));
    sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
    ioprio_set(THREAD, 0, 0);
    show("of SCHED_IDLE", ioprio_get(GROUP, 0));
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
}

static int order(const char *what, int one, int other, int kind, long first, long second) {
    long result = syscall(SYS_kcmp, one, other, kind, first, second);
    printf("%s: %s\n", what, result < 0 ? errno_name(errno) : result == 0 ? "equal" : result < 3 ? "not equal" : "unordered");
    fflush(stdout);
    return result;
}

static void comparing(void) {
    int fd = open("/dev/null", O_RDWR), other = open("/dev/null", O_RDWR), copy = dup(fd), me = getpid();
    order("the same file", me, me, 0, fd, copy);
    int less = order("two files", me, me, 0, fd, other);
    holds("the other way round", order("two files", me, me, 0, other, fd) + less == 3);
    order("no file", me, me, 0, fd, 99);
    order("nor this", me, me, 0, -1, fd);
    order("memory", me, me, 1, 0, 0);
    order("no kind", me, me, 8, 0, 0);
    order("nobody", me, 4000000, 1, 0, 0);
    order("nobody", 0, me, 8, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    order("a file of a child", me, child, 0, fd, fd);
    order("memory of a child", me, child, 1, 0, 0);
    order("descriptors of a child", me, child, 2, 0, 0);
    order("places of a child", me, child, 3, 0, 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    if (fork() == 0) {
        setresuid(1000, 1000, 1000);
        order("of another user", getpid(), getppid(), 1, 0, 0);
        _exit(0);
    }
    wait(NULL);
    close(fd), close(other), close(copy);
}

static void cached(void) {
    struct {
        unsigned long pages, more[4];
    } found = {0};
    unsigned long range[2] = {0};
    static char block[20000];
    int fd = memfd_create("m", 0), ends[2];
#define cachestat(fd, range, into, flags) syscall(451, fd, range, into, flags)
#define count(what, fd, from, len)                                     \
    do {                                                               \
        range[0] = (from), range[1] = (len), found.pages = 99;         \
        if (show(what, cachestat(fd, range, &found, 0)) == 0)          \
            printf("%lu pages, %lu\n", found.pages, found.more[0]);    \
    } while (0)
    count("an empty file", fd, 0, 0);
    ftruncate(fd, 1000000);
    count("a hole", fd, 0, 0);
    pwrite(fd, block, 5000, 0), pwrite(fd, block, 1, 50000), pwrite(fd, block, 20000, 100000);
    count("all", fd, 0, 0);
    count("a page", fd, 4096, 4096);
    count("a byte", fd, 5000, 1);
    count("two", fd, 4095, 2);
    count("behind a hole", fd, 8192, 1000000);
    count("within one", fd, 60000, 100);
    count("beyond the end", fd, 2000000, 100);
    count("far beyond", fd, -1, 100);
    show("a flag", cachestat(fd, range, &found, 1));
    show("no range", cachestat(fd, NULL, &found, 0));
    show("nowhere to", cachestat(fd, range, NULL, 0));
    count("no file", -1, 0, 0);
    pipe(ends);
    count("a pipe", ends[0], 0, 0);
    count("a place", open("/", O_PATH), 0, 0);
    count("a device", open("/dev/null", O_RDONLY), 0, 0);
}

int main(int count, char **arguments) {
    (void)arguments;
    setvbuf(stdout, NULL, _IONBF, 0);
    priorities();
    comparing();
    if (count > 1)
        cached();
    return 0;
}
