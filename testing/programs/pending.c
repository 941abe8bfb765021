/* Signals that wait: who waits for them, how many there may be of a user (RLIMIT_SIGPENDING), and those of timers, which are
 * one each. */
#include "check.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct timespec none = {0}, patience = {5, 0};

static void limit_to(rlim_t most) {
    struct rlimit limit = {most, 100};
    setrlimit(RLIMIT_SIGPENDING, &limit);
}

static int queue(pid_t pid, int number, int value) {
    return sigqueue(pid, number, (union sigval){.sival_int = value});
}

/* What /proc says of the signals of the user. */
static void show_queued(const char *what) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "SigQ:", 5) == 0)
            printf("%s: %s", what, line + 6);
    if (status)
        fclose(status);
}

/* Linux counts a timer that is deleted a little longer, until nobody can be looking at it. */
static void await_none_queued(void) {
    for (int tries = 0; tries < 1000; tries++) {
        char line[256];
        int is_none = 0;
        FILE *status = fopen("/proc/self/status", "r");
        while (status && fgets(line, sizeof line, status))
            is_none |= strncmp(line, "SigQ:\t0/", 8) == 0;
        if (status)
            fclose(status);
        if (is_none)
            return;
        usleep(1000);
    }
}

static int drain(const sigset_t *set) {
    int count = 0;
    siginfo_t info;
    while (sigtimedwait(set, &info, &none) > 0)
        count++;
    return count;
}

/* A signal that would be ignored comes to who has blocked it and waits for it. */
static void awaited(void) {
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        _exit(3);
    }
    siginfo_t info = {0};
    show("sigtimedwait of SIGCHLD", sigtimedwait(&set, &info, &patience));
    holds("of the child", info.si_pid == child && info.si_status == 3);
    waitpid(child, NULL, 0);
    child = fork();
    if (child == 0) {
        usleep(50000);
        kill(getppid(), SIGCHLD);
        syscall(SYS_tgkill, getppid(), getppid(), SIGURG);
        _exit(0);
    }
    sigaddset(&set, SIGURG);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int first = sigtimedwait(&set, &info, &patience), second = sigtimedwait(&set, &info, &patience);
    holds("SIGCHLD and SIGURG", first + second == SIGCHLD + SIGURG);
    waitpid(child, NULL, 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void limits(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    limit_to(4);
    show_queued("nothing");
    int ends[2];
    pipe(ends);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(ends[1]);
        read(ends[0], &byte, 1);
        _exit(0);
    }
    close(ends[0]);
    show("one to a child", queue(child, SIGRTMIN, 1));
    show("another", queue(child, SIGRTMIN, 2));
    show_queued("two of the user");
    show("one to itself", queue(getpid(), SIGRTMIN, 3));
    show("another", queue(getpid(), SIGRTMIN, 4));
    show("one too many", queue(getpid(), SIGRTMIN, 5));
    show("to the child too", queue(child, SIGRTMIN, 5));
    show("a classic one", queue(getpid(), SIGUSR1, 6));
    show("kill", kill(getpid(), SIGRTMIN + 1));
    show("kill again", kill(getpid(), SIGRTMIN + 1));
    timer_t timer;
    show("timer_create", timer_create(CLOCK_MONOTONIC, NULL, &timer));
    siginfo_t info = {0};
    show("SIGUSR1", sigtimedwait(&set, &info, &none));
    holds("without its value", info.si_code == SI_USER && info.si_value.sival_int == 0);
    show("the first", sigtimedwait(&set, &info, &none));
    printf("with %d\n", info.si_value.sival_int);
    show_queued("room for one");
    show("timer_create", timer_create(CLOCK_MONOTONIC, NULL, &timer));
    show_queued("a timer counts");
    show("no room", queue(getpid(), SIGRTMIN, 7));
    show("timer_delete", timer_delete(timer));
    show("room", queue(getpid(), SIGRTMIN, 8));
    printf("left: %d\n", drain(&set));
    close(ends[1]);
    waitpid(child, NULL, 0);
    show_queued("the child has ended");
    limit_to(0);
    show("a limit of 0", queue(getpid(), SIGRTMIN, 9));
    show("kill", kill(getpid(), SIGUSR1));
    printf("left: %d\n", drain(&set));
    limit_to(100);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void arm(timer_t timer, long first_ms, long interval_ms) {
    struct itimerspec setting = {{0, interval_ms * 1000000}, {0, first_ms * 1000000}};
    works("timer_settime", timer_settime(timer, 0, &setting, NULL));
}

/* How often a timer came until now, as far as signals and what they say tell. */
static void timers(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 7};
    timer_t timer, other;
    works("timer_create", timer_create(CLOCK_MONOTONIC, &event, &timer));
    arm(timer, 5, 5);
    usleep(42000);
    siginfo_t info = {0};
    show("the signal", sigtimedwait(&set, &info, &none) == SIGRTMIN);
    holds("of the timer", info.si_code == SI_TIMER && info.si_value.sival_int == 7);
    holds("says how many were missed", info.si_overrun >= 7 && info.si_overrun < 200);
    holds("as timer_getoverrun", timer_getoverrun(timer) == info.si_overrun);
    arm(timer, 0, 0);
    drain(&set);
    show("overruns of another setting", timer_getoverrun(timer));

    arm(timer, 1, 0);
    usleep(5000);
    arm(timer, 0, 0);
    /* Whether what came before still counts depends on the version of Linux. */
    drain(&set);
    arm(timer, 1, 0);
    usleep(5000);
    show("once", sigtimedwait(&set, &info, &none) == SIGRTMIN);
    show("only once", sigtimedwait(&set, &info, &none));
    show("overrun", info.si_overrun);
    works("timer_delete", timer_delete(timer));

    /* Two timers and kill with one classic signal. */
    event.sigev_signo = SIGUSR1;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    event.sigev_value.sival_int = 8;
    timer_create(CLOCK_MONOTONIC, &event, &other);
    kill(getpid(), SIGUSR1);
    arm(timer, 1, 0);
    usleep(5000);
    arm(other, 1, 0);
    usleep(5000);
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 4; i++) {
        int number = sigtimedwait(&set, &info, &none);
        if (number == -1)
            printf("%s\n", errno_name(errno));
        else
            printf("code %d value %d\n", info.si_code, info.si_code == SI_TIMER ? info.si_value.sival_int : 0);
    }
    timer_delete(timer), timer_delete(other);

    /* An ignored signal does not end a timer. */
    event.sigev_signo = SIGRTMIN;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGRTMIN, SIG_IGN);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    arm(timer, 2, 2);
    usleep(10000);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGRTMIN, SIG_DFL);
    show("no longer ignored", sigtimedwait(&set, &info, &patience) == SIGRTMIN);
    timer_delete(timer);
    works("a bad address", syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, (void *)8));
    await_none_queued();
    show_queued("nothing is left");
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    int id = 10000 + getpid() % 50000;
    awaited();
    if (setresgid(id, id, id) == -1 || setresuid(id, id, id) == -1)
        perror("setresuid");
    limits();
    timers();
    return 0;
}
