/* Random calls about memory in one region, and then what may be done with each of its pages. */
#include "random.h"

#define PAGES 32
#define PAGE 4096
static char *region;
static int memory, ends[2];

static void setup(void) {
    region = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory = syscall(SYS_memfd_create, "memory", 0);
    ftruncate(memory, 8 * PAGE);
    pipe2(ends, O_NONBLOCK);
}

static void finish(void) {}

/* What a call may do with each page: read it (r), write to it (w), nothing (-). */
static void show_pages(void) {
    printf(" [");
    for (int i = 0; i < PAGES; i++) {
        char byte;
        int reads = write(ends[1], region + i * PAGE, 1) == 1;
        if (!reads)
            write(ends[1], "", 1);
        int writes = read(ends[0], region + i * PAGE, 1) == 1;
        if (!writes)
            read(ends[0], &byte, 1);
        printf("%c", writes && reads ? 'w' : writes ? 'W' : reads ? 'r' : '-');
    }
    printf("]");
}

static void show_place(long result_of) {
    if (result_of == -1)
        result(-1);
    else if ((char *)result_of >= region && (char *)result_of < region + PAGES * PAGE)
        printf(" = page %ld", ((char *)result_of - region) / PAGE);
    else
        printf(" = elsewhere");
}

static void step(void) {
    int page = below(PAGES), pages = 1 + below(6);
    if (page + pages > PAGES)
        pages = PAGES - page;
    char *at = region + page * PAGE + (chance(10) ? PICK(1, 8, 4095) : 0);
    size_t len = chance(8) ? PICK(0, 1, 4095, 4097, -1, -4096) : pages * PAGE;
    if ((ssize_t)len > 0 && page * PAGE + len + PAGE > PAGES * PAGE)
        len = PAGE;
    if (page == PAGES - 1 && len > PAGE)
        len = PAGE;
    int prot = PICK(PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_NONE, PROT_READ | PROT_EXEC);
    switch (below(9)) {
    case 0:
    case 1: {
        int flags = MAP_FIXED | PICK(MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS,
                                     MAP_ANONYMOUS, MAP_PRIVATE | MAP_SHARED | MAP_ANONYMOUS,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, MAP_PRIVATE | MAP_ANONYMOUS | 0x100000);
        printf("mmap(%ld, %ld, %d, %x)", at - region, (long)len, prot, flags);
        show_place(CALL(mmap, at, len, prot, flags, -1, 0));
        break;
    }
    case 2: {
        int flags = MAP_FIXED | PICK(MAP_PRIVATE, MAP_PRIVATE, 0), fd = chance(8) ? (chance(2) ? 99 : ends[0]) : memory;
        long offset = PICK(0, 0, PAGE, 2 * PAGE, 1, -PAGE);
        if (len > 4 * PAGE && (ssize_t)len > 0)
            len = 4 * PAGE;
        printf("mmap(%ld, %ld, %d, %x, %s, %ld)", at - region, (long)len, prot, flags, fd == memory ? "file" : "odd", offset);
        show_place(CALL(mmap, at, len, prot, flags, fd, offset));
        break;
    }
    case 3: {
        printf("munmap(%ld, %ld)", at - region, (long)len);
        int done = result(CALL(munmap, at, len));
        /* Nobody else is to get it. */
        if (done == 0)
            mmap(region + page * PAGE, (len + PAGE - 1) / PAGE * PAGE, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        break;
    }
    case 4:
    case 5: {
        int odd = chance(12) ? PICK(0x10, 0x20000000, -1) : prot;
        printf("mprotect(%ld, %ld, %x)", at - region, (long)len, odd);
        result(CALL(mprotect, at, len, odd));
        break;
    }
    case 6: {
        int advice = PICK(MADV_NORMAL, MADV_DONTNEED, MADV_DONTNEED, MADV_WILLNEED, MADV_RANDOM, 99, -1);
        printf("madvise(%ld, %ld, %d)", at - region, (long)len, advice);
        result(CALL(madvise, at, len, advice));
        break;
    }
    case 7: {
        unsigned char *states = (void *)scratch;
        void *into = pointer_or(states, 0);
        printf("mincore(%ld, %ld, %s)", at - region, (long)len, kind_of(into));
        result(CALL(mincore, at, len, into));
        break;
    }
    default: {
        int flags = PICK(MS_SYNC, MS_ASYNC, MS_SYNC | MS_ASYNC, 0x100, 0);
        printf("msync(%ld, %ld, %d)", at - region, (long)len, flags);
        result(CALL(msync, at, len, flags));
    }
    }
    show_pages();
}
