/* Random calls about files of all kinds that become ready, and what poll, select and epoll instances say of them: pipes, sockets
 * of the three families, counters, timers, signals, watched folders, terminals and processes. */
#include "random.h"
#include "events.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>

enum { READER, WRITER, STREAM, STREAM_PEER, DGRAM, DGRAM_PEER, TCP, TCP_PEER, UDP, UDP_PEER, LISTENER, COUNTER, TIMER, SIGNALS, FOLDER, MASTER,
       SLAVE, PROCESS, SOURCES };
static const char *const names[] = {"reader", "writer", "stream", "stream peer", "dgram", "dgram peer", "tcp", "tcp peer", "udp", "udp peer", "listener",
                                    "counter", "timer", "signals", "folder", "master", "slave", "process"};
#define EPOLLS 3
static int fds[SOURCES], was[SOURCES], epolls[EPOLLS], listener, process, watch_number;
static char folder[40];

static void close_at(int which) {
    if (fds[which] >= 0)
        close(fds[which]);
    fds[which] = -1;
}

/* Both of a pair, as new. */
static void make(int which) {
    int ends[2] = {-1, -1};
    struct sockaddr_in name = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}}, other = name;
    socklen_t len = sizeof name;
    char text[64];
    switch (which) {
    case READER:
    case WRITER: which = READER, pipe2(ends, O_NONBLOCK); break;
    case STREAM:
    case STREAM_PEER: which = STREAM, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends); break;
    case DGRAM:
    case DGRAM_PEER: which = DGRAM, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends); break;
    case TCP:
    case TCP_PEER:
    case LISTENER:
        which = TCP;
        close_at(LISTENER);
        listener = fds[LISTENER] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        bind(listener, (void *)&name, sizeof name), listen(listener, 5), getsockname(listener, (void *)&name, &len);
        ends[0] = socket(AF_INET, SOCK_STREAM, 0), connect(ends[0], (void *)&name, sizeof name);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        ends[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        /* Nothing waits for more to be sent. */
        for (int i = 0; i < 2; i++)
            setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        was[LISTENER] = -1;
        break;
    case UDP:
    case UDP_PEER:
        which = UDP;
        for (int i = 0; i < 2; i++)
            ends[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), bind(ends[i], (void *)&other, sizeof other);
        for (int i = 0; i < 2; i++)
            getsockname(ends[i], (void *)&name, &len), connect(ends[!i], (void *)&name, sizeof name);
        break;
    case COUNTER: close_at(which), fds[which] = eventfd(0, EFD_NONBLOCK | (chance(2) ? EFD_SEMAPHORE : 0)); break;
    case TIMER: close_at(which), fds[which] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); break;
    case SIGNALS: {
        sigset_t set;
        sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMIN);
        sigprocmask(SIG_BLOCK, &set, NULL);
        close_at(which), fds[which] = signalfd(-1, &set, SFD_NONBLOCK);
        break;
    }
    case FOLDER:
        close_at(which), fds[which] = inotify_init1(IN_NONBLOCK);
        watch_number = inotify_add_watch(fds[which], folder, IN_CREATE | IN_DELETE | IN_MODIFY);
        break;
    case MASTER:
    case SLAVE: {
        struct termios raw;
        which = MASTER;
        close_at(MASTER), close_at(SLAVE);
        ends[0] = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), unlockpt(ends[0]);
        ptsname_r(ends[0], text, sizeof text);
        ends[1] = open(text, O_RDWR | O_NOCTTY | O_NONBLOCK);
        tcgetattr(ends[1], &raw), cfmakeraw(&raw), tcsetattr(ends[1], TCSANOW, &raw);
        break;
    }
    case PROCESS:
        close_at(which);
        if (process > 0)
            kill(process, SIGKILL), waitpid(process, NULL, 0);
        process = fork();
        if (process == 0)
            for (;;)
                pause();
        fds[which] = syscall(SYS_pidfd_open, process, 0);
        break;
    }
    was[which] = -1;
    if (ends[0] >= 0) {
        close_at(which), close_at(which + 1);
        fds[which] = ends[0], fds[which + 1] = ends[1], was[which + 1] = -1;
    }
}

