/* What processes and threads tell each other, over and over: none of it is a matter for the host. Argument: how often. */
#include "check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 0, bad = 0;
    char name[64], bytes[4096] = {0};
    int pipes[2], packets[2], pair[2];
    bad += pipe(pipes) != 0 || pipe2(packets, O_DIRECT) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0;
    int counter = eventfd(0, 0), epoll = epoll_create1(0), file = memfd_create("file", 0);
    struct epoll_event event = {.events = EPOLLIN};
    bad += epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event) != 0;
    int set = semget(IPC_PRIVATE, 1, 0600), queue = msgget(IPC_PRIVATE, 0600);
    sprintf(name, "/occlum-exits-%d", getpid());
    struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 64};
    mqd_t named = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
    mq_unlink(name);
    bad += set < 0 || queue < 0 || named < 0;
    timer_t timer;
    struct sigevent silent = {.sigev_notify = SIGEV_NONE};
    bad += timer_create(CLOCK_MONOTONIC, &silent, &timer) != 0;
    static unsigned word, other;
    struct {
        long type;
        char text[32];
    } message = {1, "text"};
    uint64_t one = 1;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    for (long i = 0; i < rounds; i++) {
        bad += write(pipes[1], bytes, 100) != 100 || read(pipes[0], bytes, 100) != 100;
        bad += write(packets[1], bytes, 10) != 10 || read(packets[0], bytes, 100) != 10;
        bad += write(pair[1], bytes, 100) != 100 || read(pair[0], bytes, 100) != 100;
        struct iovec row = {bytes, 50};
        bad += vmsplice(pipes[1], &row, 1, 0) != 50 || tee(pipes[0], packets[1], 50, 0) != 50;
        bad += splice(pipes[0], NULL, file, &(loff_t){0}, 50, 0) != 50 || read(packets[0], bytes, 50) != 50;
        bad += write(counter, &one, 8) != 8 || epoll_wait(epoll, &event, 1, -1) != 1;
        struct pollfd rows[2] = {{counter, POLLIN}, {pipes[0], POLLIN}};
        fd_set reads;
        FD_ZERO(&reads);
        FD_SET(counter, &reads);
        bad += poll(rows, 2, -1) != 1 || select(counter + 1, &reads, NULL, NULL, NULL) != 1 || read(counter, &one, 8) != 8;
        struct sembuf up = {0, 1, SEM_UNDO}, down = {0, -1, SEM_UNDO};
        bad += semop(set, &up, 1) != 0 || semop(set, &down, 1) != 0;
        bad += msgsnd(queue, &message, 32, 0) != 0 || msgrcv(queue, &message, 32, 0, 0) != 32;
        bad += mq_send(named, bytes, 10, 1) != 0 || mq_receive(named, bytes, 64, NULL) != 10;
        bad += syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) != 0;
        bad += syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE, 1, 1L, &other, 0) != 0;
        bad += syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) != 0;
        bad += syscall(SYS_futex, &word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) != 0;
        bad += kill(getpid(), SIGUSR1) != 0 || sigwaitinfo(&blocked, NULL) != SIGUSR1;
        /* A limit on each request, as servers set it: the host is asked for the first. */
        alarm(100);
        struct itimerspec later = {.it_value = {200, 0}};
        bad += timer_settime(timer, 0, &later, NULL) != 0;
    }
    alarm(0);
    semctl(set, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
    printf("%ld rounds, %ld went wrong\n", rounds, bad);
    return 0;
}
