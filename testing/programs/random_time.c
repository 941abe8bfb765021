/* Random calls about time: clocks, sleeping, interval timers, timers with signals and with descriptors, CPU times. */
#include "random.h"
#include <poll.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

#define TIMERS 6
static struct {
    int id, is_there, clock, kind;
} timers[TIMERS];
static int descriptors[4] = {-1, -1, -1, -1};

/* Signals of timers come when they want: they are blocked, and looked for when they must have come. */
static sigset_t ours;

static void setup(void) {
    sigemptyset(&ours);
    for (int i = 0; i < 6; i++)
        sigaddset(&ours, (int[]){SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, 40, 41}[i]);
    sigprocmask(SIG_BLOCK, &ours, NULL);
}

static void finish(void) {}

/* The next signal of a timer, which comes within two seconds. */
static void show_signal(void) {
    siginfo_t info;
    struct timespec patience = {2, 0};
    int number = sigtimedwait(&ours, &info, &patience);
    printf(" signal %d code %d", number, number > 0 ? info.si_code : 0);
    /* Without an event it is the number of the timer. */
    if (number > 0 && info.si_code == SI_TIMER && number != SIGALRM)
        printf(" value %d", info.si_value.sival_int);
}

static void drain(void) {
    struct timespec none = {0};
    siginfo_t info;
    while (sigtimedwait(&ours, &info, &none) > 0) {}
}

static int some_clock(void) {
    return PICK(CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI, 10, 12, 16, 99,
                100);
}

/* A time that is odd, or long enough that it does not come, or already over. */
static void some_time(struct timespec *into, const char **name) {
    switch (below(8)) {
    case 0: *into = (struct timespec){-1, 0}, *name = "negative"; break;
    case 1: *into = (struct timespec){0, -1}, *name = "negative ns"; break;
    case 2: *into = (struct timespec){0, 1000000000}, *name = "too many ns"; break;
    case 3: *into = (struct timespec){0, 0}, *name = "0"; break;
    default: *into = (struct timespec){1000, 5}, *name = "long";
    }
}

static void clocks(void) {
    int clock = some_clock();
    void *into = pointer(scratch);
    switch (below(4)) {
    case 0:
        printf("clock_gettime(%d, %s)", clock, kind_of(into));
        result(CALL(clock_gettime, clock, into));
        break;
    case 1:
        printf("clock_getres(%d, %s)", clock, kind_of(into));
        result(CALL(clock_getres, clock, into));
        break;
    case 2: {
        const char *name;
        some_time((void *)scratch, &name);
        printf("clock_settime(%d, %s %s)", clock, kind_of(into), name);
        result(CALL(clock_settime, clock, into));
        break;
    }
    default: {
        void *zone = pointer(scratch + 64);
        printf("gettimeofday(%s, %s)", kind_of(into), kind_of(zone));
        result(CALL(gettimeofday, into, zone));
        printf(" time(%s)", kind_of(into));
        success(CALL(time, into));
    }
    }
}

static void sleeping(void) {
    struct timespec *time = (void *)scratch;
    const char *name;
    some_time(time, &name);
    if (name[0] == 'l')
        *time = (struct timespec){0, 1000}, name = "short";
    void *in = pointer(time), *left = pointer(scratch + 64);
    if (chance(3)) {
        printf("nanosleep(%s %s, %s)", kind_of(in), name, kind_of(left));
        result(CALL(nanosleep, in, left));
        return;
    }
    int clock = some_clock(), flags = PICK(0, 0, TIMER_ABSTIME, 2);
    if (clock == CLOCK_PROCESS_CPUTIME_ID && flags != TIMER_ABSTIME && name[0] == 's')
        flags = TIMER_ABSTIME;
    printf("clock_nanosleep(%d, %d, %s %s, %s)", clock, flags, kind_of(in), name, kind_of(left));
    result(CALL(clock_nanosleep, clock, flags, in, left));
}

