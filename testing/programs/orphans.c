/* What a process leaves: children that get another parent, and memory and descriptors that others share with it. */
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK = 65536 };
static char stacks[2][STACK];
static int wait_here[2], wait_there[2];

static int child_of(int (*run)(void *), int flags, void *argument, char *stack) {
    return clone(run, stack + STACK, flags, argument);
}

/* Ends when the pipe is closed. */
static int ends_later(void *status) {
    char byte;
    close(wait_here[1]);
    while (read(wait_here[0], &byte, 1) > 0)
        ;
    _exit((int)(long)status);
}

/* Where the parent ends first, the reaper gets SIGCHLD for an orphan, whatever its end was to send. */
static void reaper_gets_sigchld(int signal) {
    pipe(wait_here);
    pid_t parent = fork();
    if (parent == 0)
        _exit(child_of(ends_later, signal, (void *)7, stacks[0]) < 0);
    close(wait_here[0]);
    int status;
    works("waitpid", waitpid(parent, &status, 0) - parent);
    sigset_t set;
    siginfo_t info = {0};
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    /* The parent's own. */
    sigtimedwait(&set, NULL, &(struct timespec){0});
    close(wait_here[1]);
    works("sigwaitinfo", sigwaitinfo(&set, &info) - SIGCHLD);
    pid_t orphan = waitpid(-1, &status, 0);
    printf("signal %d: the orphan %d tells %d, its status is %x\n", signal, orphan > 0 && info.si_pid == orphan, info.si_status,
           status);
    fflush(stdout);
}

static int ends(void *status) {
    _exit((int)(long)status);
}

/* A zombie that shared descriptors does not keep them open. */
static void zombies_hold_nothing(void) {
    int pipes[2], hold[2];
    char byte;
    pipe(pipes);
    pipe(hold);
    pid_t parent = fork();
    if (parent == 0) {
        close(pipes[0]);
        close(hold[1]);
        child_of(ends, SIGCHLD | CLONE_FILES, (void *)1, stacks[0]);
        siginfo_t info;
        waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
        /* A second one, which shares them and goes on. */
        if (child_of(ends, SIGCHLD | CLONE_FILES | CLONE_VFORK, (void *)1, stacks[1]) < 0)
            _exit(1);
        read(hold[0], &byte, 1);
        _exit(0);
    }
    close(pipes[1]);
    close(hold[0]);
    close(hold[1]);
    siginfo_t info;
    waitid(P_PID, parent, &info, WEXITED | WNOWAIT);
    works("read at the end", read(pipes[0], &byte, 1));
    close(pipes[0]);
    works("waitpid", waitpid(parent, NULL, 0) - parent);
    int orphans = 0, status;
    while (waitpid(-1, &status, 0) > 0)
        orphans += WEXITSTATUS(status);
    printf("%d orphans\n", orphans);
    fflush(stdout);
}

static int executes(void *unused) {
    (void)unused;
    execl("/bin/true", "true", NULL);
    _exit(127);
}

/* `execve` of a process that shares descriptors leaves those of the other alone. */
static void execve_unshares_files(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), status;
    pid_t child = child_of(executes, SIGCHLD | CLONE_FILES, NULL, stacks[0]);
    waitpid(child, &status, 0);
    printf("the child ends with %x, the descriptor has flags %d\n", status, fcntl(fd, F_GETFD));
    fflush(stdout);
    close(fd);
}

static volatile int *shared;

/* Runs in the memory of one that has executed another program by now. */
static int works_on(void *unused) {
    (void)unused;
    char byte;
    close(wait_here[1]);
    while (read(wait_here[0], &byte, 1) > 0)
        ;
    for (int i = 0; i < STACK; i += 512)
        stacks[1][i] = (char)i;
    long sum = 0;
    for (int i = 0; i < STACK; i += 512)
        sum += stacks[1][i] == (char)i;
    *shared = (int)sum;
    write(wait_there[1], "x", 1);
    _exit(3);
}

/* `execve` of a process that shares its memory leaves that of the other alone. */
static void execve_unshares_memory(void) {
    char byte;
    pipe(wait_here);
    pipe(wait_there);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t parent = fork();
    if (parent == 0) {
        if (child_of(works_on, SIGCHLD | CLONE_VM, NULL, stacks[0]) < 0)
            _exit(1);
        close(wait_here[1]);
        execl("/bin/true", "true", NULL);
        _exit(127);
    }
    int status;
    works("waitpid", waitpid(parent, &status, 0) - parent);
    close(wait_here[0]);
    close(wait_here[1]);
    works("read", read(wait_there[0], &byte, 1));
    pid_t orphan = waitpid(-1, &status, 0);
    printf("the orphan %d found %d pages and ends with %x\n", orphan > 0, *shared, status);
    fflush(stdout);
}

static void *ends_last(void *unused) {
    (void)unused;
    char byte;
    while (read(wait_here[0], &byte, 1) > 0)
        ;
    _exit(5);
}

/* An orphan whose first thread ended long before it. */
static void a_thread_is_left(void) {
    pipe(wait_here);
    pid_t parent = fork();
    if (parent == 0) {
        if (fork() == 0) {
            close(wait_here[1]);
            pthread_t thread;
            pthread_create(&thread, NULL, ends_last, NULL);
            syscall(SYS_exit, 0);
        }
        _exit(0);
    }
    int status;
    works("waitpid", waitpid(parent, &status, 0) - parent);
    close(wait_here[0]);
    close(wait_here[1]);
    pid_t orphan = waitpid(-1, &status, 0);
    printf("the orphan %d ends with %x\n", orphan > 0, status);
}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    works("prctl", prctl(PR_SET_CHILD_SUBREAPER, 1));
    reaper_gets_sigchld(SIGCHLD);
    reaper_gets_sigchld(SIGUSR1);
    reaper_gets_sigchld(0);
    zombies_hold_nothing();
    execve_unshares_files();
    execve_unshares_memory();
    a_thread_is_left();
}
