/* Runs a command and sends signal 64, which is how enclave threads are interrupted, to all of its threads, by ones and in bursts,
 * for as long as it runs. Ends as the command does, or with 99 where it found no time for that. */
#include "check.h"
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define INTERRUPT 64
#define FEW 100

/* Whether the process would not die of it. */
static int is_handled(pid_t pid) {
    char path[64], line[256];
    unsigned long caught = 0;
    sprintf(path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "SigCgt: %lx", &caught);
    if (status)
        fclose(status);
    return caught >> (INTERRUPT - 1) & 1;
}

static long pepper(pid_t pid, int burst) {
    char path[64];
    long sent = 0;
    sprintf(path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    for (struct dirent *entry; threads && (entry = readdir(threads));) {
        int tid = atoi(entry->d_name);
        for (int i = 0; tid && i < burst; i++)
            sent += syscall(SYS_tgkill, pid, tid, INTERRUPT) == 0;
    }
    if (threads)
        closedir(threads);
    return sent;
}

int main(int argc, char **argv) {
    int status;
    long sent = 0;
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[1], argv + 1);
        _exit(98);
    }
    for (int round = 0; waitpid(pid, &status, WNOHANG) == 0; round++) {
        if (is_handled(pid)) {
            sent += pepper(pid, round % 8 ? 1 : 30);
            if (round % 5 == 0)
                kill(pid, INTERRUPT);
        }
        usleep(round % 3 * 200);
    }
    if (WIFSIGNALED(status))
        return 128 + WTERMSIG(status);
    return sent < FEW ? 99 : WEXITSTATUS(status);
}
