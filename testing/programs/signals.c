/* Handlers: what they are told, where they run, what they may change, and how they return. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile sig_atomic_t got, code, nested;
static void *volatile where;
static char *volatile page;

static void catch(int number, siginfo_t *info, void *context) {
    (void)context;
    got = number;
    code = info->si_code;
    where = info->si_addr;
    siglongjmp(back, 1);
}

static void install(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

#define TRY(what, address, statement)                                                        \
    do {                                                                                     \
        got = code = 0;                                                                      \
        where = (void *)-1;                                                                  \
        if (sigsetjmp(back, 1) == 0) {                                                       \
            statement;                                                                       \
        }                                                                                    \
        printf("%s: signal %d code %d address %s\n", what, got, code,                        \
               where == (void *)(address) ? "right" : "WRONG");                              \
    } while (0)

static int divide(volatile int a, volatile int b) { return a / b; }

static void faults(void) {
    install(SIGSEGV, catch, 0);
    install(SIGBUS, catch, 0);
    install(SIGFPE, catch, 0);
    install(SIGILL, catch, 0);
    page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int sink;
    TRY("write to a read-only page", page + 100, page[100] = 1);
    TRY("read of address 16", 16, sink = *(volatile int *)16);
    TRY("write to address 0", 0, *(volatile int *)0 = 1);
    mprotect(page, 4096, PROT_NONE);
    TRY("read of a PROT_NONE page", page + 8, sink = page[8]);
    munmap(page + 4096, 4096);
    TRY("read of an unmapped page", page + 4096 + 3, sink = page[4096 + 3]);
    TRY("jump to a page that is not executable", page, ((void (*)(void))page)());
    TRY("non-canonical read", 0, sink = *(volatile int *)0x8000000000001000);
    void *ill = &&illegal;
    TRY("ud2", ill, ({ illegal: __asm__ volatile("ud2"); }));
    got = 0;
    if (sigsetjmp(back, 1) == 0)
        sink = divide(1, 0);
    printf("division by zero: signal %d code %d\n", got, code);
    (void)sink;
}

static volatile unsigned long spins;
static void alarm_rings(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    got = number;
}

static void interrupts(void) {
    install(SIGALRM, alarm_rings, 0);
    got = 0;
    struct itimerval soon = {.it_value = {.tv_usec = 30000}};
    works("setitimer", setitimer(ITIMER_REAL, &soon, NULL));
    while (!got)
        spins++;
    printf("a busy loop was interrupted by signal %d\n", got);

    got = 0;
    soon.it_value.tv_usec = 30000;
    setitimer(ITIMER_REAL, &soon, NULL);
    show("pause", pause());
    printf("pause was interrupted by signal %d\n", got);

    got = 0;
    setitimer(ITIMER_REAL, &soon, NULL);
    struct timespec long_time = {.tv_sec = 20}, left = {0};
    show("nanosleep", nanosleep(&long_time, &left));
    holds("some time was left", left.tv_sec == 19);

    int ends[2];
    char byte;
    pipe(ends);
    setitimer(ITIMER_REAL, &soon, NULL);
    show("read of an empty pipe", read(ends[0], &byte, 1));
    close(ends[0]);
    close(ends[1]);
}

static void inner(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    nested = nested * 10 + (number == SIGUSR2 ? 2 : 9);
}

static void outer(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    nested = nested * 10 + 1;
    holds("sent by this process", info->si_code == SI_TKILL || info->si_code == SI_USER);
    holds("its id is in si_pid", info->si_pid == getpid());
    raise(SIGUSR2);
    nested = nested * 10 + 3;
}

static char stack[65536];
static void on_stack(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    char here;
    holds("the handler runs on the alternate stack", &here > stack && &here < stack + sizeof stack);
    stack_t now;
    sigaltstack(NULL, &now);
    holds("SS_ONSTACK is set", now.ss_flags == SS_ONSTACK);
}

static volatile uint64_t resumed_at_rax;
static void edit(int number, siginfo_t *info, void *raw) {
    (void)number, (void)info;
    ucontext_t *context = raw;
    context->uc_mcontext.gregs[REG_RIP] += 2; /* ud2 is two bytes */
    context->uc_mcontext.gregs[REG_RAX] = 0x1234;
}

