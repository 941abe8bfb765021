/* Signals for sockets of somebody outside, while all threads run: O_ASYNC, F_SETOWN, F_SETSIG, SIGURG. `signalled PORT`: the server there
   does for each byte what the byte says: 'd' sends one, 'u' sends an urgent one, 'c' closes. What comes to the port by UDP it sends
   back. */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t came, code, fd_told, band;
static struct sockaddr_in peer = {.sin_family = AF_INET};

static void handler(int number, siginfo_t *info, void *context) {
    (void)context;
    came = number;
    code = info->si_code;
    fd_told = info->si_fd;
    band = info->si_band;
}

static const char *last(void) {
    int number = came;
    came = 0;
    return number == 0 ? "nothing" : number == SIGIO ? "SIGIO" : number == SIGURG ? "SIGURG" : number == SIGRTMIN + 3 ? "SIGRTMIN+3" : "another";
}

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
    printf("%s: %s\n", what, last());
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

static void follow(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    works("F_SETFL", fcntl(fd, F_SETFL, on ? flags | O_ASYNC : flags & ~O_ASYNC));
    holds("F_GETFL says so", !(fcntl(fd, F_GETFL) & O_ASYNC) == !on);
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
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct timespec moment = {.tv_nsec = 20000000};
    if (count < 2)
        return 1;
    peer.sin_port = htons(atoi(arguments[1]));
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sigaction(SIGIO, &action, NULL);
    sigaction(SIGURG, &action, NULL);
    sigaction(SIGRTMIN + 3, &action, NULL);
    alarm(120);

    int fd = connected(SOCK_STREAM);
    works("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
    follow(fd, 1);
    nanosleep(&moment, NULL);
    printf("at first: %s\n", last());
    ask(fd, 'd');
    spin("data");
    holds("code of the kernel", code == SI_KERNEL);
    receive(fd);
    works("F_SETSIG", fcntl(fd, F_SETSIG, SIGRTMIN + 3));
    ask(fd, 'd');
    spin("with a signal of its own");
    holds("says what happened, and where", code == POLL_IN && fd_told == fd && band & POLLIN);
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
    printf("the parent: %s\n", last());
    works("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));

    follow(fd, 0);
    ask(fd, 'd');
    receive(fd);
    nanosleep(&moment, NULL);
    printf("switched off: %s\n", last());
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
