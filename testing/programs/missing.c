/* A system call that no Linux has. */
#include "check.h"
#include <unistd.h>

int main(void) {
    works("system call 9999", syscall(9999));
    return 0;
}
