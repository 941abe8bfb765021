/* Registers survive: general and vector registers over system calls, faults and signals; the red zone over signals. */
#include "check.h"
#include <cpuid.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static void destroy(int number) {
    (void)number;
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroall" ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                         "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void skip(int number, siginfo_t *info, void *raw) {
    (void)info;
    destroy(number);
    ((ucontext_t *)raw)->uc_mcontext.gregs[REG_RIP] += 2;
}

/* All general registers but rax, rcx, r11 and rsp around a call; returns a mask of those that changed. */
static uint64_t general(long number) {
    uint64_t changed;
    __asm__ volatile("push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14; push %%r15\n"
                     "mov $0x1111, %%rbx; mov $0x2222, %%rbp; mov $0x3333, %%r12; mov $0x4444, %%r13\n"
                     "mov $0x5555, %%r14; mov $0x6666, %%r15; mov $0, %%rdi; mov $0, %%rsi; mov $0x7777, %%rdx\n"
                     "mov $0x8888, %%r8; mov $0x9999, %%r9; mov $0xaaaa, %%r10\n"
                     "syscall\n"
                     "xor $0x1111, %%rbx; xor $0x2222, %%rbp; or %%rbp, %%rbx; xor $0x3333, %%r12; or %%r12, %%rbx\n"
                     "xor $0x4444, %%r13; or %%r13, %%rbx; xor $0x5555, %%r14; or %%r14, %%rbx\n"
                     "xor $0x6666, %%r15; or %%r15, %%rbx; or %%rdi, %%rbx; or %%rsi, %%rbx\n"
                     "xor $0x7777, %%rdx; or %%rdx, %%rbx; xor $0x8888, %%r8; or %%r8, %%rbx\n"
                     "xor $0x9999, %%r9; or %%r9, %%rbx; xor $0xaaaa, %%r10; or %%r10, %%rbx; mov %%rbx, %%rax\n"
                     "pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbp; pop %%rbx\n"
                     : "=a"(changed)
                     : "a"(number)
                     : "rdi", "rsi", "rdx", "r8", "r9", "r10", "rcx", "r11", "memory", "cc");
    return changed;
}

static uint64_t red_zone(uint64_t value) {
    uint64_t result;
    __asm__ volatile("mov %1, -64(%%rsp); mov %1, -128(%%rsp)\n"
                     "ud2\n"
                     "mov -64(%%rsp), %0; and -128(%%rsp), %0\n"
                     : "=&r"(result)
                     : "r"(value)
                     : "memory");
    return result;
}

static uint64_t red_zone_over_call(uint64_t value) {
    uint64_t result;
    __asm__ volatile("mov %1, -8(%%rsp); mov %1, -128(%%rsp)\n"
                     "mov $39, %%eax; syscall\n"
                     "mov -8(%%rsp), %0; and -128(%%rsp), %0\n"
                     : "=&r"(result)
                     : "r"(value)
                     : "rax", "rcx", "r11", "memory");
    return result;
}

static uint64_t flags_over_call(void) {
    uint64_t flags;
    __asm__ volatile("std; stc\n mov $39, %%eax; syscall\n pushfq; pop %0; cld" : "=r"(flags)::"rax", "rcx", "r11", "cc", "memory");
    return flags & 0x401;
}

/* Every combination of the status flags is the program's again after a call. */
static int status_flags_over_a_call(void) {
    static const uint64_t bit[] = {0x001, 0x004, 0x010, 0x040, 0x080, 0x800};
    for (int set = 0; set < 64; set++) {
        uint64_t before = 0x202, after;
        for (int i = 0; i < 6; i++)
            before |= set >> i & 1 ? bit[i] : 0;
        __asm__ volatile("lea -128(%%rsp), %%rsp; push %1; popfq; mov $39, %%eax; syscall; pushfq; pop %0; lea 128(%%rsp), %%rsp"
                         : "=&r"(after) : "r"(before) : "rax", "rcx", "r11", "cc", "memory");
        if ((after & 0xcd5) != (before & 0xcd5))
            return 0;
    }
    return 1;
}

