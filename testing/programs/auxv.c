/* The auxiliary vector: the keys that do not differ from machine to machine, and relations between the others. */
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;
extern char __ehdr_start[] __attribute__((weak));

int main(int argc, char **argv) {
    printf("AT_PAGESZ %lu\n", getauxval(AT_PAGESZ));
    printf("AT_PHENT %lu\n", getauxval(AT_PHENT));
    printf("AT_CLKTCK %lu\n", getauxval(AT_CLKTCK));
    printf("AT_SECURE %lu\n", getauxval(AT_SECURE));
    holds("AT_PHDR", getauxval(AT_PHDR) != 0);
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    int loads = 0, interpreters = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) {
        loads += headers[i].p_type == PT_LOAD;
        interpreters += headers[i].p_type == PT_INTERP;
    }
    printf("%d loads, %d interpreters\n", loads, interpreters);
    holds("AT_BASE is the interpreter's", (getauxval(AT_BASE) != 0) == (interpreters != 0));
    holds("AT_ENTRY", getauxval(AT_ENTRY) != 0);
    holds("AT_UID", getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid());
    holds("AT_GID", getauxval(AT_GID) == getgid() && getauxval(AT_EGID) == getegid());
    const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
    int bits = 0;
    for (int i = 0; i < 16; i++)
        bits |= random[i];
    holds("AT_RANDOM", bits != 0);
    const char *name = (const char *)getauxval(AT_EXECFN);
    holds("AT_EXECFN is the path that ran", name && !access(name, X_OK));
    holds("AT_PLATFORM", !strcmp((const char *)getauxval(AT_PLATFORM), "x86_64"));
    /* The stack: argc, argv, NULL, envp, NULL, strings above. */
    long *start = (long *)argv - 1;
    holds("argc is below argv", *(int *)start == argc);
    holds("argv ends in NULL and envp follows", argv[argc] == NULL && environ == argv + argc + 1);
    holds("the entry stack was aligned", ((unsigned long)start & 15) == 0);
    char path[4096] = {0};
    holds("/proc/self/exe", readlink("/proc/self/exe", path, sizeof path - 1) > 0 && !access(path, X_OK));
    FILE *self = fopen("/proc/self/cmdline", "r");
    size_t length = self ? fread(path, 1, sizeof path - 1, self) : 0;
    holds("/proc/self/cmdline", length > 0 && !strcmp(path, argv[0]));
    unsigned long heap = syscall(SYS_brk, 0);
    holds("the heap grows", syscall(SYS_brk, heap + 100000) == (long)(heap + 100000));
    memset((char *)heap, 1, 100000);
    return 0;
}