static void intervals(void) {
    struct itimerval *new = (void *)scratch, *old = (void *)(scratch + 64);
    memset(old, 0x77, sizeof *old);
    int which = PICK(0, 0, 1, 2, 3, -1);
    *new = (struct itimerval){.it_interval = {0, PICK(0, 0, 500000, 1000000, -1)}, .it_value = {PICK(0, 1000, 1000, -1), 0}};
    if (chance(4))
        new->it_value = (struct timeval){0, PICK(1000000, -1, 0)};
    long interval = new->it_interval.tv_usec, seconds = new->it_value.tv_sec, micros = new->it_value.tv_usec;
    void *in = pointer(new), *out = pointer(old);
    switch (below(4)) {
    case 0:
        out = pointer_or(old, 0);
        printf("getitimer(%d, %s)", which, kind_of(out));
        if (result(CALL(getitimer, which, out)) == 0)
            printf(" %s %d", old->it_value.tv_sec || old->it_value.tv_usec ? "runs" : "stands", (int)old->it_interval.tv_usec);
        break;
    case 1: {
        unsigned after = PICK(0, 0, 1000, 5);
        printf("alarm(%u)", after);
        long was = CALL(alarm, after);
        printf(" %s", was ? "ran" : "stood");
        break;
    }
    case 2:
        printf("setitimer(%d, %s %ld.%ld interval %ld, %s)", which, kind_of(in), seconds, micros, interval, kind_of(out));
        if (result(CALL(setitimer, which, in, out)) == 0 && out == old)
            printf(" %s %d", old->it_value.tv_sec || old->it_value.tv_usec ? "ran" : "stood", (int)old->it_interval.tv_usec);
        break;
    default: {
        /* One that expires. */
        which = below(3);
        drain();
        *new = (struct itimerval){.it_value = {0, 2000}};
        printf("expiry of %d", which);
        result(CALL(setitimer, which, new, NULL));
        if (which)
            for (volatile int i = 0; sigpending((void *)old) == 0 && !(*(uint64_t *)old & (1 << 25 | 1 << 26));) {
                for (volatile int spin = 0; spin < 100000; spin++) {}
            }
        show_signal();
        CALL(getitimer, which, old);
        printf(" %s", old->it_value.tv_sec || old->it_value.tv_usec ? "runs" : "stands");
    }
    }
}

static void created(void) {
    int index = below(TIMERS);
    struct itimerspec *new = (void *)scratch, *old = (void *)(scratch + 64);
    const char *name;
    memset(old, 0x77, sizeof *old);
    if (!timers[index].is_there || chance(9)) {
        struct sigevent *event = (void *)(scratch + 256);
        memset(event, 0, sizeof *event);
        event->sigev_notify = PICK(SIGEV_SIGNAL, SIGEV_SIGNAL, SIGEV_NONE, 4, SIGEV_THREAD, 3, -1);
        event->sigev_signo = PICK(SIGUSR1, 40, 41, 40, 0, 65);
        event->sigev_value.sival_int = below(100);
        int has_thread = chance(2);
        event->_sigev_un._tid = has_thread ? CALL(gettid) : 4000000;
        int clock = some_clock() & 127, id = -1, kind = event->sigev_notify;
        void *at = pointer(event), *into = pointer_or(&id, 0);
        printf("timer_create(%d, %s notify %d signal %d thread %d, %s)", clock, kind_of(at), event->sigev_notify,
               event->sigev_signo, has_thread, kind_of(into));
        if (success(CALL(timer_create, clock, at, into)) == 0) {
            if (timers[index].is_there)
                CALL(timer_delete, timers[index].id);
            timers[index].id = id;
            timers[index].is_there = 1, timers[index].clock = clock;
            timers[index].kind = at ? kind : SIGEV_SIGNAL;
        }
        return;
    }
    int id = chance(9) ? PICK(-1, 100000) : timers[index].id;
    int is_own = id == timers[index].id;
    void *in = pointer_or(new, 0), *out = pointer(old);
    switch (below(7)) {
    case 0:
    case 1:
        some_time(&new->it_value, &name);
        new->it_interval = (struct timespec){0, PICK(0, 0, 7, 1000000000)};
        int flags = PICK(0, 0, TIMER_ABSTIME, 2);
        if (name[0] == 'l' && flags == TIMER_ABSTIME)
            new->it_value.tv_sec = 1ll << 40;
        /* Of one without a signal that is disarmed, Linux goes on to show what was left. */
        if (name[0] == '0' && timers[index].kind == SIGEV_NONE)
            new->it_value.tv_nsec = 1, name = "soon";
        printf("timer_settime(%s, %d, %s %s interval %ld, %s)", is_own ? "own" : "odd", flags, kind_of(in), name,
               new->it_interval.tv_nsec, kind_of(out));
        if (result(CALL(timer_settime, id, flags, in, out)) == 0 && out == old)
            printf(" %s %ld", old->it_value.tv_sec || old->it_value.tv_nsec ? "ran" : "stood", old->it_interval.tv_nsec);
        break;
    case 2:
        printf("timer_gettime(%s, %s)", is_own ? "own" : "odd", kind_of(in));
        if (result(CALL(timer_gettime, id, in)) == 0)
            printf(" %s %ld", new->it_value.tv_sec || new->it_value.tv_nsec ? "runs" : "stands", new->it_interval.tv_nsec);
        break;
    case 3:
        printf("timer_getoverrun(%s)", is_own ? "own" : "odd");
        result(CALL(timer_getoverrun, id));
        break;
    case 4:
        printf("timer_delete(%s)", is_own ? "own" : "odd");
        if (result(CALL(timer_delete, id)) == 0)
            timers[index].is_there = 0;
        break;
    default:
        if (timers[index].clock != CLOCK_MONOTONIC && timers[index].clock != CLOCK_REALTIME) {
            printf("another clock");
            break;
        }
        if (timers[index].kind == SIGEV_NONE) {
            printf("a timer without a signal");
            break;
        }
        drain();
        if (chance(2)) {
            /* Again and again: one signal, and how many it stands for. */
            *new = (struct itimerspec){.it_value = {0, 1000000}, .it_interval = {0, 1000000}};
            printf("expiries of a timer");
            result(CALL(timer_settime, timers[index].id, 0, new, NULL));
            usleep(5000);
            siginfo_t info = {0};
            struct timespec none = {0};
            int number = sigtimedwait(&ours, &info, &none);
            printf(" signal %d code %d overruns %d", number, info.si_code, number > 0 && info.si_overrun >= 3);
            printf(" %d", number > 0 && info.si_overrun == CALL(timer_getoverrun, timers[index].id));
            *new = (struct itimerspec){0};
            CALL(timer_settime, timers[index].id, 0, new, old);
            printf(" interval %ld overrun %ld", old->it_interval.tv_nsec, (long)CALL(timer_getoverrun, timers[index].id));
            drain();
            break;
        }
        *new = (struct itimerspec){.it_value = {0, 1000000}};
        printf("expiry of a timer");
        result(CALL(timer_settime, timers[index].id, 0, new, NULL));
        show_signal();
    }
}

