/* Pipes hold so many pages, not so many bytes: what is merged, what takes a page of its own, when there is room again. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
static char block[40 * PAGE], *memory;
static int ends[2];

static void make(int flags) {
    if (ends[1])
        close(ends[0]), close(ends[1]);
    pipe2(ends, O_NONBLOCK | flags);
}

static int waiting(int fd) {
    int count = -1;
    ioctl(fd, FIONREAD, &count);
    return count;
}

static void look_at(const char *what, int pipe[2]) {
    struct pollfd one = {.fd = pipe[1], .events = POLLOUT};
    poll(&one, 1, 0);
    printf("%s: %d bytes%s%s\n", what, waiting(pipe[0]), one.revents & POLLOUT ? " OUT" : "", one.revents & POLLERR ? " ERR" : "");
    fflush(stdout);
}

static void look(const char *what) { look_at(what, ends); }

/* Writes until there is no room, or often, and says how often it was done. */
static void fill(const char *what, size_t len, int most) {
    int count = 0;
    while (count < most && write(ends[1], block, len) == (ssize_t)len)
        count++;
    printf("%s: %d writes of %zu\n", what, count, len);
    look("then");
}

static void merging(void) {
    make(0);
    fill("bytes", 1, 100000);
    static const int sizes[] = {2, 100, 1000, 1023, 1024, 1025, 1365, 1366, 2000, 2048, 2049, 3000, 4095, 4096, 4097, 5000, 8191, 8193, 9000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        make(0);
        fill("writes", sizes[i], 100000);
        show("a byte", write(ends[1], block, 1));
        show("a page and a byte", write(ends[1], block, PAGE + 1));
        show("a page", write(ends[1], block, PAGE));
        show("read a byte", read(ends[0], block, 1));
        look("one less");
        show("read all of a page", read(ends[0], block, PAGE - 1));
        look("a page less");
        show("write much", write(ends[1], block, 3 * PAGE + 7));
        show("read much", read(ends[0], block, sizeof block));
        look("the end");
    }
    make(0);
    show("pages but one", write(ends[1], block, 15 * PAGE));
    show("a page and a byte into one slot", write(ends[1], block, PAGE + 1));
    look("then");
    make(0);
    show("pages and some", write(ends[1], block, 15 * PAGE + 10));
    look("full");
    show("4097: the byte merges", write(ends[1], block, PAGE + 1));
    show("8192 and 4085", write(ends[1], block, 2 * PAGE + 4085));
    show("4085", write(ends[1], block, 4085));
    show("the last", write(ends[1], block, 1));
    struct iovec rows[3] = {{block, 10}, {block, PAGE}, {block, 30}};
    make(0);
    write(ends[1], block, 14 * PAGE + 100);
    show("rows", writev(ends[1], rows, 3));
    show("rows again", writev(ends[1], rows, 3));
    look("then");
}

static void reading(void) {
    make(0);
    write(ends[1], block, 16 * PAGE);
    show("half a page", read(ends[0], block, PAGE / 2));
    look("is not free");
    show("write", write(ends[1], block, 1));
    show("the other half", read(ends[0], block, PAGE / 2));
    look("is");
    show("write", write(ends[1], block, 1));
    show("and", write(ends[1], block, PAGE));
    show("all but a byte", read(ends[0], block, 15 * PAGE));
    show("write more", write(ends[1], block, 15 * PAGE));
    make(0);
    write(ends[1], block, 100);
    show("all", read(ends[0], block, 100));
    show("a new page", write(ends[1], block, 4000));
    show("16 pages in all", write(ends[1], block, 16 * PAGE));
    /* Of a slot all or nothing is read and written. */
    make(0);
    write(ends[1], block, 1000), write(ends[1], block, PAGE), write(ends[1], block, 2000);
    show("into half a page", read(ends[0], memory + PAGE - 500, 3000));
    show("into a page", read(ends[0], memory, 2 * PAGE));
    show("into less", read(ends[0], memory + 96, 2 * PAGE));
    look("then");
    make(0);
    write(ends[1], block, 3 * PAGE);
    show("into a page of two", read(ends[0], memory, 2 * PAGE));
    show("into half", read(ends[0], memory + PAGE / 2, 2 * PAGE));
    look("then");
    show("from a page of two", write(ends[1], memory, 2 * PAGE));
    show("from half", write(ends[1], memory + PAGE / 2, 2 * PAGE));
    look("then");
    make(0);
    write(ends[1], block, 10);
    show("from half a page", write(ends[1], memory + PAGE - 500, 1000));
    show("the merged part, and no page", write(ends[1], memory + 96, PAGE + 4000));
    show("the merged part, and not the page", write(ends[1], memory + 96, PAGE + 3000));
    look("then");
}

