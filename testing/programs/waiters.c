/* Who waits for a connection to a server that sends back what it gets, and who did before: `waiters SOCKET`. */
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path;
static int fd, outer, inner;
static sem_t go, done;

static int connected(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    int new = socket(AF_UNIX, SOCK_STREAM, 0);
    works("connect", connect(new, (struct sockaddr *)&name, sizeof name));
    return new;
}

/* Says nothing, as the answer may come to a thread that says so before this one goes on. */
static void ask(int of) {
    if (write(of, "x", 1) != 1)
        puts("not sent");
}

static void receive(int of) {
    char byte = 0;
    read(of, &byte, 1);
    holds("it came back", byte == 'x');
}

static void add(int to, int what) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = what};
    works("add", epoll_ctl(to, EPOLL_CTL_ADD, what, &event));
}

static void await_in(int instance) {
    struct epoll_event event;
    show("wait", epoll_wait(instance, &event, 1, 60000));
}

static void look_at(int what) {
    struct pollfd row = {.fd = what, .events = POLLIN};
    show("nothing yet", poll(&row, 1, 0));
    show("nothing in a moment", poll(&row, 1, 1));
}

static void *others_epoll(void *unused) {
    await_in(outer);
    receive(fd);
    sem_post(&done);
    return unused;
}

/* Looks again and again, and never sleeps. */
static void *looks(void *unused) {
    struct pollfd row = {.fd = fd, .events = POLLIN};
    while (poll(&row, 1, 0) == 0)
        ;
    receive(fd);
    sem_post(&done);
    return unused;
}

static void *tries(void *unused) {
    char byte = 0;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0)
        ;
    holds("it came back", byte == 'x');
    sem_post(&done);
    return unused;
}

static void *receives(void *unused) {
    receive(fd);
    sem_post(&done);
    return unused;
}

static void *adds(void *unused) {
    usleep(20000);
    add(outer, fd);
    ask(fd);
    sem_wait(&go);
    return unused;
}

static pthread_t start(void *(*what)(void *)) {
    pthread_t thread;
    pthread_create(&thread, NULL, what, NULL);
    return thread;
}

/* Another thread does it while this one, which waited for the socket before, waits for something else. */
static void hand_over(const char *what, void *(*to)(void *)) {
    puts(what);
    fd = connected();
    look_at(fd);
    pthread_t thread = start(to);
    usleep(20000);
    ask(fd);
    sem_wait(&done);
    pthread_join(thread, NULL);
    close(fd);
}

int main(int count, char **arguments) {
    if (count < 2)
        return 1;
    path = arguments[1];
    alarm(120);
    sem_init(&go, 0, 0), sem_init(&done, 0, 0);

    hand_over("another looks", looks);
    hand_over("another tries", tries);
    hand_over("another receives", receives);

    puts("another waits in the instance");
    fd = connected();
    outer = epoll_create1(0);
    add(outer, fd);
    ask(fd);
    await_in(outer);
    receive(fd);
    pthread_t thread = start(others_epoll);
    usleep(20000);
    ask(fd);
    sem_wait(&done);
    pthread_join(thread, NULL);
    ask(fd);
    await_in(outer);
    receive(fd);
    close(fd);

    puts("another puts it into the instance");
    fd = connected();
    look_at(fd);
    thread = start(adds);
    await_in(outer);
    receive(fd);
    sem_post(&go);
    pthread_join(thread, NULL);
    close(fd);
    close(outer);
    outer = epoll_create1(0);
    int first = connected();
    add(outer, first);
    ask(first);
    await_in(outer);
    receive(first);
    fd = connected();
    thread = start(adds);
    await_in(outer);
    receive(fd);
    ask(first);
    await_in(outer);
    receive(first);
    sem_post(&go);
    pthread_join(thread, NULL);
    close(fd), close(first), close(outer);

    puts("an instance in an instance");
    fd = connected();
    inner = epoll_create1(0), outer = epoll_create1(0);
    add(inner, fd);
    ask(fd);
    await_in(inner);
    receive(fd);
    add(outer, inner);
    thread = start(others_epoll);
    usleep(20000);
    ask(fd);
    sem_wait(&done);
    pthread_join(thread, NULL);

    puts("a child waits");
    fflush(stdout);
    if (!fork()) {
        await_in(inner);
        receive(fd);
        fflush(stdout);
        _exit(0);
    }
    usleep(20000);
    ask(fd);
    wait(NULL);
    ask(fd);
    await_in(outer);
    receive(fd);
    return 0;
}
