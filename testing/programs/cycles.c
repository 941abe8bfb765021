/* Processes that share a table of descriptors in which there are descriptors of themselves, over and over. Argument: how often. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536];

static int ends(void *unused) {
    (void)unused;
    _exit(0);
}

int main(int count, char **arguments) {
    int rounds = count > 1 ? atoi(arguments[1]) : 1, good = 0, status;
    for (int i = 0; i < rounds; i++) {
        pid_t child = fork();
        if (child == 0) {
            int fd;
            pid_t sharer = clone(ends, stack + sizeof stack, SIGCHLD | CLONE_FILES | CLONE_PIDFD, NULL, &fd);
            _exit(waitpid(sharer, NULL, 0) != sharer);
        }
        good += waitpid(child, &status, 0) == child && status == 0;
    }
    printf("%d of %d\n", good, rounds);
}