static void with_descriptors(void) {
    int index = below(4), fd = chance(12) ? PICK(-1, 0, 99) : descriptors[index];
    struct itimerspec *new = (void *)scratch, *old = (void *)(scratch + 64);
    const char *name;
    memset(old, 0x77, sizeof *old);
    void *in = pointer_or(new, 0), *out = pointer(old);
    if (descriptors[index] < 0) {
        int clock = some_clock(), flags = PICK(TFD_NONBLOCK, TFD_NONBLOCK, TFD_NONBLOCK | TFD_CLOEXEC, 1);
        printf("timerfd_create(%d, %x)", clock, flags);
        descriptors[index] = result(CALL(timerfd_create, clock, flags));
        return;
    }
    switch (below(5)) {
    case 0:
    case 1: {
        some_time(&new->it_value, &name);
        new->it_interval = (struct timespec){0, PICK(0, 0, 500000000, 1000000000)};
        int flags = PICK(0, 0, 1, 2, 3, 4);
        if (name[0] == 'l' && flags & 1)
            new->it_value.tv_sec = 1ll << 40;
        printf("timerfd_settime(%s, %d, %s %s interval %ld, %s)", fd == descriptors[index] ? "own" : "odd", flags, kind_of(in),
               name, new->it_interval.tv_nsec, kind_of(out));
        if (result(CALL(timerfd_settime, fd, flags, in, out)) == 0 && out == old)
            printf(" %s %ld", old->it_value.tv_sec || old->it_value.tv_nsec ? "ran" : "stood", old->it_interval.tv_nsec);
        break;
    }
    case 2:
        printf("timerfd_gettime(%s, %s)", fd == descriptors[index] ? "own" : "odd", kind_of(in));
        if (result(CALL(timerfd_gettime, fd, in)) == 0)
            printf(" %s %ld", new->it_value.tv_sec || new->it_value.tv_nsec ? "runs" : "stands", new->it_interval.tv_nsec);
        break;
    case 3: {
        size_t size = PICK(8, 8, 4, 16);
        void *into = pointer_or(scratch, 0);
        printf("read(%s, %s, %zu)", fd == descriptors[index] ? "own" : "odd", kind_of(into), size);
        if (fd != 0)
            result(CALL(read, fd, into, size));
        break;
    }
    default: {
        *new = (struct itimerspec){.it_value = {0, 1000000}};
        struct pollfd row = {descriptors[index], POLLIN};
        CALL(timerfd_settime, descriptors[index], 0, new, NULL);
        printf("expiry of a descriptor");
        result(poll(&row, 1, 2000));
        uint64_t times = 0;
        result(read(descriptors[index], &times, 8));
        printf(" %lu", times);
    }
    }
}

/* Each timer counts as a signal that may be pending. */
static void limit(void) {
    struct rlimit new = {PICK(0, 1, 2, 4, 100, 100), 100};
    printf("RLIMIT_SIGPENDING %ld", (long)new.rlim_cur);
    result(setrlimit(RLIMIT_SIGPENDING, &new));
}

static void step(void) {
    if (chance(30))
        return limit();
    switch (below(10)) {
    case 0:
    case 1: return clocks();
    case 2: return sleeping();
    case 3:
    case 4: return intervals();
    case 5:
    case 6:
    case 7: return created();
    default: return with_descriptors();
    }
}
