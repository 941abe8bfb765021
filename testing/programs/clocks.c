/* Time goes on, forwards, at the right speed. */
#include "check.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static volatile sig_atomic_t alarms;

static void count(int number) {
    (void)number;
    alarms++;
}

static struct rusage used(int who) {
    struct rusage usage;
    getrusage(who, &usage);
    return usage;
}

static double seconds(struct timeval time) { return time.tv_sec + time.tv_usec / 1e6; }

/* Spends so much CPU time in the program, or in the kernel, and says whether most of it was counted there. */
static int spends(double time, int in_kernel) {
    static char block[65536];
    int ends[2];
    if (pipe(ends))
        return 0;
    struct rusage from = used(RUSAGE_SELF);
    double until = now(CLOCK_PROCESS_CPUTIME_ID) + time;
    while (now(CLOCK_PROCESS_CPUTIME_ID) < until)
        for (int i = 0; i < (in_kernel ? 50 : 5000000); i++)
            if (in_kernel && (write(ends[1], block, sizeof block) < 0 || read(ends[0], block, sizeof block) < 0))
                return 0;
            else
                __asm__ volatile("");
    struct rusage to = used(RUSAGE_SELF);
    close(ends[0]), close(ends[1]);
    double user = seconds(to.ru_utime) - seconds(from.ru_utime);
    double system = seconds(to.ru_stime) - seconds(from.ru_stime);
    if (user < 0 || system < 0 || user + system < time * 0.9)
        return 0;
    return in_kernel ? system > user : user > 2 * system;
}

static void check_cpu_times(void) {
    signal(SIGVTALRM, count);
    struct itimerval timer = {.it_value = {0, 200000}};
    works("setitimer", setitimer(ITIMER_VIRTUAL, &timer, NULL));
    holds("time in the kernel is system time", spends(0.4, 1));
    holds("which ITIMER_VIRTUAL does not count", alarms == 0);
    holds("time in the program is user time", spends(0.4, 0));
    holds("which it does", alarms == 1);
    struct tms times_now;
    times(&times_now);
    double tick = sysconf(_SC_CLK_TCK);
    holds("times agrees on user time", times_now.tms_utime / tick <= seconds(used(RUSAGE_SELF).ru_utime) + 0.02);
    holds("and on system time", times_now.tms_stime / tick <= seconds(used(RUSAGE_SELF).ru_stime) + 0.02);
    holds("and there is some", times_now.tms_stime > 0);
    struct rusage thread = used(RUSAGE_THREAD), self = used(RUSAGE_SELF);
    holds("the only thread used what the process used",
          seconds(thread.ru_utime) + seconds(thread.ru_stime) > 0.9 * (seconds(self.ru_utime) + seconds(self.ru_stime)));
    long user = 0, system = 0;
    FILE *stat = fopen("/proc/self/stat", "r");
    if (!stat || fscanf(stat, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system) != 2)
        puts("/proc/self/stat cannot be read");
    holds("/proc/self/stat says so too", user > 0 && system > 0);
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
    holds("200 ms of sleep", passed >= 0.2 && passed < 5);
    holds("and on the other clock", real_passed > 0.19 && real_passed < passed + 0.5);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    from = now(CLOCK_MONOTONIC);
    show("clock_nanosleep until", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    passed = now(CLOCK_MONOTONIC) - from;
    holds("one second", passed > 0.98 && passed < 5);
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
    check_cpu_times();
    return 0;
}
