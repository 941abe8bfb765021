/* Random calls about pipes: packets, capacities, bytes that are moved, doubled and given from memory; and what epoll instances,
 * some within others, say of it. */
#include "random.h"
#include "events.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define PIPES 3
/* What a pipe has of a file may be the file's pages: those are not changed. */
#define FROM 0
#define TO 1
#define FILES 2
#define EPOLLS 4

static struct {
    int reader, writer, is_there;
} pipes[PIPES];
static int files[FILES], counter, epolls[EPOLLS];

static void setup(void) {
    catch_signal(SIGPIPE, 0);
    for (int i = 0; i < FILES; i++) {
        files[i] = syscall(SYS_memfd_create, "file", 0);
        for (int j = 0; j < 9000; j++)
            scratch[j] = (char)(j * 7 + i);
        write(files[i], scratch, 9000);
        lseek(files[i], 0, SEEK_SET);
    }
    counter = eventfd(0, EFD_NONBLOCK);
    for (int i = 0; i < EPOLLS; i++)
        epolls[i] = epoll_create1(0);
}

static void finish(void) {}

static unsigned sum_of(const char *bytes, long count) {
    unsigned sum = 0;
    for (long i = 0; i < count; i++)
        sum = sum * 31 + (unsigned char)bytes[i];
    return sum;
}

static void show_filling(int index) {
    int left = -1;
    if (pipes[index].is_there && pipes[index].reader >= 0 && CALL(ioctl, pipes[index].reader, FIONREAD, &left) == 0)
        printf(" {%d}", left);
}

static void make(int index) {
    if (pipes[index].is_there) {
        int ends = below(3);
        printf("close of pipe %d: %s", index, ends == 0 ? "reader" : ends == 1 ? "writer" : "both");
        if (ends != 1 && pipes[index].reader >= 0)
            close(pipes[index].reader), pipes[index].reader = -1;
        if (ends != 0 && pipes[index].writer >= 0)
            close(pipes[index].writer), pipes[index].writer = -1;
        if (pipes[index].reader < 0 && pipes[index].writer < 0)
            pipes[index].is_there = 0;
        return;
    }
    int ends[2], flags = O_NONBLOCK | (chance(2) ? O_DIRECT : 0);
    printf("pipe2(%d, %x)", index, flags);
    if (result(CALL(pipe2, ends, flags)) != 0)
        return;
    pipes[index].reader = ends[0], pipes[index].writer = ends[1], pipes[index].is_there = 1;
}

static void write_some(int index) {
    if (!pipes[index].is_there)
        return make(index);
    int size = PICK(0, 1, 5, 100, 1000, 2000, 4096, 4097, 5000, 9000, 30000);
    for (int i = 0; i < size; i++)
        scratch[i] = (char)below(250);
    char *at = pointer_or(scratch, 0);
    if (at != scratch && size == 0)
        size = 1;
    if (chance(3)) {
        struct iovec rows[3] = {{at, size / 2}, {at, 0}, {at == scratch ? scratch + size / 2 : at, size - size / 2}};
        printf("writev(%d, %s, %d)", index, kind_of(at), size);
        result(CALL(writev, pipes[index].writer, rows, 3));
    } else {
        printf("write(%d, %s, %d)", index, kind_of(at), size);
        result(CALL(write, pipes[index].writer, at, size));
    }
    show_filling(index);
}

static void read_some(int index) {
    int size = PICK(0, 1, 3, 50, 1000, 4096, 5000, 20000);
    char *at = pointer_or(scratch, 0);
    if (at != scratch && size == 0)
        size = 1;
    printf("read(%d, %s, %d)", index, kind_of(at), size);
    long got = result(CALL(read, pipes[index].is_there ? pipes[index].reader : -1, at, size));
    if (got > 0)
        printf(" sum %x", sum_of(scratch, got));
    show_filling(index);
}

static int reader_of(int index) { return pipes[index].is_there ? pipes[index].reader : -1; }
static int writer_of(int index) { return pipes[index].is_there ? pipes[index].writer : -1; }

