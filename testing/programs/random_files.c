/* Random calls about descriptors: pipes, counters, memory files, and what poll and epoll say of them. */
#include "random.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#define MOST 24
/* What is at each number: 0 nothing, else a letter for its kind. */
static char kinds[MOST];

static void setup(void) {
    catch_signal(SIGPIPE, 0);
}

static void finish(void) {}

static void note(long fd, char kind) {
    if (fd >= 0 && fd < MOST)
        kinds[fd] = kind;
}

/* A descriptor, mostly one that is open. */
static int some(void) {
    if (chance(14))
        return PICK(-1, 99, 1000, -100, 0x7fffffff);
    for (int i = 0; i < 20; i++) {
        int fd = 3 + below(MOST - 3);
        if (kinds[fd])
            return fd;
    }
    return 3;
}

static const char *name(int fd) {
    static char names[4][16];
    static int next;
    char *text = names[next++ % 4];
    sprintf(text, "%d%c", fd, fd >= 0 && fd < MOST && kinds[fd] ? kinds[fd] : '-');
    return text;
}

static int is_full(void) {
    int count = 0;
    for (int i = 3; i < MOST; i++)
        count += kinds[i] != 0;
    return count > 14;
}

static void make(void) {
    int *ends = (void *)scratch;
    ends[0] = ends[1] = -1;
    int flags = O_NONBLOCK | (chance(3) ? PICK(O_CLOEXEC, 1, O_APPEND) : 0);
    if (is_full()) {
        printf("enough");
        return;
    }
    switch (below(5)) {
    case 0:
    case 1: {
        void *into = pointer_or(ends, 0);
        printf("pipe2(%s, %x)", kind_of(into), flags);
        if (result(CALL(pipe2, into, flags)) == 0)
            note(ends[0], 'r'), note(ends[1], 'w');
        break;
    }
    case 2: {
        unsigned initial = PICK(0, 1, 5, 0xffffffff);
        int more = chance(3) ? PICK(EFD_SEMAPHORE, EFD_CLOEXEC, 2) : 0;
        printf("eventfd2(%u, %x)", initial, EFD_NONBLOCK | more);
        note(result(CALL(eventfd2, initial, EFD_NONBLOCK | more)), 'e');
        break;
    }
    case 3: {
        unsigned more = PICK(0, 0, 1, 2, 0x100);
        strcpy(scratch, "name");
        void *text = pointer_or(scratch, 0);
        printf("memfd_create(%s, %x)", kind_of(text), more);
        note(result(CALL(memfd_create, text, more)), 'm');
        break;
    }
    default: {
        int more = PICK(0, EPOLL_CLOEXEC, 1);
        printf("epoll_create1(%x)", more);
        note(result(CALL(epoll_create1, more)), 'p');
    }
    }
}

static void close_one(void) {
    int fd = some();
    printf("close(%s)", name(fd));
    if (result(CALL(close, fd)) == 0)
        note(fd, 0);
}

static void duplicate(void) {
    int fd = some(), to = chance(6) ? PICK(-1, 255, 256, 1000) : 3 + below(MOST - 3);
    char kind = fd >= 0 && fd < MOST ? kinds[fd] : 0;
    switch (below(4)) {
    case 0:
        if (is_full())
            break;
        printf("dup(%s)", name(fd));
        note(result(CALL(dup, fd)), kind);
        return;
    case 1: {
        if (is_full() && (to < 0 || to >= MOST || !kinds[to]))
            break;
        printf("dup2(%s, %s)", name(fd), name(to));
        long made = result(CALL(dup2, fd, to));
        note(made, kind);
        if (made >= MOST)
            close(made);
        return;
    }
    case 2: {
        if (is_full() && (to < 0 || to >= MOST || !kinds[to]))
            break;
        int flags = fd < 0 || to < 0 ? 0 : PICK(0, O_CLOEXEC, 1, O_NONBLOCK);
        printf("dup3(%s, %s, %x)", name(fd), name(to), flags);
        long made = result(CALL(dup3, fd, to, flags));
        note(made, kind);
        if (made >= MOST)
            close(made);
        return;
    }
    default: {
        if (is_full())
            break;
        int command = PICK(F_DUPFD, F_DUPFD_CLOEXEC), from = PICK(0, 3, 10, 255, 256, -1);
        printf("fcntl(%s, %d, %d)", name(fd), command, from);
        long made = result(CALL(fcntl, fd, command, from));
        note(made, kind);
        if (made >= MOST)
            close(made);
        return;
    }
    }
    printf("enough");
}

