/* Pairs of forked processes: one wakes as fast as it can, the other sleeps for as short as it can, until an alarm tells the first. */
#define _GNU_SOURCE
#include "check.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAIRS = 2, FUTEX_WAIT = 0, FUTEX_WAKE = 1 };

static volatile sig_atomic_t is_over;

static void on_alarm(int number) {
    (void)number;
    is_over = 1;
}

static int sleeper(int *word) {
    struct timespec shortly = {0, 5000};
    while (!is_over)
        syscall(SYS_futex, word, FUTEX_WAIT, 0, &shortly, 0, 0);
    return 7;
}

static int waker(int *word) {
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(sleeper(word));
    alarm(1);
    while (!is_over)
        syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0);
    kill(child, SIGALRM);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(void) {
    int *words = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    signal(SIGALRM, on_alarm);
    for (int i = 0; i < PAIRS; i++)
        if (fork() == 0)
            _exit(waker(words + i));
    for (int i = 0; i < PAIRS; i++) {
        wait(&status);
        show("a pair ended with", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    }
    return 0;
}
