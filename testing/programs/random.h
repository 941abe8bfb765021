/* Random sequences of system calls that a seed decides: the same calls natively and in an enclave, whose results must be the
 * same. Each program of a family (random_*.c) defines `step`, which makes one call and prints it with its result.
 *
 * Nothing that is printed depends on ids, addresses or times. Every sequence runs in a forked child that leads a session
 * and has no privileges, so both worlds start from the same state; how the child ends or stops is part of the result. */
#include "check.h"
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t random_state;

/* A number below `count`. */
static uint32_t below(uint32_t count) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1d >> 32) * count >> 32);
}

static int chance(uint32_t one_in) { return below(one_in) == 0; }

#define PICK(...)                                                                            \
    ({                                                                                       \
        const int64_t from[] = {__VA_ARGS__};                                                \
        from[below(sizeof from / sizeof *from)];                                             \
    })

/* Memory that calls may use, and memory that they may not. */
static char *scratch, *closed;

/* Mostly `good`, else an address that a call must refuse, or null. */
static void *pointer_or(void *good, int null_too) {
    if (!chance(12))
        return good;
    switch (below(null_too ? 4 : 3)) {
    case 0: return (void *)8;
    case 1: return closed;
    case 2: return (void *)0xffff800000000000;
    default: return NULL;
    }
}

static void *pointer(void *good) { return pointer_or(good, 1); }

static const char *kind_of(const void *address) {
    if (address == NULL)
        return "null";
    if (address == (void *)8 || address == closed || (int64_t)address < 0)
        return "bad";
    return "ok";
}

/* What handlers saw since the last line. */
static struct {
    int number, code, value, is_own, is_aside;
} seen[256];
static volatile int seen_count;
/* Where alternate stacks are. */
static const char *aside, *aside_end;

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    int index = seen_count;
    if (index >= 256)
        return;
    seen[index].number = number;
    seen[index].code = info->si_code;
    seen[index].value = info->si_value.sival_int;
    seen[index].is_own = info->si_pid == getpid();
    seen[index].is_aside = (const char *)&index >= aside && (const char *)&index < aside_end;
    seen_count = index + 1;
}

static int line_number;

/* Ends the line of a call: its result, and the signals that handlers saw meanwhile. */
static long result(long value) {
    int error = errno;
    if (value == -1)
        printf(" = %s", errno_name(error));
    else
        printf(" = %ld", value);
    for (int i = 0; i < seen_count; i++) {
        printf(" [%d code %d", seen[i].number, seen[i].code);
        if (seen[i].code == SI_QUEUE)
            printf(" value %d", seen[i].value);
        if (seen[i].code == SI_USER || seen[i].code == SI_TKILL || seen[i].code == SI_QUEUE)
            printf("%s", seen[i].is_own ? " own" : " another's");
        printf("%s]", seen[i].is_aside ? " aside" : "");
    }
    seen_count = 0;
    errno = error;
    return value;
}

/* The same for a result that is no number of its own: a descriptor that may be any, an id, an address. */
static long success(long value) {
    int error = errno;
    result(value == -1 ? -1 : 0);
    errno = error;
    return value;
}

#define CALL(name, ...)                                                                      \
    ({                                                                                       \
        errno = 0;                                                                           \
        syscall(SYS_##name, ##__VA_ARGS__);                                                  \
    })

/* Catches a signal, with flags besides SA_SIGINFO. */
static void catch_signal(int number, int flags) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags};
    sigaction(number, &action, NULL);
}

static void setup(void);
static void step(void);
/* What a sequence leaves behind that outlives it; some families have nothing. */
static void finish(void);

static void sequence(uint64_t seed, int steps) {
    setsid();
    scratch = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    closed = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    syscall(SYS_close_range, 3, ~0u, 0);
    struct rlimit files = {256, 512}, none = {0, 0};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_CORE, &none);
    setpriority(PRIO_PROCESS, 0, 10);
    /* A user of its own: some limits count what all processes of a user have. */
    int id = 10000 + getpid() % 50000;
    setresgid(id, id, id);
    setresuid(id, id, id);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    setup();
    for (int i = 0; i < steps; i++) {
        /* Each call has its own start, so that one that differs does not make all later ones differ. */
        random_state = (seed << 20 | ++line_number) * 0x9e3779b97f4a7c15;
        below(2);
        printf("%d.%d ", (int)seed, line_number);
        step();
        printf("\n");
        fflush(stdout);
    }
    finish();
}

/* Arguments: the number of calls of a sequence, then seeds. */
int main(int count, char **arguments) {
    int steps = atoi(arguments[1]);
    for (int i = 2; i < count; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            sequence(strtoull(arguments[i], NULL, 10), steps);
            fflush(stdout);
            _exit(0);
        }
        for (int status;;) {
            if (waitpid(child, &status, WUNTRACED) != child) {
                printf("waitpid: %s\n", errno_name(errno));
                break;
            }
            if (!WIFSTOPPED(status)) {
                printf("\n%s: the end %x\n", arguments[i], status);
                break;
            }
            printf("\n%s: stopped by %d\n", arguments[i], WSTOPSIG(status));
            fflush(stdout);
            kill(child, SIGCONT);
        }
    }
    return 0;
}
