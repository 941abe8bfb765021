/* Random calls about signals: actions, masks, sending, waiting, alternate stacks. */
#include "random.h"
#include <sys/signalfd.h>
#include <time.h>
#include <ucontext.h>

static int descriptor = -1;

/* The kernel's struct sigaction. */
struct action {
    uint64_t handler, flags, restorer, mask;
};

static char stacks[2][16384];

static void setup(void) {
    aside = stacks[0], aside_end = stacks[0] + sizeof stacks;
    for (int number = 1; number <= 64; number++)
        if (number != SIGKILL && number != SIGSTOP)
            catch_signal(number, 0);
    /* The C library keeps two for itself, and ignores them in what it spawns. */
    struct action same;
    CALL(rt_sigaction, SIGUSR1, NULL, &same, 8);
    CALL(rt_sigaction, 32, &same, NULL, 8);
    CALL(rt_sigaction, 33, &same, NULL, 8);
}

static void finish(void) {}

static int signal_number(void) {
    if (chance(30))
        return PICK(0, -1, 65, 66, 1 << 20, 32, 33);
    return PICK(SIGUSR1, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSEGV, SIGFPE, SIGTSTP, SIGPIPE,
                SIGHUP, SIGALRM, 34, 35, 36, 64);
}

static int is_harmless(int number) {
    return number == SIGCHLD || number == SIGCONT || number == SIGURG || number == SIGWINCH || number == SIGTSTP;
}

/* A set of few signals; now and then one of many. */
static uint64_t set_of(void) {
    uint64_t set = 0;
    if (chance(10))
        return chance(2) ? ~0ull : 0x0f0f0f0f0f0f0f0f;
    for (int i = below(4); i >= 0; i--) {
        int number = signal_number();
        if (number >= 1 && number <= 64)
            set |= 1ull << (number - 1);
    }
    return set;
}

static void action(void) {
    int number = signal_number();
    struct action now, *new = (void *)scratch, *old = (void *)(scratch + 256);
    memset(old, 0, sizeof *old);
    if (CALL(rt_sigaction, SIGUSR1, NULL, &now, 8) != 0)
        printf("broken ");
    *new = now;
    static uint64_t handler, restorer;
    if (!handler) {
        /* SIGWINCH still has the C library's own restorer and our handler. */
        CALL(rt_sigaction, 34, NULL, &now, 8);
        handler = (uint64_t)on_signal, restorer = now.restorer;
    }
    new->handler = is_harmless(number) || chance(30) ? PICK(0, 1, 2) : PICK(1, 2, 2);
    int what = new->handler;
    if (what == 2)
        new->handler = handler;
    new->restorer = restorer;
    new->flags = 0x04000004 | (chance(3) ? PICK(SA_NODEFER, SA_RESETHAND, SA_RESTART, SA_ONSTACK, SA_NOCLDSTOP, SA_NOCLDWAIT,
                                                0x400, 0x800, SA_NODEFER | SA_RESETHAND)
                                         : 0);
    new->mask = chance(3) ? set_of() : 0;
    size_t size = chance(20) ? PICK(0, 4, 16) : 8;
    void *in = pointer(new), *out = pointer(old);
    printf("rt_sigaction(%d, %s handler %d flags %lx mask %lx, %s, %zu)", number, kind_of(in), what,
           (unsigned long)new->flags & ~0x04000000, (unsigned long)new->mask, kind_of(out), size);
    if (success(CALL(rt_sigaction, number, in, out, size)) == 0 && out == old)
        printf(" old handler %s flags %lx mask %lx",
               old->handler == handler ? "ours" : old->handler == 0 ? "default" : old->handler == 1 ? "ignore" : "odd",
               (unsigned long)old->flags & ~0x04000000, (unsigned long)old->mask);
}

static void mask(void) {
    uint64_t *new = (void *)scratch, *old = (void *)(scratch + 64);
    *new = set_of();
    *old = 0x5555;
    int how = chance(20) ? PICK(-1, 3, 99) : PICK(SIG_BLOCK, SIG_UNBLOCK, SIG_UNBLOCK, SIG_SETMASK);
    size_t size = chance(20) ? PICK(0, 4, 16) : 8;
    void *in = pointer(new), *out = pointer(old);
    printf("rt_sigprocmask(%d, %s %lx, %s, %zu)", how, kind_of(in), (unsigned long)*new, kind_of(out), size);
    if (success(CALL(rt_sigprocmask, how, in, out, size)) == 0 && out == old)
        printf(" old %lx", (unsigned long)*old);
}

static uint64_t blocked(void) {
    uint64_t set = 0;
    CALL(rt_sigprocmask, SIG_BLOCK, NULL, &set, 8);
    return set;
}

static uint64_t pending(void) {
    uint64_t set = 0;
    CALL(rt_sigpending, &set, 8);
    return set;
}