static unsigned splice_flags(void) {
    return chance(10) ? 16 : PICK(0, SPLICE_F_NONBLOCK, SPLICE_F_MOVE, SPLICE_F_MORE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
}

static void show_position(int file) {
    printf(" at %ld", (long)lseek(files[file], 0, SEEK_CUR));
    struct stat about;
    fstat(files[file], &about);
    printf(" of %ld", (long)about.st_size);
}

static void splice_some(int index) {
    int other = below(PIPES), file = FROM;
    loff_t *offset = (void *)scratch;
    *offset = PICK(0, 100, 4000, 8999, 20000, -1);
    void *at = chance(2) ? NULL : pointer_or(offset, 0);
    long count = PICK(0, 1, 10, 100, 1000, 4096, 5000);
    unsigned flags = splice_flags();
    long offset_before = *offset;
    switch (below(5)) {
    case 0:
    case 1:
        printf("splice(file %d, %s %ld, pipe %d, %ld, %u)", file, kind_of(at), offset_before, index, count, flags);
        result(CALL(splice, files[file], at, writer_of(index), NULL, count, flags));
        if (at == offset)
            printf(" offset %ld", (long)*offset);
        show_filling(index);
        show_position(file);
        return;
    case 2: {
        file = TO;
        if (offset_before < 0)
            *offset = 5;
        printf("splice(pipe %d, file %d, %s %ld, %ld, %u)", index, file, kind_of(at), (long)*offset, count, flags);
        result(CALL(splice, reader_of(index), NULL, files[file], at, count, flags));
        if (at == offset)
            printf(" offset %ld", (long)*offset);
        show_filling(index);
        show_position(file);
        if (lseek(files[file], 0, SEEK_CUR) > 30000)
            lseek(files[file], 0, SEEK_SET);
        return;
    }
    default:
        if (chance(8)) {
            printf("splice(pipe %d with an offset, pipe %d)", index, other);
            result(CALL(splice, reader_of(index), offset, writer_of(other), NULL, count, flags));
            return;
        }
        printf("splice(pipe %d, pipe %d, %ld, %u)", index, other, count, flags);
        result(CALL(splice, reader_of(index), NULL, writer_of(other), NULL, count, flags));
        show_filling(index), show_filling(other);
    }
}

static void tee_some(int index) {
    int other = below(PIPES);
    long count = PICK(0, 1, 10, 100, 1000, 4096, 5000);
    unsigned flags = splice_flags();
    printf("tee(%d, %d, %ld, %u)", index, other, count, flags);
    result(CALL(tee, reader_of(index), writer_of(other), count, flags));
    show_filling(index), show_filling(other);
}

static void vmsplice_some(int index) {
    /* Whether the descriptor waits does not count. */
    unsigned flags = SPLICE_F_NONBLOCK | (chance(10) ? 16 : PICK(0, SPLICE_F_GIFT));
    int size = PICK(1, 10, 100, 1000);
    char *at = pointer_or(scratch + 8192, 0);
    struct iovec rows[2] = {{at, size}, {scratch + 16384, 7}};
    int count = PICK(0, 1, 1, 2), is_read = chance(2);
    if (is_read) {
        printf("vmsplice(reader %d, %s %d, %d, %u)", index, kind_of(at), size, count, flags);
        memset(scratch + 8192, 0, 8300);
        long got = result(CALL(vmsplice, reader_of(index), rows, count, flags));
        if (got > 0)
            printf(" sum %x %x", sum_of(scratch + 8192, got < size ? got : size), got > size ? sum_of(scratch + 16384, got - size) : 0);
    } else {
        /* The pages may be the pipe's: they stay as they are. */
        static char given[4096];
        for (int i = 0; i < 4096; i++)
            given[i] = (char)(i * 3);
        if (at == scratch + 8192)
            rows[0].iov_base = given;
        rows[1].iov_base = given + 2000;
        printf("vmsplice(writer %d, %s %d, %d, %u)", index, kind_of(at), size, count, flags);
        result(CALL(vmsplice, writer_of(index), rows, count, flags));
    }
    show_filling(index);
}

static void from_files(int index) {
    int file = FROM, other = TO;
    off_t *offset = (void *)scratch, *second = (void *)(scratch + 64);
    *offset = PICK(0, 100, 4000, 8999, 20000, -1), *second = PICK(0, 5000, 8000, -1);
    void *at = chance(2) ? NULL : pointer_or(offset, 0), *there = chance(2) ? NULL : pointer_or(second, 0);
    long count = PICK(0, 1, 10, 1000, 5000), before = *offset, before_there = *second;
    if (chance(2)) {
        printf("sendfile(pipe %d, file %d, %s %ld, %ld)", index, file, kind_of(at), before, count);
        result(CALL(sendfile, writer_of(index), files[file], at, count));
        if (at == offset)
            printf(" offset %ld", (long)*offset);
        show_filling(index);
    } else {
        int flags = chance(10);
        file = below(FILES);
        printf("copy_file_range(%d, %s %ld, %d, %s %ld, %ld, %d)", file, kind_of(at), before, other, kind_of(there), before_there, count, flags);
        result(CALL(copy_file_range, files[file], at, files[other], there, count, flags));
        if (at == offset)
            printf(" offset %ld", (long)*offset);
        if (there == second)
            printf(" offset %ld", (long)*second);
        show_position(other);
    }
    show_position(file);
    if (lseek(files[file], 0, SEEK_CUR) > 8000)
        lseek(files[file], 0, SEEK_SET);
}

static void control(int index) {
    int end = chance(2) ? reader_of(index) : writer_of(index);
    switch (below(4)) {
    case 0: {
        int size = PICK(4096, 8192, 65536, 65536, 131072, 1, 0, -1);
        printf("F_SETPIPE_SZ(%d, %d)", index, size);
        result(CALL(fcntl, end, F_SETPIPE_SZ, size));
        break;
    }
    case 1:
        printf("F_GETPIPE_SZ(%d)", index);
        result(CALL(fcntl, end, F_GETPIPE_SZ));
        break;
    case 2: {
        /* The flag counts at the end where it is set. */
        int flags = O_NONBLOCK | (chance(2) ? O_DIRECT : 0);
        printf("F_SETFL(%d %s, %x)", index, end == writer_of(index) ? "writer" : "reader", flags);
        result(CALL(fcntl, end, F_SETFL, flags));
        break;
    }
    default:
        printf("F_GETFL(%d)", index);
        result(CALL(fcntl, end, F_GETFL));
    }
    show_filling(index);
}

static int watched(const char **name, int *number) {
    static char text[20];
    switch (below(4)) {
    case 0: {
        int inner = below(EPOLLS);
        sprintf(text, "epoll %d", inner), *name = text;
        return *number = 100 + inner, epolls[inner];
    }
    case 1: return *name = "counter", *number = 50, counter;
    default: {
        int index = below(PIPES), is_reader = chance(2);
        sprintf(text, "%s %d", is_reader ? "reader" : "writer", index), *name = text;
        return *number = index * 2 + is_reader, is_reader ? reader_of(index) : writer_of(index);
    }
    }
}

static void watch(void) {
    int outer = below(EPOLLS), number;
    const char *name;
    int fd = watched(&name, &number);
    struct epoll_event *event = (void *)scratch;
    int operation = PICK(EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EPOLL_CTL_DEL);
    event->events = PICK(EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLET, EPOLLOUT | EPOLLET, EPOLLIN | EPOLLONESHOT,
                         EPOLLIN | EPOLLET | EPOLLONESHOT, EPOLLIN | EPOLLEXCLUSIVE, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
                         EPOLLEXCLUSIVE | EPOLLRDHUP, EPOLLPRI, EPOLLRDHUP, 0, EPOLLIN | EPOLLWAKEUP);
    /* Which changes inside are an edge outside is not for here. */
    if (number >= 100)
        event->events &= ~EPOLLET;
    event->data.u64 = number;
    printf("epoll_ctl(%d, %d, %s, %x)", outer, operation, name, event->events);
    result(CALL(epoll_ctl, epolls[outer], operation, fd, event));
}

static void look(void) {
    int outer = below(EPOLLS);
    if (chance(4)) {
        struct pollfd rows[EPOLLS];
        for (int i = 0; i < EPOLLS; i++)
            rows[i] = (struct pollfd){epolls[i], POLLIN | POLLOUT};
        printf("poll of epolls");
        result(CALL(poll, rows, EPOLLS, 0));
        for (int i = 0; i < EPOLLS; i++)
            printf(" %x", rows[i].revents);
        return;
    }
    printf("epoll_wait(%d)", outer);
    show_events(epolls[outer]);
}

static void count(void) {
    uint64_t *value = (void *)scratch;
    *value = PICK(1, 1, 5, -1, -2);
    if (chance(2)) {
        printf("write(counter, %lx)", (long)*value);
        result(CALL(write, counter, value, 8));
    } else {
        printf("read(counter)");
        if (result(CALL(read, counter, value, 8)) == 8)
            printf(" %lx", (long)*value);
    }
}

static void step(void) {
    int index = below(PIPES);
    switch (below(20)) {
    case 0: return make(index);
    case 1:
    case 2:
    case 3: return write_some(index);
    case 4:
    case 5: return read_some(index);
    case 6:
    case 7: return splice_some(index);
    case 8: return tee_some(index);
    case 9: return vmsplice_some(index);
    case 10: return from_files(index);
    case 11: return control(index);
    case 12: return count();
    case 13:
    case 14:
    case 15: return watch();
    default: return look();
    }
}
