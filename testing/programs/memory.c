/* The address space: what is mapped, what is enforced, what is kept and what is free of charge. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile sig_atomic_t number, code, is_probing;

static void catch(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    number = signal_number;
    code = info->si_code;
    if (!is_probing) {
        printf("unexpected: signal %d code %d\n", number, code);
        _exit(99);
    }
    siglongjmp(back, 1);
}

/* Says how reading and writing a byte end. */
static void probe(const char *what, volatile char *at) {
    char text[2][32];
    for (int writes = 0; writes < 2; writes++) {
        number = code = 0;
        is_probing = 1;
        if (sigsetjmp(back, 1) == 0) {
            char byte = *at;
            if (writes)
                *at = byte;
        }
        is_probing = 0;
        if (number)
            snprintf(text[writes], sizeof text[0], "signal %d code %d", number, code);
        else
            strcpy(text[writes], "ok");
    }
    printf("%s: read %s, write %s\n", what, text[0], text[1]);
}

static int is_zero(const char *from, size_t length) {
    for (size_t i = 0; i < length; i += 512)
        if (from[i])
            return 0;
    return 1;
}

static void mappings(void) {
    size_t page = 4096;
    char *area = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    holds("anonymous memory is zero", is_zero(area, 8 * page));
    memset(area, 7, 8 * page);
    works("mprotect read-only", mprotect(area + page, page, PROT_READ));
    works("mprotect none", mprotect(area + 2 * page, page, PROT_NONE));
    works("munmap", munmap(area + 3 * page, page));
    probe("page 0", area);
    probe("page 1", area + page);
    probe("page 2", area + 2 * page);
    probe("page 3", area + 3 * page);
    probe("page 4", area + 4 * page);
    works("mprotect back", mprotect(area + 2 * page, page, PROT_READ | PROT_WRITE));
    holds("what PROT_NONE hid is still there", area[2 * page] == 7);
    works("mprotect over a hole", mprotect(area, 8 * page, PROT_READ | PROT_WRITE));

    char *fixed = mmap(area + 3 * page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    holds("MAP_FIXED fills the hole", fixed == area + 3 * page && *fixed == 0);
    mmap(area + 4 * page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    holds("MAP_FIXED replaces what was there", area[4 * page] == 0 && area[5 * page] == 7);
    void *taken = mmap(area, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    show("MAP_FIXED_NOREPLACE where something is", taken == MAP_FAILED ? -1 : 0);

    works("madvise DONTNEED", madvise(area + 5 * page, page, MADV_DONTNEED));
    holds("and it is zero again", is_zero(area + 5 * page, page));
    show("mmap of nothing", mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
    show("mmap without a kind", mmap(NULL, page, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
    show("mmap of a bad descriptor", mmap(NULL, page, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED ? -1 : 0);
    show("munmap of an odd address", munmap(area + 1, page));
    show("munmap of nothing", munmap(area, 0));
    show("mprotect of an odd address", mprotect(area + 1, page, PROT_READ));
    show("madvise with nonsense", madvise(area, page, 9999));
    show("msync", msync(area, page, MS_SYNC));
    works("munmap all", munmap(area, 8 * page));
    works("munmap again", munmap(area, 8 * page));
}

static void remap(void) {
    size_t page = 4096;
    char *area = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 16; i++)
        area[i * page] = (char)i;
    holds("mremap shrinks in place", mremap(area, 16 * page, 8 * page, 0) == area);
    probe("what was cut off", area + 8 * page);
    char *other = mmap(NULL, 8 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *grown = mremap(area, 8 * page, 2048 * page, MREMAP_MAYMOVE);
    holds("mremap grows", grown != MAP_FAILED && grown[7 * page] == 7 && grown[2047 * page] == 0);
    char *moved = mremap(grown, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, other);
    holds("mremap moves to a place", moved == other && *moved == 0);
    *moved = 5;
    char *second = mremap(moved, page, page, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, NULL);
    holds("mremap leaves an empty one", second != MAP_FAILED && second != moved && *second == 5 && *moved == 0);
    if (second != MAP_FAILED)
        munmap(second, page);
    probe("where it was", grown);
    show("mremap of what is not mapped", mremap(grown, page, 2 * page, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
}

static void files(const char *folder) {
    char path[256];
    snprintf(path, sizeof path, "%s/mapped", folder);
    FILE *file = fopen(path, "w+");
    for (int i = 0; i < 3000; i++)
        fprintf(file, "%07d\n", i);
    fflush(file);
    int fd = fileno(file);
    char *whole = mmap(NULL, 24000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("mapped: %.7s and %.7s\n", whole + 8 * 5, whole + 8 * 2999);
    holds("past the end of the file is zero", whole[24000] == 0 && whole[24575] == 0);
    memcpy(whole, "changed", 7);
    char text[8] = {0};
    pread(fd, text, 7, 0);
    printf("a private change stays private: %s\n", text);
    char *tail = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 4096);
    printf("from an offset: %.7s\n", tail);
    char *beyond = mmap(NULL, 4096 * 8, PROT_READ, MAP_PRIVATE, fd, 0);
    probe("a page past the end of the file", beyond + 4096 * 7);
    show("an odd offset", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 100) == MAP_FAILED ? -1 : 0);
    fclose(file);
    printf("mapped after close: %.7s\n", tail);
}

static void heap(void) {
    /* By number: musl has no sbrk. */
    char *start = (char *)syscall(SYS_brk, 0), *end = start + (1 << 20);
    if (syscall(SYS_brk, end) == (long)end) {
        holds("brk grows", 1);
        end[-1] = 2;
        holds("brk shrinks", syscall(SYS_brk, end - (1 << 19)) == (long)(end - (1 << 19)));
        syscall(SYS_brk, end);
        holds("memory that comes back is zero", end[-1] == 0);
        syscall(SYS_brk, start);
        holds("brk shows where it is when it refuses", syscall(SYS_brk, 1) == (long)start);
    }
    void **blocks = calloc(1000, sizeof *blocks);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 1000; i++) {
            free(blocks[i]);
            size_t size = (size_t)(i * 37 % 5000 + 1) * (round + 1);
            blocks[i] = malloc(size);
            memset(blocks[i], i, size);
        }
    }
    int sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += *(unsigned char *)blocks[i];
    printf("malloc churn: %d\n", sum);
}

static long resident_kib(void) {
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%ld %ld", &size, &resident) != 2)
        resident = -1;
    if (file)
        fclose(file);
    return resident * 4;
}

static void reserve(void) {
    size_t size = (size_t)32 << 30;
    char *area = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    holds("32 GiB can be reserved", area != MAP_FAILED);
    works("a page of it can be used", mprotect(area + (size / 2), 4096, PROT_READ | PROT_WRITE));
    area[size / 2] = 1;
    probe("the next one cannot", area + size / 2 + 4096);
    holds("it costs nothing", resident_kib() < 100 * 1024);
    works("and goes away", munmap(area, size));
    show("more than there is", mmap(NULL, (size_t)1 << 50, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
}

static void code_pages(void) {
    /* mov eax, 1234; ret */
    static const unsigned char code_bytes[] = {0xb8, 0xd2, 0x04, 0, 0, 0xc3};
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code_bytes, sizeof code_bytes);
    works("mprotect executable", mprotect(page, 4096, PROT_READ | PROT_EXEC));
    printf("code made at run time: %d\n", ((int (*)(void))page)());
    probe("executable and not writable", (volatile char *)page);
    /* mov eax, 39 (getpid); syscall; ret */
    static const unsigned char call_bytes[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    memcpy(page, call_bytes, sizeof call_bytes);
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    holds("a system call made at run time", ((int (*)(void))page)() == getpid());
}

static void shared(void) {
    int *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    holds("shared anonymous memory", words != MAP_FAILED && words[5] == 0);
    words[5] = 6;
    printf("and it is memory: %d\n", words[5]);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    struct sigaction action = {.sa_sigaction = catch, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    mappings();
    remap();
    files(argc > 1 ? argv[1] : "/tmp");
    heap();
    reserve();
    code_pages();
    shared();
    return 0;
}
