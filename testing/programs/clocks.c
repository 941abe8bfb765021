/* Time goes on, forwards, at the right speed. */
#include "check.h"
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(void) {
    static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};
    for (unsigned c = 0; c < sizeof clocks / sizeof *clocks; c++) {
        int backwards = 0;
        struct timespec last, t;
        clock_gettime(clocks[c], &last);
        for (int i = 0; i < 200000; i++) {
            clock_gettime(clocks[c], &t);
            backwards += t.tv_sec < last.tv_sec || (t.tv_sec == last.tv_sec && t.tv_nsec < last.tv_nsec);
            backwards += t.tv_nsec < 0 || t.tv_nsec >= 1000000000;
            last = t;
        }
        printf("clock %u goes backwards %d times\n", c, backwards);
    }
    double from = now(CLOCK_MONOTONIC), real = now(CLOCK_REALTIME);
    works("nanosleep", nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL));
    double passed = now(CLOCK_MONOTONIC) - from, real_passed = now(CLOCK_REALTIME) - real;
    holds("200 ms of sleep", passed >= 0.2 && passed < 2);
    holds("and on the other clock", real_passed > 0.19 && real_passed < passed + 0.02);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    from = now(CLOCK_MONOTONIC);
    show("clock_nanosleep until", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    passed = now(CLOCK_MONOTONIC) - from;
    holds("one second", passed > 0.98 && passed < 2);
    holds("it is after 2020", time(NULL) > 1577836800);
    struct timeval tv;
    gettimeofday(&tv, NULL);
    holds("gettimeofday agrees with time", labs(tv.tv_sec - time(NULL)) <= 1);
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    for (volatile int i = 0; i < 50000000; i++)
        ;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    holds("work takes CPU time", cpu > 0.001 && cpu < 60);
    struct timespec resolution;
    clock_getres(CLOCK_MONOTONIC, &resolution);
    holds("resolution", resolution.tv_sec == 0 && resolution.tv_nsec >= 1);
    return 0;
}
