/* Files of memfd_create and their seals. */
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 16
#endif

static void map(const char *what, int fd, int prot, int flags) {
    void *at = mmap(NULL, 4096, prot, flags, fd, 0);
    printf("%s: %s\n", what, at == MAP_FAILED ? errno_name(errno) : "ok");
    if (at != MAP_FAILED)
        munmap(at, 4096);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    int plain = memfd_create("plain", 0);
    show("not sealable", fcntl(plain, F_GET_SEALS));
    show("add one", fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    int file = memfd_create("sealable", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    show("none yet", fcntl(file, F_GET_SEALS));
    show("write", write(file, "0123456789", 10));
    show("unknown", fcntl(file, F_ADD_SEALS, 1024));
    show("shrink", fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK));
    show("make shorter", ftruncate(file, 5));
    show("make longer", ftruncate(file, 20));
    show("grow", fcntl(file, F_ADD_SEALS, F_SEAL_GROW));
    show("make longer", ftruncate(file, 30));
    show("the same", ftruncate(file, 20));
    show("write beyond", pwrite(file, "x", 1, 20));
    show("write within", pwrite(file, "x", 1, 19));
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    show("mapped to write", fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
    show("future writes", fcntl(file, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    shared[0] = 'X';
    show("write", pwrite(file, "x", 1, 0));
    map("another mapping to write", file, PROT_READ | PROT_WRITE, MAP_SHARED);
    map("a private one", file, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    munmap(shared, 4096);
    show("writes", fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
    show("seals", fcntl(file, F_GET_SEALS));
    map("to read", file, PROT_READ, MAP_SHARED);
    shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    show("mprotect", mprotect(shared, 4096, PROT_READ | PROT_WRITE));
    printf("%.10s\n", shared);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int reader = open(path, O_RDONLY);
    works("reopened", reader);
    show("seals", fcntl(reader, F_GET_SEALS));
    show("add to a reader", fcntl(reader, F_ADD_SEALS, F_SEAL_SEAL));
    show("the last", fcntl(file, F_ADD_SEALS, F_SEAL_SEAL));
    show("no more", fcntl(file, F_ADD_SEALS, F_SEAL_GROW));
    show("not a file of memory", fcntl(0, F_GET_SEALS));
    show("unknown flag", memfd_create("x", 0x1000));
    return 0;
}
