/* Arguments, environment, standard streams and exit status. */
#include "check.h"
#include <unistd.h>

int main(int argc, char **argv) {
    printf("hello from %d arguments\n", argc);
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    const char *greeting = getenv("GREETING");
    printf("GREETING: %s\n", greeting ? greeting : "unset");
    int c, bytes = 0;
    while ((c = getchar()) != EOF)
        bytes++;
    printf("standard input: %d bytes\n", bytes);
    fprintf(stderr, "and this is standard error\n");
    return 42;
}