static void delivery(void) {
    install(SIGUSR1, outer, 0);
    install(SIGUSR2, inner, 0);
    raise(SIGUSR1);
    printf("nested: %d\n", nested);

    nested = 0;
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGUSR2);
    raise(SIGUSR2);
    sigpending(&pending);
    printf("blocked: pending %d, delivered %d\n", sigismember(&pending, SIGUSR2), nested);
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("unblocked: delivered %d\n", nested);

    nested = 0;
    sigprocmask(SIG_BLOCK, &set, NULL);
    union sigval value = {.sival_int = 77};
    sigqueue(getpid(), SIGUSR2, value);
    siginfo_t info = {0};
    struct timespec second = {.tv_sec = 1};
    show("sigtimedwait", sigtimedwait(&set, &info, &second));
    printf("value %d code %d, handled %d times\n", info.si_value.sival_int, info.si_code, nested);
    struct timespec nothing = {0};
    show("sigtimedwait for nothing", sigtimedwait(&set, &info, &nothing));
    sigprocmask(SIG_SETMASK, &old, NULL);

    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    works("sigaltstack", sigaltstack(&alternate, NULL));
    install(SIGUSR1, on_stack, SA_ONSTACK);
    raise(SIGUSR1);

    install(SIGUSR1, inner, SA_RESETHAND);
    nested = 0;
    raise(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    printf("SA_RESETHAND: handled %d, default again %d\n", nested, now.sa_handler == SIG_DFL);

    install(SIGILL, edit, 0);
    uint64_t rax = 1;
    __asm__ volatile("ud2" : "+a"(rax));
    printf("the handler moved on and left %#lx in rax\n", (unsigned long)rax);

    signal(SIGUSR1, SIG_IGN);
    works("an ignored signal", raise(SIGUSR1));
    signal(SIGPIPE, SIG_IGN);
    int ends[2];
    pipe(ends);
    close(ends[0]);
    show("write to a broken pipe", write(ends[1], "x", 1));
    close(ends[1]);

    struct sigaction bad = {.sa_handler = SIG_IGN};
    show("sigaction SIGKILL", sigaction(SIGKILL, &bad, NULL));
    show("kill with signal 0", kill(getpid(), 0));
    show("kill with signal 99", kill(getpid(), 99));
}

static void realtime(int number, siginfo_t *info, void *context) {
    (void)context;
    printf("real-time %d value %d\n", number - SIGRTMIN, info->si_value.sival_int);
}

static void queue(void) {
    sigset_t set, old;
    sigemptyset(&set);
    for (int i = 0; i < 3; i++) {
        struct sigaction action = {.sa_sigaction = realtime, .sa_flags = SA_SIGINFO};
        sigfillset(&action.sa_mask);
        sigaction(SIGRTMIN + i, &action, NULL);
        sigaddset(&set, SIGRTMIN + i);
    }
    sigprocmask(SIG_BLOCK, &set, &old);
    for (int i = 0; i < 6; i++)
        sigqueue(getpid(), SIGRTMIN + i % 3, (union sigval){.sival_int = i});
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void say_code(int number, siginfo_t *info, void *context) {
    (void)context;
    printf("signal %d code %d\n", number, info->si_code);
}

/* Sends to this thread, the only one, what may say that it comes from the kernel. */
static void send_with(int number, int code) {
    siginfo_t info = {.si_signo = number, .si_code = code};
    syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), number, &info);
}

/* Faults are delivered first, in the order in which they came: their handlers run last. */
static void order_of_faults(void) {
    static const int numbers[] = {SIGHUP, SIGILL, SIGFPE, SIGSEGV};
    sigset_t set, some, old;
    sigemptyset(&set);
    for (int i = 0; i < 4; i++) {
        install(numbers[i], say_code, 0);
        sigaddset(&set, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &set, &old);
    send_with(SIGHUP, SI_QUEUE);
    send_with(SIGILL, SI_QUEUE);
    send_with(SIGSEGV, SI_KERNEL);
    send_with(SIGFPE, FPE_INTDIV);
    sigprocmask(SIG_SETMASK, &old, NULL);
    /* One that is let through takes along what is blocked and came from the kernel. */
    sigprocmask(SIG_BLOCK, &set, &old);
    send_with(SIGILL, SI_QUEUE);
    send_with(SIGSEGV, SI_KERNEL);
    send_with(SIGFPE, SI_QUEUE);
    some = old;
    sigaddset(&some, SIGSEGV);
    sigaddset(&some, SIGFPE);
    sigprocmask(SIG_SETMASK, &some, NULL);
    printf("and then\n");
    sigprocmask(SIG_SETMASK, &old, NULL);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    faults();
    interrupts();
    delivery();
    queue();
    order_of_faults();
    return 0;
}
