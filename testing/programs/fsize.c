/* RLIMIT_FSIZE: how long a program may make a file. Prints the same everywhere. Arguments: a folder. */
#include "check.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT = 10000 };

static volatile sig_atomic_t signals;
static char block[20000];

static void count(int number) { signals += number == SIGXFSZ; }

static long size(int fd) { return lseek(fd, 0, SEEK_END); }

static void told(void) {
    printf("  signals %d\n", (int)signals);
    signals = 0;
}

static void writes(int fd) {
    struct iovec parts[2] = {{block, 6000}, {block, 6000}};
    show("write to the limit", write(fd, block, LIMIT - 10));
    show("write over it", write(fd, block, 100));
    told();
    show("write at it", write(fd, block, 1));
    told();
    show("write nothing at it", write(fd, block, 0));
    show("pwrite below", pwrite(fd, block, 100, 50));
    show("pwrite over", pwrite(fd, block, 100, LIMIT - 1));
    show("pwrite far beyond", pwrite(fd, block, 100, LIMIT * 2));
    told();
    lseek(fd, 0, SEEK_SET);
    show("writev over it", writev(fd, parts, 2));
    show("position", lseek(fd, 0, SEEK_CUR));
    told();
    show("size", size(fd));
}

static void sizes(int fd) {
    works("ftruncate to it", ftruncate(fd, LIMIT));
    works("ftruncate beyond", ftruncate(fd, LIMIT + 1));
    told();
    works("ftruncate to less", ftruncate(fd, 10));
    works("fallocate to it", fallocate(fd, 0, 0, LIMIT));
    works("fallocate beyond", fallocate(fd, 0, LIMIT - 1, 2));
    told();
    show("size", size(fd));
}

static void appends(const char *path) {
    int fd = open(path, O_WRONLY | O_APPEND);
    works("ftruncate", ftruncate(fd, LIMIT - 3));
    show("append over it", write(fd, block, 100));
    show("append at it", write(fd, block, 100));
    show("pwrite, which appends", pwrite(fd, block, 1, 0));
    told();
    close(fd);
}

static void other_ways(const char *path) {
    int from = open(path, O_RDONLY), to = open(path, O_WRONLY), memory = memfd_create("memory", 0), ends[2];
    off_t at = 0;
    lseek(to, LIMIT - 5, SEEK_SET);
    show("sendfile over it", sendfile(to, from, &at, 100));
    signals = 0;
    works("a file in memory", ftruncate(memory, LIMIT + 1));
    lseek(memory, LIMIT - 2, SEEK_SET);
    show("written over it", write(memory, block, 3));
    told();
    pipe(ends);
    show("a pipe has no limit", write(ends[1], block, LIMIT + 2));
    told();
}

/* What becomes of a program that does not catch the signal. */
static void dies(const char *path) {
    int status, fd = open(path, O_WRONLY | O_TRUNC);
    fflush(stdout);
    if (!fork()) {
        struct rlimit none = {0, 0};
        signal(SIGXFSZ, SIG_DFL);
        setrlimit(RLIMIT_CORE, &none);
        write(fd, block, LIMIT);
        write(fd, block, 1);
        _exit(0);
    }
    wait(&status);
    printf("ended by a signal: %d, SIGXFSZ: %d\n", WIFSIGNALED(status), WTERMSIG(status) == SIGXFSZ);
    signal(SIGXFSZ, SIG_IGN);
    lseek(fd, 0, SEEK_END);
    show("ignored", write(fd, block, 1));
    close(fd);
}

int main(int argc, char **argv) {
    char path[500];
    struct rlimit limit = {LIMIT, RLIM_INFINITY};
    int fd;

    snprintf(path, sizeof path, "%s/limited", argv[argc - 1]);
    mkdir(argv[argc - 1], 0755);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    signal(SIGXFSZ, count);
    show("longer than the limit, before there is one", write(fd, block, 20000));
    works("setrlimit", setrlimit(RLIMIT_FSIZE, &limit));
    works("ftruncate to less, above the limit", ftruncate(fd, 15000));
    told();
    works("ftruncate to nothing", ftruncate(fd, 0));
    lseek(fd, 0, SEEK_SET);
    writes(fd);
    sizes(fd);
    appends(path);
    other_ways(path);
    dies(path);
    limit.rlim_cur = RLIM_INFINITY;
    works("no limit again", setrlimit(RLIMIT_FSIZE, &limit));
    show("write", pwrite(fd, block, 20000, 0));
    unlink(path);
    return 0;
}