static void show_pending(void) {
    uint64_t *into = (void *)scratch;
    *into = 0;
    size_t size = PICK(8, 8, 8, 8, 4, 0, 9);
    void *out = pointer_or(into, 0);
    printf("rt_sigpending(%s, %zu)", kind_of(out), size);
    success(CALL(rt_sigpending, out, size));
    printf(" %lx", (unsigned long)*into);
}

static int whom(const char **name) {
    switch (below(20)) {
    case 0: return *name = "nobody", 4000000;
    case 1: return *name = "-1000000", -1000000;
    case 2: return *name = "INT_MIN", (int)0x80000000;
    case 3: return *name = "group", 0;
    case 4: return *name = "-group", -getpid();
    default: return *name = "self", getpid();
    }
}

static void send(void) {
    const char *name;
    int to = whom(&name), number = signal_number();
    switch (below(7)) {
    case 0:
    case 1:
        printf("kill(%s, %d)", name, number);
        success(CALL(kill, to, number));
        break;
    case 2:
        printf("tkill(%s, %d)", name, number);
        success(CALL(tkill, to, number));
        break;
    case 3: {
        const char *second;
        int thread = whom(&second);
        printf("tgkill(%s, %s, %d)", name, second, number);
        success(CALL(tgkill, to, thread, number));
        break;
    }
    default: {
        siginfo_t *info = (void *)scratch;
        memset(info, 0, sizeof *info);
        info->si_signo = chance(4) ? 5 : number;
        info->si_code = chance(6) ? PICK(SI_USER, SI_TKILL, SI_KERNEL, SI_TIMER, SI_ASYNCIO, -77, 3) : SI_QUEUE;
        info->si_pid = getpid();
        info->si_value.sival_int = (int)below(100);
        int code = info->si_code, value = info->si_value.sival_int;
        void *in = pointer(info);
        if (chance(2)) {
            printf("rt_sigqueueinfo(%s, %d, %s code %d value %d)", name, number, kind_of(in), code, value);
            success(CALL(rt_sigqueueinfo, to, number, in));
        } else {
            printf("rt_tgsigqueueinfo(%s, %s, %d, %s code %d value %d)", name, name, number, kind_of(in), code, value);
            success(CALL(rt_tgsigqueueinfo, to, to, number, in));
        }
    }
    }
}

static void wait_for_one(void) {
    uint64_t *set = (void *)scratch;
    struct timespec *time = (void *)(scratch + 64);
    siginfo_t *info = (void *)(scratch + 128);
    memset(info, 0, sizeof *info);
    *set = chance(2) ? pending() | set_of() : set_of();
    *time = (struct timespec){0, chance(8) ? PICK(-1, 1000000000, 1) : 0};
    if (chance(20))
        time->tv_sec = -1;
    size_t size = chance(20) ? PICK(0, 4, 16) : 8;
    void *in = pointer_or(set, 0), *out = pointer(info), *when = pointer_or(time, 0);
    printf("rt_sigtimedwait(%s %lx, %s, %s %ld.%ld, %zu)", kind_of(in), (unsigned long)*set, kind_of(out), kind_of(when),
           (long)time->tv_sec, (long)time->tv_nsec, size);
    if (result(CALL(rt_sigtimedwait, in, out, when, size)) > 0 && out == info)
        printf(" number %d code %d value %d %s", info->si_signo, info->si_code,
               info->si_code == SI_QUEUE ? info->si_value.sival_int : 0, info->si_pid == getpid() ? "own" : "");
}

/* Only when something pending would be let through, else nobody would end it. */
static void suspend(void) {
    uint64_t *set = (void *)scratch, waiting = pending();
    *set = set_of() & ~waiting;
    if (!waiting || chance(4)) {
        size_t size = PICK(0, 4, 16);
        printf("rt_sigsuspend(%lx, %zu)", (unsigned long)*set, size);
        result(CALL(rt_sigsuspend, set, size));
        return;
    }
    printf("rt_sigsuspend(%lx, 8)", (unsigned long)*set);
    struct action now;
    for (int number = 1; number <= 64; number++)
        if (waiting >> (number - 1) & 1) {
            CALL(rt_sigaction, number, NULL, &now, 8);
            if (now.handler < 2) {
                printf(" not now");
                return;
            }
        }
    result(CALL(rt_sigsuspend, set, 8));
    printf(" mask %lx", (unsigned long)blocked());
}

