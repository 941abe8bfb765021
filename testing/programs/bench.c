/* Nanoseconds per operation. `testing/bench` runs it in both worlds and says which operation it wants how often: a line of a
   name, a tab and a count is answered with the nanoseconds that all of them took. With the argument `list` it prints the names. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <linux/futex.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static char block[65536], path[64], *page;
static int file, null, ends[2], near[2], far[2], tcp[2], far_tcp[2];

static long raw(long number) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
    return result;
}

static void handler(int number) { (void)number; }

static char *map(size_t len) { return mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void touch(size_t len) {
    char *area = map(len);
    for (size_t at = 0; at < len; at += 4096)
        area[at] = 1;
    munmap(area, len);
}

/* One fault in a fresh area of 64 MiB, at a page that is far from the last ones. */
static void fault(void) {
    enum { PAGES = 16384 };
    static char *area;
    static unsigned next;
    if (next % PAGES == 0) {
        if (area)
            munmap(area, PAGES * 4096L);
        area = map(PAGES * 4096L);
    }
    area[(next++ * 9973 % PAGES) * 4096L] = 1;
}

static void open_read(void) {
    int fd = open(path, O_RDONLY);
    if (read(fd, block, 4096) != 4096)
        abort();
    close(fd);
}

/* Two ends of a connection of a family, with room for a block. */
static void connected(int family, int two[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int listener, room = 1 << 20;
    if (family == AF_UNIX) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, two))
            abort();
        return;
    }
    listener = socket(AF_INET, SOCK_STREAM, 0), two[0] = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(two[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(listener, (struct sockaddr *)&address, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &len) || connect(two[0], (struct sockaddr *)&address, len) ||
        (two[1] = accept(listener, NULL, NULL)) < 0)
        abort();
    for (int end = 0; end < 2; end++) {
        setsockopt(two[end], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        setsockopt(two[end], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    close(listener);
}

/* Answers on the far side of a connection. */
static void *answer(void *end) {
    char byte;
    while (read(*(int *)end, &byte, 1) == 1 && write(*(int *)end, &byte, 1) == 1)
        ;
    return NULL;
}

static void ask(int family, int two[2]) {
    char byte = 0;
    if (!two[0]) {
        pthread_t thread;
        connected(family, two);
        if (pthread_create(&thread, NULL, answer, &two[1]))
            abort();
    }
    if (write(two[0], &byte, 1) != 1 || read(two[0], &byte, 1) != 1)
        abort();
}

/* What was written comes in one piece or in more. */
static void through(int family, int two[2], size_t len) {
    if (!two[0])
        connected(family, two);
    if (write(two[1], block, len) != (ssize_t)len)
        abort();
    for (ssize_t got; len > 0; len -= got)
        if ((got = read(two[0], block, len)) <= 0)
            abort();
}

/* A byte to somebody on the far side of two pipes and back. */
struct far_side {
    int there[2], back[2];
};

static void *echo(void *argument) {
    struct far_side *far = argument;
    char byte;
    while (read(far->there[0], &byte, 1) == 1 && write(far->back[1], &byte, 1) == 1)
        ;
    return NULL;
}

/* Who is on the far side of a pipe. */
enum far { A_THREAD, A_CHILD, A_PROGRAM };

extern char **environ;
/* This program. */
static char *own_path;

/* Starts this program to do something else, with a standard input and output. */
static void start_program(char *what, int in, int out) {
    char *arguments[] = {own_path, what, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    if (posix_spawn(&pid, own_path, &actions, NULL, arguments, environ))
        abort();
    posix_spawn_file_actions_destroy(&actions);
}

static void ping(enum far who) {
    static struct far_side sides[3];
    struct far_side *far = &sides[who];
    char byte = 0;
    if (!far->back[0]) {
        pthread_t thread;
        if (pipe2(far->there, O_CLOEXEC) || pipe2(far->back, O_CLOEXEC))
            abort();
        if (who == A_THREAD)
            pthread_create(&thread, NULL, echo, far);
        else if (who == A_PROGRAM) {
            start_program("echo", far->there[0], far->back[1]);
            close(far->there[0]);
        } else if (fork() == 0) {
            close(far->there[1]);
            echo(far);
            _exit(0);
        } else
            close(far->there[0]);
    }
    if (write(far->there[1], &byte, 1) != 1 || read(far->back[0], &byte, 1) != 1)
        abort();
}

/* A thread that is woken by a futex and wakes by another. */
static int turn;

static void hand_over(int to) {
    __atomic_store_n(&turn, to, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) == to)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, to, NULL, NULL, 0);
}

static void *hand_back(void *unused) {
    while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) == 0)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    for (;;)
        hand_over(0);
    return unused;
}