static void packets(void) {
    make(O_DIRECT);
    fill("packets", 1, 100);
    show("one", read(ends[0], block, 100));
    show("one more", write(ends[1], block, 5));
    show("and", write(ends[1], block, 5));
    show("part of one", read(ends[0], block, 0));
    make(O_DIRECT);
    fill("long packets", 5000, 100);
    show("a packet", read(ends[0], block, sizeof block));
    show("a packet", read(ends[0], block, sizeof block));
    /* The first is added to what is there and is no packet. */
    make(0);
    write(ends[1], block, 10);
    fcntl(ends[1], F_SETFL, O_NONBLOCK | O_DIRECT);
    show("merged", write(ends[1], block, 10));
    show("merged in part", write(ends[1], block, PAGE + 20));
    show("apart", write(ends[1], block, PAGE));
    show("a packet", write(ends[1], block, 7));
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    show("no packet", write(ends[1], block, 7));
    for (int i = 0; i < 6; i++)
        show("read", read(ends[0], block, sizeof block));
}

static void sizes(void) {
    make(0);
    show("size", fcntl(ends[1], F_GETPIPE_SZ));
    show("5 pages and a byte", write(ends[1], block, 5 * PAGE + 1));
    static const int asked[] = {PAGE, 4 * PAGE, 4 * PAGE + 1, 5 * PAGE, 6 * PAGE, 8 * PAGE, 8 * PAGE + 1, 100000, 0, 1};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        printf("%d ", asked[i]);
        show("asked", fcntl(ends[0], F_SETPIPE_SZ, asked[i]));
        look("now");
    }
    fcntl(ends[0], F_SETPIPE_SZ, 8 * PAGE);
    show("write", write(ends[1], block, 16 * PAGE));
    show("read", read(ends[0], block, 4 * PAGE + 4000));
    show("half", fcntl(ends[0], F_SETPIPE_SZ, 4 * PAGE));
    show("read", read(ends[0], block, 96));
    show("half", fcntl(ends[0], F_SETPIPE_SZ, 4 * PAGE));
    show("write", write(ends[1], block, 16 * PAGE));
    make(0);
    fcntl(ends[0], F_SETPIPE_SZ, PAGE);
    show("into one slot", write(ends[1], block, PAGE + 1));
    show("and", write(ends[1], block, 1));
    show("read", read(ends[0], block, 1));
    look("then");
    make(O_DIRECT);
    for (int i = 0; i < 3; i++)
        write(ends[1], block, 1);
    show("2 for 3 packets", fcntl(ends[0], F_SETPIPE_SZ, 2 * PAGE));
    show("4 for 3 packets", fcntl(ends[0], F_SETPIPE_SZ, 4 * PAGE));
    fill("one more", 1, 10);
    make(0);
    show("a large one", fcntl(ends[0], F_SETPIPE_SZ, 32 * PAGE));
    show("write", write(ends[1], block, 20 * PAGE + 77));
    show("write", write(ends[1], block, 20 * PAGE + 78));
    look("then");
}