static void control(void) {
    int fd = some();
    switch (below(9)) {
    case 0:
        printf("fcntl(%s, F_GETFL)", name(fd));
        result(CALL(fcntl, fd, F_GETFL));
        break;
    case 1: {
        int flags = O_NONBLOCK | PICK(0, O_APPEND, O_RDWR, 0x7fff0000);
        flags &= ~(O_DIRECT | O_ASYNC | O_NOATIME);
        printf("fcntl(%s, F_SETFL, %x)", name(fd), flags);
        result(CALL(fcntl, fd, F_SETFL, flags));
        break;
    }
    case 2:
        printf("fcntl(%s, F_GETFD)", name(fd));
        result(CALL(fcntl, fd, F_GETFD));
        break;
    case 3: {
        int flags = PICK(0, 1, 3, -1);
        printf("fcntl(%s, F_SETFD, %d)", name(fd), flags);
        result(CALL(fcntl, fd, F_SETFD, flags));
        break;
    }
    case 4: {
        int size = PICK(0, 1, 4096, 5000, 65536, 100000, 1 << 20, -1);
        printf("fcntl(%s, F_SETPIPE_SZ, %d)", name(fd), size);
        result(CALL(fcntl, fd, F_SETPIPE_SZ, size));
        break;
    }
    case 5:
        printf("fcntl(%s, F_GETPIPE_SZ)", name(fd));
        result(CALL(fcntl, fd, F_GETPIPE_SZ));
        break;
    case 6: {
        long offset = PICK(0, 5, -1, 100);
        int whence = PICK(0, 1, 2, 9);
        printf("lseek(%s, %ld, %d)", name(fd), offset, whence);
        result(CALL(lseek, fd, offset, whence));
        break;
    }
    case 7: {
        struct stat *into = pointer_or(scratch, 0);
        printf("fstat(%s, %s)", name(fd), kind_of(into));
        if (result(CALL(fstat, fd, into)) == 0)
            printf(" type %x size %ld", into->st_mode & S_IFMT, S_ISREG(into->st_mode) ? (long)into->st_size : 0);
        break;
    }
    default: {
        int left = -1;
        void *into = pointer_or(&left, 0);
        printf("ioctl(%s, FIONREAD, %s)", name(fd), kind_of(into));
        if (fd >= 0 && fd < MOST && strchr("rw", kinds[fd]) && kinds[fd]) {
            result(CALL(ioctl, fd, 0x541b, into));
            printf(" %d", left);
        }
    }
    }
}

static void transfer(void) {
    int fd = some(), is_write = chance(2), size = PICK(0, 1, 7, 8, 8, 9, 100, 4096, 5000, 20000);
    for (int i = 0; i < size; i++)
        scratch[i] = is_write ? (char)below(7) : 0;
    if (is_write && chance(8))
        memset(scratch, 255, 8);
    char *buffer = chance(10) ? pointer_or(scratch, 0) : scratch;
    long done;
    switch (below(4)) {
    case 0: {
        struct iovec *rows = (void *)(scratch + 32768);
        if (fd >= 0 && fd < MOST && kinds[fd] == 'p') {
            printf("not for an epoll");
            return;
        }
        int count = PICK(0, 1, 2, 3, 1024, 1025, -1);
        for (int i = 0; i < 1025; i++)
            rows[i] = (struct iovec){scratch + i * 16, i < 3 ? size / 3 : 0};
        if (chance(8))
            rows[1].iov_base = closed;
        if (chance(12))
            rows[1].iov_len = -1;
        printf("%s(%s, %d of %d%s%s)", is_write ? "writev" : "readv", name(fd), count, size / 3,
               rows[1].iov_base == closed ? " bad" : "", rows[1].iov_len == (size_t)-1 ? " long" : "");
        done = is_write ? CALL(writev, fd, rows, count) : CALL(readv, fd, rows, count);
        break;
    }
    case 1: {
        long offset = fd < 0 ? 0 : PICK(0, 3, 1000, -1);
        printf("%s(%s, %s, %d, %ld)", is_write ? "pwrite64" : "pread64", name(fd), kind_of(buffer), size, offset);
        done = is_write ? CALL(pwrite64, fd, buffer, size, offset) : CALL(pread64, fd, buffer, size, offset);
        break;
    }
    default:
        printf("%s(%s, %s, %d)", is_write ? "write" : "read", name(fd), kind_of(buffer), size);
        done = is_write ? CALL(write, fd, buffer, size) : CALL(read, fd, buffer, size);
    }
    result(done);
    if (!is_write && done > 0 && buffer == scratch) {
        unsigned sum = 0;
        for (int i = 0; i < done; i++)
            sum = sum * 31 + (unsigned char)scratch[i];
        printf(" sum %x", sum);
    }
}

