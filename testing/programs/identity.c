/* Who a process is: its first thread after another has called execve, and its descriptor. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *self;
static pid_t first;

static void *waits(void *argument) {
    (void)argument;
    for (;;)
        pause();
}

/* Replaces the program, by descriptor. */
static void *replaces(void *argument) {
    (void)argument;
    holds("the second thread has a number of its own", syscall(SYS_gettid) != getpid());
    char pid[20];
    sprintf(pid, "%d", getpid());
    char *arguments[] = {self, "after", pid, NULL}, *environment[] = {NULL};
    int fd = open(self, O_PATH | O_CLOEXEC);
    works("execveat", syscall(SYS_execveat, fd, "", arguments, environment, 0x1000));
    return NULL;
}

static int after(const char *pid) {
    holds("the process is the same", atoi(pid) == getpid());
    holds("the thread is its first", syscall(SYS_gettid) == getpid());
    show("it can be signalled", syscall(SYS_tgkill, getpid(), getpid(), 0));
    char path[64];
    sprintf(path, "/proc/self/task/%d/comm", getpid());
    works("it is in /proc", open(path, O_RDONLY));
    return 5;
}

/* clone3 with CLONE_PIDFD. */
static pid_t clone_with_descriptor(int *fd) {
    uint64_t arguments[11] = {CLONE_PIDFD, (uint64_t)fd, 0, 0, SIGCHLD};
    return syscall(SYS_clone3, arguments, 88);
}

static void descriptors(void) {
    int fd = -1;
    pid_t child = clone_with_descriptor(&fd);
    if (child == 0)
        for (;;)
            pause();
    works("clone3", child);
    show("flags of the descriptor", fcntl(fd, F_GETFD));
    struct pollfd row = {fd, POLLIN};
    show("poll while it runs", poll(&row, 1, 0));
    siginfo_t info = {0};
    show("waitid while it runs", waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
    show("a signal through it", syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    show("poll", poll(&row, 1, 5000));
    show("what it says", row.revents);
    show("waitid", waitid(P_PIDFD, fd, &info, WEXITED));
    printf("code %d status %d, the child: %d\n", info.si_code, info.si_status, info.si_pid == child);
    show("another signal", syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    show("waitid again", waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count > 2)
        return after(arguments[2]);
    self = arguments[0];
    first = getpid();
    descriptors();
    pthread_t threads[3];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, waits, NULL);
    pthread_create(&threads[2], NULL, replaces, NULL);
    pthread_join(threads[2], NULL);
    printf("still here\n");
    return 1;
}
