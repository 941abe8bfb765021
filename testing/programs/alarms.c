/* Timers of a program that does nothing but ask the host: each must reach it, though it is hardly ever inside. */
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

enum { ROUNDS = 500 };
static volatile sig_atomic_t rings;

static void on_alarm(int number) {
    (void)number;
    rings++;
}

int main(void) {
    signal(SIGALRM, on_alarm);
    for (int round = 0; round < ROUNDS; round++) {
        struct itimerval soon = {.it_value = {.tv_usec = 1000}};
        setitimer(ITIMER_REAL, &soon, NULL);
        struct timespec used;
        while (rings <= round)
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    }
    printf("%d rounds, %d rings\n", ROUNDS, (int)rings);
}
