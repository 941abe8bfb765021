/* Signals for files that become ready: O_ASYNC, F_SETOWN, F_SETSIG. */
#include "came.h"
#include <arpa/inet.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Waits for a signal. */
static void await_signal(const char *what) {
    for (int i = 0; i < 60000 && !came; i++)
        usleep(1000);
    look(what);
}

int main(void) {
    expect(SIGIO);
    expect(SIGRTMIN + 3);
    char block[100] = "";
    int ends[2];
    works("pipe", pipe(ends));
    follow(ends[0], 1);
    write(ends[1], block, 1);
    look("without an owner");
    works("F_SETOWN", fcntl(ends[0], F_SETOWN, getpid()));
    holds("F_GETOWN", fcntl(ends[0], F_GETOWN) == getpid());
    write(ends[1], block, 1);
    holds("code of the kernel", code == SI_KERNEL);
    look("a write to the pipe");
    show("F_GETSIG", fcntl(ends[0], F_GETSIG));
    works("F_SETSIG", fcntl(ends[0], F_SETSIG, SIGRTMIN + 3));
    holds("F_GETSIG", fcntl(ends[0], F_GETSIG) == SIGRTMIN + 3);
    read(ends[0], block, sizeof block);
    last();
    write(ends[1], block, 1);
    says_readable(ends[0]);
    look("with a signal of its own");
    works("F_SETSIG", fcntl(ends[0], F_SETSIG, 0));
    follow(ends[0], 0);
    read(ends[0], block, sizeof block);
    write(ends[1], block, 1);
    look("switched off");
    show("a signal that there is not", fcntl(ends[0], F_SETSIG, 65));
    show("an owner that there is not", fcntl(ends[0], F_SETOWN, 0x3ffffe));

    int pair[2];
    works("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int on = 1, pid = getpid(), got = 0;
    works("FIOASYNC", ioctl(pair[0], FIOASYNC, &on));
    works("FIOSETOWN", ioctl(pair[0], FIOSETOWN, &pid));
    works("FIOGETOWN", ioctl(pair[0], FIOGETOWN, &got));
    holds("the owner", got == pid);
    write(pair[1], block, 1);
    look("a byte for the socket");
    works("F_SETOWN of a group", fcntl(pair[0], F_SETOWN, -getpgrp()));
    struct f_owner_ex owner;
    works("F_GETOWN_EX", fcntl(pair[0], F_GETOWN_EX, &owner));
    holds("is the group", owner.type == F_OWNER_PGRP && owner.pid == getpgrp());
    owner.type = F_OWNER_TID;
    owner.pid = gettid();
    works("F_SETOWN_EX", fcntl(pair[0], F_SETOWN_EX, &owner));
    write(pair[1], block, 1);
    look("a byte for a thread");
    close(pair[1]);
    look("the other end is closed");

    /* A connection of TCP: what comes may take a while. */
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM, 0), here = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&name, len);
    getsockname(listener, (struct sockaddr *)&name, &len);
    listen(listener, 1);
    connect(here, (struct sockaddr *)&name, len);
    int there = accept(listener, NULL, NULL);
    works("F_SETOWN", fcntl(here, F_SETOWN, getpid()));
    works("F_SETSIG", fcntl(here, F_SETSIG, SIGRTMIN + 3));
    follow(here, 1);
    last();
    write(there, block, 1);
    await_signal("a byte over TCP");
    says_readable(here);
    read(here, block, 1);
    works("F_SETSIG", fcntl(here, F_SETSIG, 0));
    close(there);
    await_signal("the other end is closed");
    close(here), close(listener);

    int up[2], down[2];
    if (pipe(up) || pipe(down))
        return 1;
    pid_t child = fork();
    if (child == 0) {
        write(up[1], "r", 1);
        read(down[0], block, 1);
        _exit(last() == SIGIO ? 7 : 8);
    }
    read(up[0], block, 1);
    works("F_SETOWN of a child", fcntl(ends[0], F_SETOWN, child));
    follow(ends[0], 1);
    write(ends[1], block, 1);
    look("the parent hears");
    write(down[1], block, 1);
    int status = 0;
    waitpid(child, &status, 0);
    show("the child heard", WEXITSTATUS(status));

    int file = open("/dev/null", O_RDWR);
    show("FIOASYNC for /dev/null", ioctl(file, FIOASYNC, &on));
    follow(file, 1);
    return 0;
}