static void look(void) {
    struct pollfd *rows = (void *)scratch;
    int count = below(5);
    printf("poll(");
    for (int i = 0; i < count; i++) {
        rows[i] = (struct pollfd){some(), PICK(POLLIN, POLLOUT, POLLIN | POLLOUT, 0, POLLPRI, POLLIN | POLLPRI | POLLOUT, POLLRDHUP), 0x55};
        printf("%s%s:%x", i ? ", " : "", name(rows[i].fd), rows[i].events & 0xffff);
    }
    void *at = pointer_or(rows, 0);
    if (!count)
        at = rows;
    printf(" %s)", kind_of(at));
    struct timespec none = {0, chance(12) ? -1 : 0};
    if (chance(2))
        result(CALL(poll, at, count, 0));
    else
        result(CALL(ppoll, at, count, &none, NULL, chance(12) ? 4 : 8));
    if (at == rows)
        for (int i = 0; i < count; i++)
            printf(" %x", rows[i].revents & 0xffff);
}

static void select_some(void) {
    fd_set sets[3];
    int most = PICK(0, 5, MOST, MOST, -1);
    printf("select(%d", most);
    for (int i = 0; i < 3; i++) {
        FD_ZERO(&sets[i]);
        for (int n = below(4); n > 0; n--) {
            int fd = some();
            if (fd >= 0 && fd < 64)
                FD_SET(fd, &sets[i]);
        }
        printf(" %lx", (long)sets[i].fds_bits[0]);
    }
    printf(")");
    struct timeval none = {0, chance(12) ? -1 : 0};
    result(CALL(select, most, &sets[0], chance(3) ? NULL : &sets[1], &sets[2], &none));
    printf(" %lx %lx %lx", (long)sets[0].fds_bits[0], (long)sets[1].fds_bits[0], (long)sets[2].fds_bits[0]);
}

static int compare(const void *a, const void *b) {
    const struct epoll_event *x = a, *y = b;
    return x->data.fd < y->data.fd ? -1 : x->data.fd > y->data.fd;
}

static int an_epoll(void) {
    for (int i = 0; i < 40; i++) {
        int fd = some();
        if (fd >= 0 && fd < MOST && kinds[fd] == 'p')
            return fd;
    }
    return some();
}

static void watch(void) {
    int epoll = an_epoll();
    struct epoll_event *event = (void *)scratch;
    if (chance(2)) {
        int fd = some(), operation = PICK(EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, 0, 9);
        event->events = PICK(EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLET, EPOLLOUT | EPOLLET, EPOLLIN | EPOLLONESHOT,
                             EPOLLOUT | EPOLLONESHOT, 0, EPOLLIN | EPOLLEXCLUSIVE, EPOLLEXCLUSIVE | EPOLLONESHOT);
        event->data.fd = fd;
        void *at = pointer(event);
        printf("epoll_ctl(%s, %d, %s, %s %x)", name(epoll), operation, name(fd), kind_of(at), event->events);
        result(CALL(epoll_ctl, epoll, operation, fd, at));
        return;
    }
    int most = PICK(1, 64, 64, 64, 0, -1);
    void *at = pointer_or(event, 0);
    printf("epoll_wait(%s, %s, %d)", name(epoll), kind_of(at), most);
    if (at != event || most != 64) {
        /* Which of several would be told is not defined, and whether a bad address is seen depends on that. */
        if (most > 0)
            at = event, most = 64;
    }
    long found = result(CALL(epoll_wait, epoll, at, most, 0));
    if (found > 0)
        qsort(event, found, sizeof *event, compare);
    for (long i = 0; i < found; i++)
        printf(" %d:%x", event[i].data.fd, event[i].events);
}

static void step(void) {
    switch (below(16)) {
    case 0:
    case 1:
    case 2: return make();
    case 3: return close_one();
    case 4: return duplicate();
    case 5:
    case 6: return control();
    case 7:
    case 8:
    case 9:
    case 10: return transfer();
    case 11:
    case 12: return look();
    case 13: return select_some();
    default: return watch();
    }
}