/* How much of a stack a handler needs depends on the processor: the smallest (2048) may be too small. */
static void alternate(void) {
    stack_t *new = (void *)scratch, *old = (void *)(scratch + 64);
    memset(old, 0, sizeof *old);
    *new = (stack_t){.ss_sp = stacks[below(2)],
                     .ss_flags = chance(3) ? PICK(SS_DISABLE, SS_ONSTACK, 1u << 31, 3, 4, SS_DISABLE | (int)(1u << 31)) : 0,
                     .ss_size = chance(4) ? PICK(0, 100, 2047) : 16384};
    int flags = new->ss_flags, size = new->ss_size;
    void *in = pointer(new), *out = pointer(old);
    printf("sigaltstack(%s flags %x size %d, %s)", kind_of(in), flags, size, kind_of(out));
    if (success(CALL(sigaltstack, in, out)) == 0 && out == old)
        printf(" old %s flags %x size %zu", old->ss_sp == stacks[0] ? "0" : old->ss_sp == stacks[1] ? "1" : "?",
               old->ss_flags, old->ss_size);
}

static void through_descriptor(void) {
    uint64_t *set = (void *)scratch;
    struct signalfd_siginfo *info = (void *)(scratch + 64);
    if (chance(2)) {
        *set = set_of();
        int fd = chance(12) ? PICK(-1, 1, 77, -2) : descriptor;
        int flags = chance(8) ? PICK(1, SFD_CLOEXEC, 0x10) : SFD_NONBLOCK;
        size_t size = chance(20) ? PICK(0, 4, 16) : 8;
        void *in = pointer_or(set, 0);
        if (fd == -1)
            flags |= SFD_NONBLOCK;
        printf("signalfd4(%d, %s %lx, %zu, %x)", fd, kind_of(in), (unsigned long)*set, size, flags);
        long made = result(CALL(signalfd4, fd, in, size, flags));
        if (made >= 0)
            descriptor = made;
    } else if (descriptor >= 0) {
        size_t size = PICK(128, 128, 256, 512, 127, 0, 130);
        memset(info, 0, 512);
        void *into = pointer_or(info, 0);
        printf("read(signalfd, %s, %zu)", kind_of(into), size);
        long got = result(CALL(read, descriptor, into, size));
        for (long i = 0; i < got / 128 && into == info; i++)
            printf(" (%u code %d value %d %s)", info[i].ssi_signo, info[i].ssi_code,
                   info[i].ssi_code == SI_QUEUE ? info[i].ssi_int : 0, info[i].ssi_pid == (uint32_t)getpid() ? "own" : "");
    }
}

/* How many signals the user may have pending. */
static void limit(void) {
    struct rlimit new = {PICK(0, 1, 3, 5, 1000, 1000), 1000};
    printf("RLIMIT_SIGPENDING %ld", (long)new.rlim_cur);
    result(setrlimit(RLIMIT_SIGPENDING, &new));
}

/* Handlers that interrupt each other, and what a handler may change of what it returns to. */
static volatile int depth;
static uint64_t left_mask;

static void nested(int number, siginfo_t *info, void *context) {
    ucontext_t *frame = context;
    depth++;
    printf(" (%d depth %d mask %lx", number, depth, (unsigned long)*(uint64_t *)&frame->uc_sigmask);
    if (depth < 4 && info->si_value.sival_int > 0)
        sigqueue(getpid(), 34 + depth % 3, (union sigval){.sival_int = info->si_value.sival_int - 1});
    *(uint64_t *)&frame->uc_sigmask ^= left_mask;
    printf(" %d)", seen_count);
    depth--;
}

static void nest(void) {
    struct sigaction old[3], action = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO | PICK(0, 0, SA_NODEFER, SA_ONSTACK)};
    uint64_t before = blocked(), mask = before | 0x7ull << 33, open = before & ~(0x7ull << 33);
    left_mask = chance(3) ? 1ull << (35 + below(3)) : 0;
    printf("nested handlers %x", action.sa_flags);
    CALL(rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
    for (int i = 0; i < 3; i++) {
        sigemptyset(&action.sa_mask);
        if (chance(3))
            sigaddset(&action.sa_mask, 34 + below(3));
        sigaction(34 + i, &action, &old[i]);
    }
    for (int i = 1 + below(4); i > 0; i--)
        if (sigqueue(getpid(), 34 + below(3), (union sigval){.sival_int = below(3)}) != 0)
            printf(" %s", errno_name(errno));
    depth = 0;
    CALL(rt_sigprocmask, SIG_SETMASK, &open, NULL, 8);
    printf(" mask %lx", (unsigned long)blocked());
    for (int i = 0; i < 3; i++)
        sigaction(34 + i, &old[i], NULL);
    left_mask = 0;
    CALL(rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
    result(0);
}

static void step(void) {
    switch (below(18)) {
    case 0:
    case 1:
    case 2: return action();
    case 3:
    case 4:
    case 5: return mask();
    case 6: return show_pending();
    case 7: return wait_for_one();
    case 8: return suspend();
    case 9: return alternate();
    case 10: return through_descriptor();
    case 11: return nest();
    case 12: return chance(3) ? limit() : send();
    default: return send();
    }
}
