/* Event counters: who adds too much sleeps until there is room, signals end that, and what poll and epoll say of it. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MOST (UINT64_MAX - 1)

static int counter;
static pthread_t main_thread;
static volatile int is_over;

static long add(uint64_t value) { return write(counter, &value, 8); }

static void take(const char *what) {
    uint64_t value = 0;
    long result = read(counter, &value, 8);
    show(what, result);
    if (result == 8)
        printf("  %llu\n", (unsigned long long)value);
}

static void look(const char *what) {
    struct pollfd row = {counter, POLLIN | POLLOUT, 0};
    poll(&row, 1, 0);
    printf("%s:%s%s%s\n", what, row.revents & POLLIN ? " IN" : "", row.revents & POLLOUT ? " OUT" : "",
           row.revents & POLLERR ? " ERR" : "");
}

static double processor_time(void) {
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void *take_later(void *times) {
    for (long i = 0; i < (long)times; i++) {
        uint64_t value;
        usleep(100000);
        read(counter, &value, 8);
    }
    return NULL;
}

static void add_and_wait(const char *what, uint64_t value, long takes) {
    pthread_t other;
    double before = processor_time();
    pthread_create(&other, NULL, take_later, (void *)takes);
    show(what, add(value));
    holds("it slept meanwhile", processor_time() - before < 0.05 * takes);
    pthread_join(other, NULL);
}

static volatile int handled;
static void handler(int signal) { handled = 1; }

/* Until the handler has run, however long the thread takes to get to sleep; and a counter that is read when it has. */
static void *disturb(void *takes) {
    while (!handled) {
        pthread_kill(main_thread, SIGUSR1);
        usleep(10000);
    }
    if (takes) {
        uint64_t value;
        usleep(50000);
        read(counter, &value, 8);
    } else {
        /* The signal may have come before the call. */
        while (!is_over) {
            pthread_kill(main_thread, SIGUSR1);
            usleep(10000);
        }
    }
    return NULL;
}

static void add_and_be_disturbed(const char *what, int flags, int takes) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t other;
    handled = is_over = 0;
    pthread_create(&other, NULL, disturb, takes ? "" : NULL);
    show(what, add(MOST));
    is_over = 1;
    pthread_join(other, NULL);
}

static int epoll;

static void wait_for(const char *what) {
    struct epoll_event event = {0};
    int found = epoll_wait(epoll, &event, 1, 0);
    printf("%s: %d %x\n", what, found, found > 0 ? event.events : 0);
}

static void edges(const char *of, unsigned events, int flags) {
    printf("edges of %s\n", of);
    counter = eventfd(0, EFD_NONBLOCK | flags);
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = events | EPOLLET};
    works("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event));
    wait_for("at first"), wait_for("again");
    show("add nothing", add(0)), wait_for("nothing was added");
    show("add", add(3)), wait_for("something was"), wait_for("again");
    show("add", add(4)), wait_for("something more was");
    take("take"), wait_for("it was taken"), wait_for("again");
    show("fill", add(MOST - 7)), take("take"), show("fill", add(flags ? 8 : MOST)), wait_for("it is full");
    show("add too much", add(1)), wait_for("it was too much");
    take("take"), wait_for("there is room"), wait_for("again");
    take("take"), wait_for("there is more, or was room before");
    close(counter), close(epoll);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    main_thread = pthread_self();
    counter = eventfd(0, 0);
    look("empty");
    show("fill", add(MOST));
    look("full");
    add_and_wait("one more", 1, 1);
    take("take it");
    show("nearly fill", add(MOST - 4));
    look("nearly full");
    add_and_wait("too much, though there is room", 5, 1);
    take("take it");
    show("the largest is none", add(UINT64_MAX));
    close(counter);

    counter = eventfd(0, EFD_SEMAPHORE);
    show("fill", add(MOST));
    add_and_wait("three more, one by one", 3, 3);
    look("full again");
    close(counter);

    counter = eventfd(1, 0);
    add_and_be_disturbed("a signal ends the wait", 0, 0);
    take("nothing was added");
    show("one", add(1));
    add_and_be_disturbed("or it goes on", SA_RESTART, 1);
    take("everything was added");
    fcntl(counter, F_SETFL, O_NONBLOCK);
    show("one", add(1));
    show("who does not wait", add(MOST));
    close(counter);

    edges("room", EPOLLOUT, 0);
    edges("a number", EPOLLIN, 0);
    edges("both", EPOLLIN | EPOLLOUT, 0);
    edges("a semaphore", EPOLLIN | EPOLLOUT, EFD_SEMAPHORE);
    return 0;
}