static void setup(void) {
    catch_signal(SIGPIPE, 0), catch_signal(SIGURG, 0);
    sprintf(folder, "/tmp/random_ready.%07d", getpid());
    mkdir(folder, 0755);
    memset(fds, -1, sizeof fds), memset(was, -1, sizeof was);
    for (int i = 0; i < EPOLLS; i++)
        epolls[i] = epoll_create1(0);
    for (int i = 0; i < SOURCES; i++)
        if (fds[i] < 0)
            make(i);
}

static void finish(void) {
    char path[64];
    sprintf(path, "%s/file", folder), unlink(path), rmdir(folder);
    if (process > 0)
        kill(process, SIGKILL), waitpid(process, NULL, 0);
}

/* What terminals and timers do takes a moment. */
static void settle(void) { usleep(2000); }

static void cause(int which) {
    int size = PICK(1, 10, 1000, 3000), fd = fds[which];
    switch (which) {
    case COUNTER: {
        uint64_t value = PICK(1, 2, 0xfffffffffffffffe);
        printf("add %lx", (long)value);
        result(CALL(write, fd, &value, 8));
        return;
    }
    case TIMER: {
        struct itimerspec time = {{0, 0}, {0, PICK(0, 1, 1)}};
        if (chance(3))
            time.it_value.tv_sec = 1000000000;
        printf("set timer %ld %ld", (long)time.it_value.tv_sec, (long)time.it_value.tv_nsec);
        result(CALL(timerfd_settime, fd, TFD_TIMER_ABSTIME, &time, NULL));
        settle();
        return;
    }
    case SIGNALS: {
        int number = PICK(SIGUSR1, SIGRTMIN);
        printf("signal %d", number);
        result(kill(getpid(), number));
        return;
    }
    case FOLDER: {
        char path[64];
        sprintf(path, "%s/file", folder);
        if (chance(2)) {
            int file = open(path, O_CREAT | O_WRONLY, 0644);
            printf("write file %ld", (long)write(file, "x", 1));
            close(file);
        } else
            printf("unlink"), result(unlink(path));
        return;
    }
    case PROCESS:
        printf("kill");
        result(kill(process, SIGKILL));
        siginfo_t info;
        waitid(P_PID, process, &info, WEXITED | WNOWAIT);
        return;
    case LISTENER: {
        struct sockaddr_in name;
        socklen_t len = sizeof name;
        getsockname(fd, (void *)&name, &len);
        int client = socket(AF_INET, SOCK_STREAM, 0);
        printf("connect");
        result(connect(client, (void *)&name, sizeof name));
        if (chance(2))
            close(client);
        return;
    }
    case TCP:
    case TCP_PEER:
        if (chance(6)) {
            printf("urgent");
            result(CALL(sendto, fd, scratch, 1, MSG_OOB, NULL, 0));
            return;
        }
        break;
    case MASTER:
    case SLAVE: size = size > 1000 ? 1000 : size; break;
    }
    memset(scratch, 'a', size);
    printf("write %d", size);
    result(CALL(write, fd, scratch, size));
    if (which == MASTER || which == SLAVE)
        settle();
}

static void take(int which) {
    int size = PICK(1, 8, 100, 5000, 5000), fd = fds[which];
    if (which == LISTENER) {
        printf("accept");
        long new = success(CALL(accept4, fd, NULL, NULL, 0));
        if (new >= 0)
            close(new);
        return;
    }
    if (which == PROCESS) {
        int status = 0;
        printf("wait");
        success(waitpid(process, &status, WNOHANG));
        return;
    }
    if (which == SIGNALS || which == FOLDER || which == COUNTER || which == TIMER)
        size = 5000;
    if (chance(6) && which >= STREAM && which <= UDP_PEER) {
        printf("recv %d", size);
        result(CALL(recvfrom, fd, scratch, size, PICK(MSG_OOB, MSG_PEEK, MSG_TRUNC), NULL, NULL));
        return;
    }
    printf("read %d", size);
    result(CALL(read, fd, scratch, which == COUNTER || which == TIMER ? 8 : size));
}

static void change(int which) {
    if (chance(3) && which >= STREAM && which <= UDP_PEER) {
        int how = PICK(SHUT_RD, SHUT_WR, SHUT_RDWR);
        printf("shutdown %d", how);
        result(CALL(shutdown, fds[which], how));
    } else if (fds[which] < 0 || chance(3)) {
        printf("new");
        make(which);
    } else if (which == PROCESS || which == LISTENER) {
        printf("new");
        make(which);
    } else {
        printf("close");
        close_at(which);
        if (which == MASTER || which == SLAVE)
            settle();
    }
}

