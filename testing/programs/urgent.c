/* Urgent data of TCP: SIGURG, its mark, and who may have it. Prints the same everywhere. */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t signals;
static int ends[2];

static void count(int number) { signals += number == SIGURG; }

/* Signals that come within a while; a few milliseconds more show that no other does. */
static int signalled(int expected) {
    struct timespec moment = {.tv_nsec = 5000000};
    for (int i = 0; i < 400 && signals < expected; i++)
        nanosleep(&moment, NULL);
    nanosleep(&moment, NULL);
    int got = signals;
    signals = 0;
    return got;
}

static void pair(void) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&name, sizeof name);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&name, &len);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    connect(ends[0], (struct sockaddr *)&name, sizeof name);
    ends[1] = accept(listener, NULL, NULL);
    close(listener);
}

static int mark(void) {
    int at = -1;
    ioctl(ends[1], SIOCATMARK, &at);
    return at;
}

int main(void) {
    char text[10] = {0}, byte = 0;
    struct pollfd row = {.events = POLLPRI};
    int status, inline_it = 1;
    pid_t child;

    signal(SIGURG, count);
    alarm(60);
    pair();
    row.fd = ends[1];
    works("F_SETOWN", fcntl(ends[1], F_SETOWN, getpid()));
    holds("F_GETOWN", fcntl(ends[1], F_GETOWN) == getpid());
    show("send", send(ends[0], "ab", 2, 0));
    show("signals", signalled(0));
    show("send urgent", send(ends[0], "c!", 2, MSG_OOB));
    show("signals", signalled(1));
    show("poll", poll(&row, 1, 0));
    show("at the mark", mark());
    show("receive", recv(ends[1], text, sizeof text, 0));
    printf("%s\n", text);
    show("at the mark", mark());
    show("receive urgent", recv(ends[1], &byte, 1, MSG_OOB));
    printf("%c\n", byte);
    show("again", recv(ends[1], &byte, 1, MSG_OOB));
    show("the other way", send(ends[1], "!", 1, MSG_OOB));
    show("nobody is told", signalled(0));

    works("no owner", fcntl(ends[1], F_SETOWN, 0));
    show("send urgent", send(ends[0], "!", 1, MSG_OOB));
    show("signals", signalled(0));
    recv(ends[1], &byte, 1, MSG_OOB);

    /* A child owns it. */
    fflush(stdout);
    if (!(child = fork()))
        _exit(signalled(1));
    works("the child", fcntl(ends[1], F_SETOWN, child));
    show("send urgent", send(ends[0], "!", 1, MSG_OOB));
    wait(&status);
    printf("it got %d, here came %d\n", WEXITSTATUS(status), signalled(0));
    recv(ends[1], &byte, 1, MSG_OOB);

    close(ends[0]), close(ends[1]);
    pair();
    works("the group", fcntl(ends[1], F_SETOWN, -getpgrp()));
    works("SO_OOBINLINE", setsockopt(ends[1], SOL_SOCKET, SO_OOBINLINE, &inline_it, sizeof inline_it));
    show("send urgent", send(ends[0], "d!", 2, MSG_OOB));
    show("signals", signalled(1));
    memset(text, 0, sizeof text);
    recv(ends[1], text, 1, 0);
    printf("%s\n", text);
    show("at the mark", mark());
    recv(ends[1], text, 1, 0);
    printf("%s\n", text);
    show("receive urgent", recv(ends[1], &byte, 1, MSG_OOB));
    return 0;
}
