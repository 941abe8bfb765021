/* Signals that tell of files: which came last, and what it said. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t came, code, fd_told, band;

static void on_came(int number, siginfo_t *info, void *context) {
    (void)context;
    came = number;
    code = info->si_code;
    fd_told = info->si_fd;
    band = info->si_band;
}

static inline void expect(int number) {
    struct sigaction action = {.sa_sigaction = on_came, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(number, &action, NULL);
}

/* Which signal came since the last look. */
static inline int last(void) {
    int number = came;
    came = 0;
    return number;
}

static inline void look(const char *what) {
    int number = last();
    printf("%s: %s\n", what,
           number == 0 ? "nothing" : number == SIGIO ? "SIGIO" : number == SIGURG ? "SIGURG" : number == SIGRTMIN + 3 ? "SIGRTMIN+3" : "another");
}

/* Has the file signal its owner, or not. */
static inline void follow(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    works("F_SETFL", fcntl(fd, F_SETFL, on ? flags | O_ASYNC : flags & ~O_ASYNC));
    holds("F_GETFL says so", !(fcntl(fd, F_GETFL) & O_ASYNC) == !on);
}

/* What a signal says that tells of something to read. */
static inline void says_readable(int fd) {
    holds("says what happened, and where", code == POLL_IN && fd_told == fd && band & POLLIN);
}