static void watch(int which) {
    int outer = below(EPOLLS), is_inner = chance(8), inner = below(EPOLLS);
    int operation = PICK(EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL);
    struct epoll_event event = {PICK(EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLET, EPOLLOUT | EPOLLET, EPOLLIN | EPOLLONESHOT,
                                     EPOLLIN | EPOLLET | EPOLLONESHOT, EPOLLIN | EPOLLOUT | EPOLLET, EPOLLRDHUP | EPOLLET, EPOLLPRI, EPOLLPRI | EPOLLET, 0,
                                     EPOLLRDNORM, EPOLLWRNORM, EPOLLWRBAND, EPOLLRDNORM | EPOLLWRNORM, EPOLLIN | EPOLLEXCLUSIVE),
                                {.u64 = is_inner ? 100 + inner : which}};
    if (is_inner)
        event.events = (event.events & ~EPOLLET) | (event.events & EPOLLRDNORM ? EPOLLIN : 0);
    /* Whether all that is received is an edge for who sent it is not for here. */
    int is_of_messages = (which >= STREAM && which <= DGRAM_PEER) || (which >= UDP && which <= UDP_PEER);
    if (is_of_messages && event.events & EPOLLET)
        event.events &= ~EPOLLOUT;
    /* Nor is what else a terminal does. */
    if (which == MASTER || which == SLAVE)
        event.events &= ~EPOLLET;
    printf("epoll_ctl(%d, %d, %x) of %d", outer, operation, event.events, is_inner ? 100 + inner : which);
    result(CALL(epoll_ctl, epolls[outer], operation, is_inner ? epolls[inner] : fds[which], &event));
}

static void look(void) {
    int outer = below(EPOLLS), most = chance(8) ? 1 : 64;
    if (chance(4)) {
        fd_set sets[3];
        struct timeval zero = {0, 0};
        memset(sets, 0, sizeof sets);
        int asked = below(8);
        for (int i = 0; i < SOURCES; i++)
            for (int j = 0; j < 3 && fds[i] >= 0; j++)
                FD_SET(fds[i], &sets[j]);
        printf("select %d", asked);
        result(CALL(select, 256, asked & 1 ? &sets[0] : NULL, asked & 2 ? &sets[1] : NULL, asked & 4 ? &sets[2] : NULL, &zero));
        for (int i = 0; i < SOURCES; i++)
            if (fds[i] >= 0)
                printf(" %s%s%s", FD_ISSET(fds[i], &sets[0]) ? "r" : "", FD_ISSET(fds[i], &sets[1]) ? "w" : "", FD_ISSET(fds[i], &sets[2]) ? "x" : "");
        return;
    }
    struct epoll_event *events = (void *)scratch;
    if (most == 1) {
        /* Which comes first is the kernel's choice. */
        printf("epoll_wait(%d) for one", outer);
        result(CALL(epoll_wait, epolls[outer], events, 0, 0));
        return;
    }
    printf("epoll_wait(%d)", outer);
    show_events(epolls[outer]);
}

static void show_readiness(void) {
    struct pollfd rows[SOURCES + EPOLLS];
    for (int i = 0; i < SOURCES + EPOLLS; i++)
        rows[i] = (struct pollfd){i < SOURCES ? fds[i] : epolls[i - SOURCES], POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    poll(rows, SOURCES + EPOLLS, 0);
    for (int i = 0; i < SOURCES; i++)
        if (rows[i].revents != was[i] && fds[i] >= 0) {
            printf(" {%s: %x}", names[i], (unsigned short)rows[i].revents);
            was[i] = rows[i].revents;
        }
    for (int i = 0; i < EPOLLS; i++)
        printf("%s", rows[SOURCES + i].revents ? "+" : "-");
}

static void step(void) {
    int which = below(SOURCES);
    switch (below(16)) {
    case 0: printf("%s: ", names[which]), change(which); break;
    case 1:
    case 2:
    case 3: printf("%s: ", names[which]), cause(which); break;
    case 4:
    case 5:
    case 6: printf("%s: ", names[which]), take(which); break;
    case 7:
    case 8:
    case 9:
    case 10: printf("%s: ", names[which]), watch(which); break;
    default: look();
    }
    printf(" ");
    show_readiness();
}
