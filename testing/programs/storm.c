/* Exceptions while a timer interrupts as fast as it can: each is seen once. */
#define _GNU_SOURCE
#include "check.h"
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

enum { FAULTS = 20000 };

static volatile sig_atomic_t alarms, faults;
static char *page;

static void on_alarm(int number) {
    (void)number;
    alarms++;
}

/* Steps over a `ud2`. */
static void on_illegal(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
    faults++;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    faults++;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};

    sigaction(SIGILL, &action, 0);
    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, 0);
    signal(SIGALRM, on_alarm);
    page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    setitimer(ITIMER_REAL, &often, 0);
    for (int i = 0; i < FAULTS; i++)
        __asm__ volatile("ud2");
    holds("each illegal instruction was seen once", faults == FAULTS);
    for (int i = 0; i < FAULTS; i++) {
        mprotect(page, 4096, PROT_NONE);
        *(volatile char *)page = 1;
    }
    holds("each page fault was seen once", faults == 2 * FAULTS);
    setitimer(ITIMER_REAL, &never, 0);
    holds("the timer interrupted", alarms > 100);
    return 0;
}