static void futex(void) {
    static int is_started;
    pthread_t thread;
    if (!is_started++)
        pthread_create(&thread, NULL, hand_back, NULL);
    hand_over(1);
}

static void *nothing(void *unused) { return unused; }

static void thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
        abort();
}

static void eventfd_turn(void) {
    static int fd = -1;
    uint64_t value = 1;
    if (fd < 0)
        fd = eventfd(0, 0);
    if (write(fd, &value, 8) != 8 || read(fd, &value, 8) != 8)
        abort();
}

static void epoll_turn(void) {
    static int fd = -1, many;
    uint64_t value = 1;
    struct epoll_event event = {.events = EPOLLIN};
    if (fd < 0) {
        fd = eventfd(0, 0);
        many = epoll_create1(0);
        epoll_ctl(many, EPOLL_CTL_ADD, fd, &event);
    }
    if (write(fd, &value, 8) != 8 || epoll_wait(many, &event, 1, -1) != 1 || read(fd, &value, 8) != 8)
        abort();
}

/* A thread that waits in epoll is woken, and answers. */
static void *answer_events(void *argument) {
    int *fds = argument, many = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    uint64_t value = 1;
    epoll_ctl(many, EPOLL_CTL_ADD, fds[0], &event);
    while (epoll_wait(many, &event, 1, -1) == 1 && read(fds[0], &value, 8) == 8 && write(fds[1], &value, 8) == 8)
        ;
    return NULL;
}

static void epoll_far(void) {
    static int fds[2];
    pthread_t thread;
    uint64_t value = 1;
    if (!fds[1]) {
        fds[0] = eventfd(0, 0), fds[1] = eventfd(0, 0);
        if (pthread_create(&thread, NULL, answer_events, fds))
            abort();
    }
    if (write(fds[0], &value, 8) != 8 || read(fds[1], &value, 8) != 8)
        abort();
}

/* Blocks that somebody on the far side of a pipe reads as fast as they come. */
static void *drain(void *end) {
    static char into[65536];
    while (read(*(int *)end, into, sizeof into) > 0)
        ;
    return NULL;
}

static void pour(enum far who, size_t len) {
    static int pipes[3][2];
    int *far = pipes[who];
    pthread_t thread;
    if (!far[1]) {
        if (pipe2(far, O_CLOEXEC))
            abort();
        if (who == A_THREAD)
            pthread_create(&thread, NULL, drain, far);
        else if (who == A_PROGRAM) {
            start_program("drain", far[0], 1);
            close(far[0]);
        } else if (fork() == 0) {
            close(far[1]);
            drain(far);
            _exit(0);
        }
    }
    if (write(far[1], block, len) != (ssize_t)len)
        abort();
}

/* A static program that does nothing, beside this one. */
static char nothing_path[256];
/* A file in a folder of the host. */
static char shared_path[256], shared_folder[256];
static int shared;

static void list_shared(void) {
    DIR *folder = opendir(shared_folder);
    while (readdir(folder)) {
    }
    closedir(folder);
}

static void spawn(char *program) {
    char *arguments[] = {program, NULL};
    pid_t pid;
    if (posix_spawn(&pid, program, NULL, NULL, arguments, environ) || waitpid(pid, NULL, 0) != pid)
        abort();
}

