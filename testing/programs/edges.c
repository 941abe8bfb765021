/* What is an edge to who watches a pipe with EPOLLET: at the end that reads, and at the end that writes. */
#include "check.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int epoll, reader, writer;
static char block[70000];

static void watch(int fd, unsigned events, char name) {
    struct epoll_event event = {.events = events | EPOLLET, .data.u32 = name};
    works("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* Tells what is new since the last call, in the order of the names. */
static void tell(const char *after) {
    struct epoll_event found[4];
    int count = epoll_wait(epoll, found, 4, 0);
    printf("  %s:", after);
    for (unsigned name = 'a'; name <= 'z'; name++)
        for (int i = 0; i < count; i++)
            if (found[i].data.u32 == name)
                printf(" %c %x", name, found[i].events);
    printf("\n");
}

static void begin(const char *what, unsigned at_reader, unsigned at_writer) {
    int ends[2];
    printf("%s\n", what);
    epoll = epoll_create1(0);
    works("pipe2", pipe2(ends, O_NONBLOCK));
    reader = ends[0], writer = ends[1];
    watch(reader, at_reader, 'r'), watch(writer, at_writer, 'w');
    tell("at first"), tell("again");
}

static void end(void) { close(reader), close(writer), close(epoll); }

static void transfers(void) {
    begin("reads and writes", EPOLLIN, EPOLLOUT);
    show("write", write(writer, block, 100)), tell("something came"), tell("again");
    show("write", write(writer, block, 100)), tell("more came, though nothing was read");
    show("write nothing", write(writer, block, 0)), tell("nothing came");
    show("write what is not there", write(writer, (void *)8, 10)), tell("nor did anything");
    show("read some", read(reader, block, 50)), tell("there was room before");
    show("read all", read(reader, block, 1000)), tell("there was");
    show("read nothing", read(reader, block, 1000)), tell("there is");
    show("fill", write(writer, block, sizeof block)), tell("it is full");
    show("write more", write(writer, block, 1)), tell("it was too much");
    show("read a page", read(reader, block, 4096)), tell("there is room again");
    show("read a page", read(reader, block, 4096)), tell("there was room");
    end();
}

static void moves(void) {
    int other[2];
    begin("moves", EPOLLIN, EPOLLOUT);
    pipe2(other, O_NONBLOCK);
    struct iovec row = {block, 100}, all = {block, 1000};
    show("write", write(writer, block, 200)), tell("something came");
    show("tee", tee(reader, other[1], 200, 0)), tell("it is still there");
    show("splice some", splice(reader, NULL, other[1], NULL, 50, 0)), tell("part of a page went");
    show("splice all", splice(reader, NULL, other[1], NULL, 1000, 0)), tell("a page went");
    show("tee", tee(other[0], writer, 10, 0)), tell("something came");
    show("splice", splice(other[0], NULL, writer, NULL, 20, 0)), tell("something came");
    show("vmsplice", vmsplice(writer, &row, 1, 0)), tell("something came");
    show("vmsplice", vmsplice(reader, &all, 1, 0)), tell("all pages went");
    close(other[0]), close(other[1]);
    end();
}

static void sizes(void) {
    begin("sizes", EPOLLIN, EPOLLOUT);
    show("larger", fcntl(writer, F_SETPIPE_SZ, 131072)), tell("there is more room");
    show("the same", fcntl(reader, F_SETPIPE_SZ, 131072)), tell("there may be");
    show("smaller", fcntl(writer, F_SETPIPE_SZ, 65536)), tell("there may be");
    show("no size", fcntl(writer, F_SETPIPE_SZ, -1)), tell("nothing changed");
    show("which", fcntl(writer, F_GETPIPE_SZ)), tell("nothing changed");
    end();
}

static void ends(void) {
    begin("the last writer goes", EPOLLIN, EPOLLOUT);
    int copy = dup(writer);
    close(copy), tell("a copy went");
    show("write", write(writer, block, 10)), tell("something came");
    close(writer), tell("it is hung up"), tell("again");
    end();
    begin("the last reader goes", EPOLLIN, EPOLLOUT);
    close(reader), tell("nobody reads"), tell("again");
    show("larger", fcntl(writer, F_SETPIPE_SZ, 131072)), tell("there may be room");
    end();
    begin("nothing is asked for but the end", 0, 0);
    show("write", write(writer, block, 10)), tell("something came");
    close(reader), tell("nobody reads"), tell("again");
    show("larger", fcntl(writer, F_SETPIPE_SZ, 131072)), tell("it is still so");
    end();
}

static void fifos(void) {
    char path[100];
    printf("FIFOs\n");
    sprintf(path, "/tmp/occlum-edges-%d", (int)getpid());
    works("mkfifo", mkfifo(path, 0600));
    epoll = epoll_create1(0);
    int first = open(path, O_RDONLY | O_NONBLOCK);
    watch(first, EPOLLIN, 'a'), tell("nobody wrote ever");
    int one = open(path, O_WRONLY | O_NONBLOCK), two = open(path, O_WRONLY | O_NONBLOCK);
    watch(one, EPOLLOUT, 'w'), tell("there are two writers");
    close(two), tell("one went");
    int second = open(path, O_RDONLY | O_NONBLOCK);
    watch(second, EPOLLIN, 'b'), tell("another reader came");
    close(one), tell("nobody writes any more");
    int third = open(path, O_RDONLY | O_NONBLOCK);
    watch(third, EPOLLIN, 'c'), tell("who comes now knows of no writer");
    one = open(path, O_WRONLY | O_NONBLOCK);
    watch(one, EPOLLOUT, 'w'), tell("somebody writes again");
    close(one), tell("and goes");
    one = open(path, O_RDWR | O_NONBLOCK);
    watch(one, EPOLLIN | EPOLLOUT, 'x'), tell("somebody does both");
    show("write", write(one, block, 10)), tell("something came");
    show("larger", fcntl(one, F_SETPIPE_SZ, 131072)), tell("there may be room");
    close(first), close(second), close(third), close(one), close(epoll);
    unlink(path);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    transfers(), moves(), sizes(), ends(), fifos();
    return 0;
}
