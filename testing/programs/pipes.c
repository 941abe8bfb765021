/* Pipes, poll and select in one process. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

static void look(const char *what, int fd, short events) {
    struct pollfd one = {.fd = fd, .events = events};
    int ready = poll(&one, 1, 0);
    printf("%s: %d%s%s%s%s%s\n", what, ready, one.revents & POLLIN ? " IN" : "", one.revents & POLLOUT ? " OUT" : "",
           one.revents & POLLHUP ? " HUP" : "", one.revents & POLLERR ? " ERR" : "", one.revents & POLLNVAL ? " NVAL" : "");
}

static double seconds_of(int (*wait)(void)) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    printf("result %d\n", wait());
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9;
}

static int ends[2];
static int wait_poll(void) { return poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, 50); }
static int wait_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    return select(ends[0] + 1, &set, NULL, NULL, &(struct timeval){.tv_usec = 50000});
}
static int wait_nothing(void) { return poll(NULL, 0, 50); }

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    static char block[70000];
    char text[100] = {0};
    works("pipe", pipe(ends));
    look("empty, reader", ends[0], POLLIN);
    look("empty, writer", ends[1], POLLOUT);
    show("write", write(ends[1], "some bytes", 10));
    look("filled, reader", ends[0], POLLIN);
    int waiting = 0;
    ioctl(ends[0], FIONREAD, &waiting);
    printf("FIONREAD: %d\n", waiting);
    show("read", read(ends[0], text, 4));
    show("read the rest", read(ends[0], text + 4, 90));
    printf("%s\n", text);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    show("read of an empty one", read(ends[0], text, 1));
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    show("the capacity", write(ends[1], block, sizeof block));
    show("write to a full one", write(ends[1], block, 1));
    look("full, writer", ends[1], POLLOUT);
    show("read a page", read(ends[0], block, 4096));
    look("a page free, writer", ends[1], POLLOUT);
    show("a write that does not fit is whole or nothing", write(ends[1], block, 4096));
    show("again", write(ends[1], block, 4096));
    while (read(ends[0], block, sizeof block) > 0)
        ;
    show("lseek", lseek(ends[0], 0, SEEK_SET));
    show("pread", pread(ends[0], text, 1, 0));
    show("read of the writer", read(ends[1], text, 1));
    show("write of the reader", write(ends[0], text, 1));
    show("ftruncate", ftruncate(ends[1], 0));
    show("fsync", fsync(ends[1]));
    holds("poll waits 50 ms", seconds_of(wait_poll) >= 0.049);
    holds("select waits 50 ms", seconds_of(wait_select) >= 0.049);
    holds("poll of nothing waits", seconds_of(wait_nothing) >= 0.049);
    write(ends[1], "x", 1);
    holds("and does not wait when something is there", seconds_of(wait_poll) < 0.045);
    holds("nor does select", seconds_of(wait_select) < 0.045);
    int copy = dup(ends[1]);
    close(ends[1]);
    look("a writer is left", ends[0], POLLIN);
    close(copy);
    look("none is left", ends[0], POLLIN);
    show("read what is left", read(ends[0], text, 10));
    look("empty and closed", ends[0], POLLIN);
    show("read the end", read(ends[0], text, 10));
    close(ends[0]);
    look("closed", ends[0], POLLIN);
    look("negative", -1, POLLIN);
    pipe(ends);
    close(ends[0]);
    look("no reader", ends[1], POLLOUT);
    show("write to no reader", write(ends[1], "x", 1));
    works("pipe2", pipe2(ends, O_CLOEXEC | O_NONBLOCK));
    show("F_GETFD", fcntl(ends[0], F_GETFD));
    holds("O_NONBLOCK", fcntl(ends[1], F_GETFL) & O_NONBLOCK);
    int file = open("/dev/null", O_RDWR);
    look("a file that never blocks", file, POLLIN | POLLOUT);
    return 0;
}