/* r11 has the flags and rcx the next instruction, as after `syscall`. */
static int rcx_r11(void) {
    uint64_t rcx, r11, next, flags;
    __asm__ volatile("lea 1f(%%rip), %2; pushfq; pop %3; mov $39, %%eax; syscall\n1: mov %%rcx, %0; mov %%r11, %1"
                     : "=&r"(rcx), "=&r"(r11), "=&r"(next), "=&r"(flags)::"rax", "rcx", "r11", "memory");
    return rcx == next && (r11 & 0x8d5) == (flags & 0x8d5);
}

__attribute__((target("avx"))) static int wide(void (*event)(void)) {
    static uint8_t before[16][32] __attribute__((aligned(32))), after[16][32] __attribute__((aligned(32)));
    for (int i = 0; i < 512; i++)
        ((uint8_t *)before)[i] = (uint8_t)(i * 7 + 1);
    __asm__ volatile("vmovdqa 0(%0), %%ymm0; vmovdqa 32(%0), %%ymm1; vmovdqa 224(%0), %%ymm7; vmovdqa 480(%0), %%ymm15\n"
                     "sub $256, %%rsp; push %1; call *%2; pop %1; add $256, %%rsp\n"
                     "vmovdqa %%ymm0, 0(%1); vmovdqa %%ymm1, 32(%1); vmovdqa %%ymm7, 224(%1); vmovdqa %%ymm15, 480(%1)\n" ::"b"(before),
                     "r"((uint8_t *)after), "r"(event)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1", "xmm7", "xmm15");
    return !memcmp(before[0], after[0], 32) && !memcmp(before[1], after[1], 32) && !memcmp(before[7], after[7], 32) &&
           !memcmp(before[15], after[15], 32);
}

__attribute__((naked)) static void by_call(void) { __asm__("mov $39, %eax; syscall; ret"); }
__attribute__((naked)) static void by_fault(void) { __asm__("ud2; ret"); }

static volatile int ticks;
static void tick(int number) {
    destroy(number);
    ticks++;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    holds("general registers over getpid", general(SYS_getpid) == 0);
    holds("general registers over sched_yield", general(SYS_sched_yield) == 0);
    holds("general registers over a call that is not there", general(5000) == 0);
    holds("the red zone over a signal", red_zone(0x1234567890abcdef) == 0x1234567890abcdef);
    holds("the red zone over a call", red_zone_over_call(0xfedcba0987654321) == 0xfedcba0987654321);
    holds("all status flags over a call", status_flags_over_a_call());
    holds("direction and carry flags over a call", flags_over_call() == 0x401);
    holds("rcx and r11 after a call", rcx_r11());
    if (__builtin_cpu_supports("avx")) {
        holds("ymm registers over a call", wide(by_call));
        holds("ymm registers over a signal", wide(by_fault));
    }
    uint32_t mxcsr = 0x7f80, got = 0; /* round towards zero */
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    getpid();
    syscall(SYS_getppid);
    __asm__ volatile("ud2; stmxcsr %0" : "=m"(got));
    printf("mxcsr: %#x\n", got & 0x7fc0);
    mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));

    /* Arithmetic under a storm of timer signals. */
    signal(SIGALRM, tick);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = 1000}, .it_interval = {.tv_usec = 1000}}, NULL);
    double sum = 0;
    uint64_t hash = 1469598103934665603u;
    for (uint64_t i = 1; i <= 60000000; i++) {
        sum += 1.0 / (double)i;
        hash = (hash ^ i) * 1099511628211u;
    }
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    printf("sum %.12f hash %lx\n", sum, (unsigned long)hash);
    holds("signals came", ticks > 3);
    return 0;
}