static void moving(int file) {
    int other[2];
    loff_t at = 4000;
    make(0);
    fcntl(ends[0], F_SETPIPE_SZ, 2 * PAGE);
    show("from a file", splice(file, &at, ends[1], NULL, 9000, SPLICE_F_NONBLOCK));
    look("then");
    show("and", splice(file, &at, ends[1], NULL, 1, SPLICE_F_NONBLOCK));
    show("nothing is added", write(ends[1], block, 1));
    show("read", read(ends[0], block, 96));
    show("and", splice(file, &at, ends[1], NULL, 9000, SPLICE_F_NONBLOCK));
    make(0);
    for (int i = 0; i < 20; i++) {
        struct iovec row = {block + i * 100, 50};
        if (vmsplice(ends[1], &row, 1, SPLICE_F_NONBLOCK) < 0) {
            show("so many memory", i);
            break;
        }
    }
    look("then");
    make(0);
    struct iovec rows[3] = {{memory + 4000, 96}, {memory, PAGE}, {block, 1}};
    fcntl(ends[0], F_SETPIPE_SZ, 2 * PAGE);
    show("two of three", vmsplice(ends[1], rows, 3, SPLICE_F_NONBLOCK));
    show("none", vmsplice(ends[1], rows, 3, SPLICE_F_NONBLOCK));
    read(ends[0], block, 100);
    show("without waiting for more", vmsplice(ends[1], rows, 3, 0));

    pipe2(other, O_NONBLOCK);
    make(0);
    write(ends[1], block, 100), write(ends[1], block, PAGE), write(ends[1], block, 200);
    show("tee", tee(ends[0], other[1], 50, SPLICE_F_NONBLOCK));
    show("tee", tee(ends[0], other[1], 5000, SPLICE_F_NONBLOCK));
    show("nothing is added", write(other[1], block, PAGE * 12));
    look_at("five and ten more", other);
    show("no more", write(other[1], block, 1));
    read(other[0], block, sizeof block);
    show("splice of a part", splice(ends[0], NULL, other[1], NULL, 40, SPLICE_F_NONBLOCK));
    show("in a page of its own", write(other[1], block, 1));
    show("splice of all", splice(ends[0], NULL, other[1], NULL, 10000, SPLICE_F_NONBLOCK));
    show("it is added to", write(other[1], block, PAGE - 200));
    show("6 are taken", fcntl(other[0], F_SETPIPE_SZ, 4 * PAGE));
    show("2 are not enough", fcntl(other[0], F_SETPIPE_SZ, 2 * PAGE));
    close(other[0]), close(other[1]);

    pipe2(other, O_NONBLOCK);
    make(O_DIRECT);
    fcntl(other[0], F_SETPIPE_SZ, 2 * PAGE);
    for (int i = 0; i < 5; i++)
        write(ends[1], block, 10);
    show("two packets", splice(ends[0], NULL, other[1], NULL, 1000, SPLICE_F_NONBLOCK));
    show("no tee", tee(ends[0], other[1], 1000, SPLICE_F_NONBLOCK));
    show("a packet", read(other[0], block, 100));
    show("tee", tee(ends[0], other[1], 5, SPLICE_F_NONBLOCK));
    show("a packet", read(other[0], block, 100));
    show("a part", read(other[0], block, 100));
    look("left");
    close(other[0]), close(other[1]);
}

/* Who waits goes on when a slot is free, and not before. */
static void waiting_for_room(void) {
    make(0);
    write(ends[1], block, 16 * PAGE);
    fcntl(ends[1], F_SETFL, 0);
    fflush(stdout);
    pid_t writer = fork();
    if (!writer)
        _exit(write(ends[1], block, PAGE + 1) != PAGE + 1);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    show("half of a page", read(ends[0], block, PAGE / 2));
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    look("nothing came");
    show("the other half", read(ends[0], block, PAGE / 2));
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    look("a page came");
    show("a page", read(ends[0], block, PAGE));
    int status = -1;
    waitpid(writer, &status, 0);
    show("it ended", status);
    look("all came");
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 1, 2 * PAGE);
    mprotect(memory + PAGE, PAGE, PROT_NONE);
    int file = syscall(319 /* memfd_create */, "file", 0);
    write(file, block, sizeof block);
    merging();
    reading();
    packets();
    sizes();
    moving(file);
    waiting_for_room();
    return 0;
}
