/* Signals for sockets of somebody outside, while all threads run: O_ASYNC, F_SETOWN, F_SETSIG, SIGURG. `signalled PORT`: the server there
   does for each byte what the byte says: 'd' sends one, 'u' sends an urgent one, 'c' closes. What comes to the port by UDP it sends
   back. */
#include "came.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static struct sockaddr_in peer = {.sin_family = AF_INET};

/* Computes until a signal comes. */
static void compute(void) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (!came && now.tv_sec < begin.tv_sec + 60);
}

static void spin(const char *what) {
    compute();
    look(what);
}

static void ask(int fd, char what) {
    came = 0;
    works("ask", write(fd, &what, 1));
}

static void receive(int fd) {
    char byte = 0;
    recv(fd, &byte, 1, 0);
    holds("it came", byte == 'd');
}

static int connected(int kind) {
    int fd = socket(AF_INET, kind, 0);
    works("connect", connect(fd, (struct sockaddr *)&peer, sizeof peer));
    return fd;
}

static void urgent(int fd) {
    char byte = 0;
    ask(fd, 'u');
    spin("urgent data");
    struct pollfd row = {.fd = fd, .events = POLLPRI};
    show("poll", poll(&row, 1, 60000));
    show("receive urgent", recv(fd, &byte, 1, MSG_OOB));
    holds("is urgent", byte == '!');
}

int main(int count, char **arguments) {
    struct timespec moment = {.tv_nsec = 20000000};
    if (count < 2)
        return 1;
    peer.sin_port = htons(atoi(arguments[1]));
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    expect(SIGIO);
    expect(SIGURG);
    expect(SIGRTMIN + 3);
    alarm(120);

    int fd = connected(SOCK_STREAM);
    works("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
    follow(fd, 1);
    nanosleep(&moment, NULL);
    look("at first");
    ask(fd, 'd');
    spin("data");
    holds("code of the kernel", code == SI_KERNEL);
    receive(fd);
    works("F_SETSIG", fcntl(fd, F_SETSIG, SIGRTMIN + 3));
    ask(fd, 'd');
    spin("with a signal of its own");
    says_readable(fd);
    receive(fd);
    works("F_SETSIG", fcntl(fd, F_SETSIG, 0));

    came = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        compute();
        _exit(came == SIGIO ? 7 : 8);
    }
    works("F_SETOWN of a child", fcntl(fd, F_SETOWN, child));
    ask(fd, 'd');
    int status = 0;
    waitpid(child, &status, 0);
    show("the child heard", WEXITSTATUS(status));
    receive(fd);
    look("the parent");
    works("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));

    follow(fd, 0);
    ask(fd, 'd');
    receive(fd);
    nanosleep(&moment, NULL);
    look("switched off");
    urgent(fd);
    urgent(fd);
    follow(fd, 1);
    ask(fd, 'c');
    spin("the other end is closed");
    close(fd);

    /* Asked for before there is a connection. */
    fd = socket(AF_INET, SOCK_STREAM, 0);
    works("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
    follow(fd, 1);
    works("connect", connect(fd, (struct sockaddr *)&peer, sizeof peer));
    nanosleep(&moment, NULL);
    ask(fd, 'd');
    spin("data");
    receive(fd);
    close(fd);

    fd = connected(SOCK_DGRAM);
    works("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
    follow(fd, 1);
    ask(fd, 'd');
    spin("a datagram");
    receive(fd);
    close(fd);
    return 0;
}
