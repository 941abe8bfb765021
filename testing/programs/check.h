/* What all the C programs use: results as text that is the same in every run. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name of an errno, without strerror: libraries word those differently. */
static inline const char *errno_name(int number) {
    switch (number) {
    case 0: return "0";
#define NAME(e) case e: return #e;
    NAME(EPERM) NAME(ENOENT) NAME(ESRCH) NAME(EINTR) NAME(EIO) NAME(ENXIO) NAME(E2BIG) NAME(ENOEXEC) NAME(EBADF)
    NAME(ECHILD) NAME(EAGAIN) NAME(ENOMEM) NAME(EACCES) NAME(EFAULT) NAME(ENOTBLK) NAME(EBUSY) NAME(EEXIST) NAME(EXDEV)
    NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR) NAME(EINVAL) NAME(ENFILE) NAME(EMFILE) NAME(ENOTTY) NAME(ETXTBSY)
    NAME(EFBIG) NAME(ENOSPC) NAME(ESPIPE) NAME(EROFS) NAME(EMLINK) NAME(EPIPE) NAME(EDOM) NAME(ERANGE) NAME(EDEADLK)
    NAME(ENAMETOOLONG) NAME(ENOSYS) NAME(ENOTEMPTY) NAME(ELOOP) NAME(EOVERFLOW) NAME(EOPNOTSUPP) NAME(ENODATA)
    NAME(ETIMEDOUT) NAME(ENOTSOCK) NAME(EDESTADDRREQ) NAME(EMSGSIZE) NAME(EPROTOTYPE) NAME(ENOPROTOOPT)
    NAME(EPROTONOSUPPORT) NAME(ESOCKTNOSUPPORT) NAME(EAFNOSUPPORT) NAME(EADDRINUSE) NAME(EADDRNOTAVAIL)
    NAME(ECONNABORTED) NAME(ECONNRESET) NAME(EISCONN) NAME(ENOTCONN) NAME(ECONNREFUSED) NAME(EALREADY) NAME(EINPROGRESS)
    NAME(EIDRM) NAME(ENOMSG) NAME(ENETUNREACH) NAME(EHOSTUNREACH) NAME(ENOTUNIQ) NAME(ENOBUFS) NAME(ETOOMANYREFS)
#undef NAME
    default: return "another errno";
    }
}

/* Prints "what: value" for a result that is not -1, and "what: ERRNO" for one that is. */
static inline long show(const char *what, long result) {
    int saved = errno;
    if (result == -1)
        printf("%s: %s\n", what, errno_name(saved));
    else
        printf("%s: %ld\n", what, result);
    fflush(stdout);
    errno = saved;
    return result;
}

/* The same, but a result that is not -1 is only "ok". */
static inline long works(const char *what, long result) {
    int saved = errno;
    printf("%s: %s\n", what, result == -1 ? errno_name(saved) : "ok");
    fflush(stdout);
    errno = saved;
    return result;
}

/* Prints whether something holds. */
static inline void holds(const char *what, int is_so) {
    printf("%s: %s\n", what, is_so ? "yes" : "NO");
    fflush(stdout);
}