/* A child that does nothing, of a process that has written to so much memory. */
static void fork_with(size_t len) {
    static char *area;
    static size_t have;
    if (have != len) {
        if (area)
            munmap(area, have);
        area = map(have = len);
        memset(area, 1, len);
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
}

/* The time from kill to the handler in a thread that computes: the handler answers. */
static volatile int is_handled;

static void handled(int number) {
    (void)number;
    is_handled = 1;
}

/* It computes while it is measured, and not beside what is measured later, or in another world. */
static volatile int is_busy, is_computing;
static sem_t begin;

static void *compute(void *unused) {
    for (;;) {
        sem_wait(&begin);
        is_computing = 1;
        for (volatile long i = 0; is_busy; i++)
            ;
        is_computing = 0;
    }
    return unused;
}

static void kick(pthread_t busy) {
    is_handled = 0;
    pthread_kill(busy, SIGUSR2);
    while (!is_handled)
        sched_yield();
}

static pthread_t start_computing(void) {
    static pthread_t busy;
    static int is_started;
    if (!is_started++) {
        sem_init(&begin, 0, 0);
        signal(SIGUSR2, handled);
        pthread_create(&busy, NULL, compute, NULL);
    }
    is_busy = 1;
    sem_post(&begin);
    while (!is_computing)
        sched_yield();
    return busy;
}

static void stop_computing(void) {
    is_busy = 0;
    while (is_computing)
        sched_yield();
}

static double kicks(long count) {
    pthread_t busy = start_computing();
    double from = now(), took;
    for (long i = 0; i < count; i++)
        kick(busy);
    took = now() - from;
    stop_computing();
    return took;
}

static int by_size(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

/* The time that all but one in a hundred take at most. */
static double slow_kick(long count) {
    double *took = malloc(count * sizeof *took), at;
    pthread_t busy = start_computing();
    for (long i = 0; i < count; i++) {
        double from = now();
        kick(busy);
        took[i] = now() - from;
    }
    stop_computing();
    qsort(took, count, sizeof *took, by_size);
    at = took[count - 1 - count / 100];
    free(took);
    return at;
}

/* Two children that compute, to their ends. */
static void two_compute(void) {
    pid_t children[2];
    for (int i = 0; i < 2; i++)
        if ((children[i] = fork()) == 0) {
            for (volatile long n = 0; n < 100000000; n++)
                ;
            _exit(0);
        }
    for (int i = 0; i < 2; i++)
        waitpid(children[i], NULL, 0);
}

/* The end of a process with 32 threads that compute: from its call to the parent's return from the wait. */
static double end_of_busy(long count) {
    double *from = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), took = 0;
    for (long i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t thread;
            for (int n = 0; n < 32; n++)
                pthread_create(&thread, NULL, compute, NULL);
            *from = now();
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        took += now() - *from;
    }
    munmap(from, 4096);
    return took;
}

/* Those that fork come late: what comes after shares its addresses with a child. The last leaves a thread that computes. */
#define OPERATIONS(op)                                                                                     \
    op("getppid (inline syscall)", raw(SYS_getppid))                                                       \
    op("getppid (libc)", getppid())                                                                        \
    op("syscall(SYS_getppid)", syscall(SYS_getppid))                                                       \
    op("clock_gettime", clock_gettime(CLOCK_MONOTONIC, &(struct timespec){0}))                             \
    op("mmap + munmap, 1 page", munmap(map(4096), 4096))                                                   \
    op("mmap + touch + munmap, 64 KiB", touch(65536))                                                      \
    op("mmap + touch + munmap, 1 MiB", touch(1 << 20))                                                     \
    op("page fault, in no order", fault())                                                                 \
    op("mprotect twice", (mprotect(page, 4096, PROT_READ), mprotect(page, 4096, PROT_READ | PROT_WRITE)))  \
    op("open + close", close(open(path, O_RDONLY)))                                                        \
    op("open + read 4 KiB + close", open_read())                                                           \
    op("pread 4 KiB, cached", pread(file, block, 4096, 8192))                                              \
    op("pread 64 KiB, cached", pread(file, block, 65536, 65536))                                           \
    op("pwrite 4 KiB, cached", pwrite(file, block, 4096, 8192))                                            \
    op("stat", stat(path, &(struct stat){0}))                                                              \
    op("stat of what is not there", stat("/nothing/there", &(struct stat){0}))                             \
    op("folder of the host: open + close, 3 deep", close(open(shared_path, O_RDWR)))                       \
    op("folder of the host: stat, 3 deep", stat(shared_path, &(struct stat){0}))                           \
    op("folder of the host: list", list_shared())                                                          \
    op("folder of the host: pread 4 KiB", pread(shared, block, 4096, 0))                                   \
    op("folder of the host: pwrite 4 KiB", pwrite(shared, block, 4096, 0))                                 \
    op("write 1 byte to /dev/null", write(null, block, 1))                                                 \
    op("pipe: write + read 1 byte", (write(ends[1], block, 1), read(ends[0], block, 1)))                   \
    op("pipe: write + read 64 KiB", (write(ends[1], block, 65536), read(ends[0], block, 65536)))           \
    op("Unix socket: write + read 1 byte", through(AF_UNIX, near, 1))                                      \
    op("Unix socket: write + read 4 KiB", through(AF_UNIX, near, 4096))                                    \
    op("Unix socket: write + read 64 KiB", through(AF_UNIX, near, 65536))                                  \
    op("Unix socket: there and back, 2 threads", ask(AF_UNIX, far))                                        \
    op("TCP to itself: write + read 1 byte", through(AF_INET, tcp, 1))                                     \
    op("TCP to itself: write + read 4 KiB", through(AF_INET, tcp, 4096))                                   \
    op("TCP to itself: write + read 64 KiB", through(AF_INET, tcp, 65536))                                 \
    op("TCP to itself: there and back, 2 threads", ask(AF_INET, far_tcp))                                  \
    op("signal to itself", raise(SIGUSR1))                                                                 \
    op("pipe: write 4 KiB to a thread that reads", pour(A_THREAD, 4096))                                          \
    op("pipe: write 64 KiB to a thread that reads", pour(A_THREAD, 65536))                                        \
    op("eventfd: write + read", eventfd_turn())                                                            \
    op("epoll: write + wait + read of an eventfd", epoll_turn())                                           \
    op("epoll: wake of another thread, and back", epoll_far())                                             \
    op("pthread_create + join", thread())                                                                  \
    op("futex: there and back, 2 threads", futex())                                                        \
    op("pipe: there and back, 2 threads", ping(A_THREAD))                                                         \
    op("posix_spawn + wait, static", spawn(nothing_path))                                                  \
    op("posix_spawn + wait, dynamic", spawn("/bin/true"))                                                  \
    op("fork + _exit + wait, 1 MiB dirty", fork_with(1 << 20))                                             \
    op("fork + _exit + wait, 10 MiB dirty", fork_with(10 << 20))                                           \
    op("fork + _exit + wait, 100 MiB dirty", fork_with(100 << 20))                                         \
    op("two forked children that compute", two_compute())                                                  \
    op("pipe: there and back, parent and child", ping(A_CHILD))                                                  \
    op("pipe: write 4 KiB to a child that reads", pour(A_CHILD, 4096))                                           \
    op("pipe: write 64 KiB to a child that reads", pour(A_CHILD, 65536))                                   \
    op("pipe: there and back, to a program", ping(A_PROGRAM))                                              \
    op("pipe: write 4 KiB to a program that reads", pour(A_PROGRAM, 4096))                                 \
    op("pipe: write 64 KiB to a program that reads", pour(A_PROGRAM, 65536))

/* Those that look at the clock themselves. */
#define KICK "signal to a busy thread, until its handler"
#define SLOW_KICK "signal to a busy thread, all but 1 in 100"
#define END_OF_BUSY "exit_group of a process with 32 busy threads"

/* The loop is by the operation: a call through a pointer would be a part of what is measured. */
static double measure(const char *name, long count) {
    double from = 0;
#define RUN(of, operation)                \
    if (!strcmp(name, of)) {              \
        from = now();                     \
        for (long i = 0; i < count; i++)  \
            operation;                    \
        return now() - from;              \
    }
    OPERATIONS(RUN)
    if (!strcmp(name, KICK))
        return kicks(count);
    if (!strcmp(name, SLOW_KICK))
        return slow_kick(count) * count;
    return strcmp(name, END_OF_BUSY) ? -1 : end_of_busy(count);
}

int main(int argc, char **argv) {
    char name[64];
    long count;

    snprintf(nothing_path, sizeof nothing_path, "%s-nothing", argv[0]);
    snprintf(shared_path, sizeof shared_path, "%s-shared/a/b/c/page", argv[0]);
    snprintf(shared_folder, sizeof shared_folder, "%s-shared/a/b/c", argv[0]);
    own_path = argv[0];
    if (argc > 1 && !strcmp(argv[1], "echo"))
        return echo(&(struct far_side){{0, -1}, {-1, 1}}) != NULL;
    if (argc > 1 && !strcmp(argv[1], "drain"))
        return drain(&(int){0}) != NULL;
    if (argc > 1) {
#define LIST(of, operation) puts(of);
        OPERATIONS(LIST)
        puts(KICK "\n" SLOW_KICK "\n" END_OF_BUSY);
        return 0;
    }
    snprintf(path, sizeof path, "/tmp/occlum-bench-%d", getpid());
    file = open(path, O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 16; i++)
        if (write(file, block, sizeof block) < 0)
            return 1;
    shared = open(shared_path, O_RDWR);
    page = map(4096);
    null = open("/dev/null", O_WRONLY);
    if (pipe(ends))
        return 1;
    signal(SIGUSR1, handler);
    while (scanf("%63[^\t]\t%ld%*c", name, &count) == 2) {
        printf("%.0f\n", measure(name, count));
        fflush(stdout);
    }
    unlink(path);
    return 0;
}
