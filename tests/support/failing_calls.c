/* Makes one system call of a process fail: preloaded into it, and controlled by failing_calls.py through a shared file.

Counts the calls on paths below certain folders and on internet sockets, whoever makes them: Python, the transfer
client, SQLite. It keeps no state but that file: what a descriptor stands for is looked up with each call. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same names, in the same order, as CALLS in failing_calls.py. */
enum { OPEN, CREATE, STAT, LIST, READ, WRITE, RESIZE, SYNC, CLOSE, RENAME, REMOVE, MAKE, SOCKET, CONNECT, SEND, RECEIVE, CALLS };

#define MOST 16384
#define SHOWN 116

struct entry {
    int32_t call, done;
    char path[SHOWN];
};

struct control {
    int32_t armed;      /* whether calls are counted */
    int32_t fail_at;    /* the number of the call that fails, from 1; 0: none */
    int32_t and_later;  /* whether all later calls fail that would fail with the same error */
    int32_t count;      /* calls so far */
    int32_t failed;     /* those that failed */
    int32_t error;      /* what the first of them failed with */
    int32_t errors[CALLS]; /* what each call fails with; 0: it returns 0 */
    struct entry calls[MOST];
};

static struct control *control;
static const char *roots;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("XETHUB_FAILING_CALLS");
    roots = getenv("XETHUB_FAILING_BELOW");
    if (!name || !roots) return;
    int file = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (found != MAP_FAILED) control = found;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* Whether a path is below one of the folders that count. */
static int below(const char *path) {
    for (const char *root = roots; root && *root;) {
        size_t length = strcspn(root, ":");
        if (!strncmp(path, root, length) && (path[length] == '/' || !path[length])) return 1;
        root += length + (root[length] == ':');
    }
    return 0;
}

static int path_of(int file, char *into) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, into, PATH_MAX - 1);
    if (length < 0) return 0;
    into[length] = 0;
    return 1;
}

/* Count a call, and return whether it fails. */
static int fails(int call, const char *path) {
    int number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (number <= MOST) {
        struct entry *entry = &control->calls[number - 1];
        size_t length = strlen(path);
        strncpy(entry->path, length < SHOWN ? path : path + length - SHOWN + 1, SHOWN - 1);
        entry->call = call;
        entry->done = 1;
    }
    int at = control->fail_at, error = control->errors[call];
    int again = control->and_later && at && number > at && error == control->error;
    if (number != at && !again) return 0;
    if (number == at) control->error = error;
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return 1;
}

static int fails_at(int call, int folder, const char *name) {
    char path[2 * PATH_MAX];
    if (!control || !control->armed || !name) return 0;
    int saved = errno, descriptor, length = 0;
    if (sscanf(name, "/proc/self/fd/%d%n", &descriptor, &length) == 1 && path_of(descriptor, path))
        strncat(path, name + length, PATH_MAX);
    else if (name[0] == '/')
        snprintf(path, sizeof path, "%s", name);
    else {
        if (folder == AT_FDCWD ? syscall(SYS_getcwd, path, PATH_MAX) < 0 : !path_of(folder, path)) {
            errno = saved;
            return 0;
        }
        if (*name) {
            strncat(path, "/", 2);
            strncat(path, name, PATH_MAX);
        }
    }
    errno = saved;
    return below(path) && fails(call, path);
}

/* A descriptor of a file below a folder that counts, or of an internet socket. */
static int fails_on(int on_file, int on_socket, int file) {
    char path[PATH_MAX];
    if (!control || !control->armed) return 0;
    int saved = errno, domain = 0, found = 0;
    socklen_t size = sizeof domain;
    if (!syscall(SYS_getsockopt, file, SOL_SOCKET, SO_DOMAIN, &domain, &size))
        found = on_socket >= 0 && (domain == AF_INET || domain == AF_INET6) ? 2 : 0;
    else if (on_file >= 0 && path_of(file, path))
        found = below(path) ? 1 : 0;
    errno = saved;
    if (found != 2) return found && fails(on_file, path);
    if (!fails(on_socket, "socket")) return 0;
    if (on_socket == SEND || on_socket == RECEIVE) {
        /* The connection is gone for the other side, too, and for whatever else is done with it. */
        saved = errno;
        syscall(SYS_shutdown, file, SHUT_RDWR);
        errno = saved;
    }
    return 1;
}

/* What a call that fails returns: -1, or 0 where it is to end early. */
#define FAILED (errno ? -1 : 0)

static int open_call(int flags) { return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? CREATE : OPEN; }

#define OPENED(name, where, path, flags, ...) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    } \
    REAL(name); \
    return fails_at(open_call(flags), where, path) ? -1 : real(__VA_ARGS__, mode);

int open(const char *path, int flags, ...) { OPENED(open, AT_FDCWD, path, flags, path, flags) }
int open64(const char *path, int flags, ...) { OPENED(open64, AT_FDCWD, path, flags, path, flags) }
int openat(int at, const char *path, int flags, ...) { OPENED(openat, at, path, flags, at, path, flags) }
int openat64(int at, const char *path, int flags, ...) { OPENED(openat64, at, path, flags, at, path, flags) }

#define ON_PATH(call, type, failed, name, parameters, at, path, ...) \
    type name parameters { \
        REAL(name); \
        return fails_at(call, at, path) ? failed : real(__VA_ARGS__); \
    }

#define ON_FILE(on_file, on_socket, type, failed, name, parameters, file, ...) \
    type name parameters { \
        REAL(name); \
        return fails_on(on_file, on_socket, file) ? failed : real(__VA_ARGS__); \
    }

ON_PATH(STAT, int, -1, stat, (const char *path, struct stat *into), AT_FDCWD, path, path, into)
ON_PATH(STAT, int, -1, stat64, (const char *path, struct stat64 *into), AT_FDCWD, path, path, into)
ON_PATH(STAT, int, -1, lstat, (const char *path, struct stat *into), AT_FDCWD, path, path, into)
ON_PATH(STAT, int, -1, lstat64, (const char *path, struct stat64 *into), AT_FDCWD, path, path, into)
ON_PATH(STAT, int, -1, fstatat, (int at, const char *path, struct stat *into, int flags), at, path, at, path, into, flags)
ON_PATH(STAT, int, -1, fstatat64, (int at, const char *path, struct stat64 *into, int flags), at, path, at, path, into, flags)
ON_PATH(STAT, int, -1, statx, (int at, const char *path, int flags, unsigned mask, struct statx *into), at, path, at, path, flags, mask, into)
ON_FILE(STAT, -1, int, -1, fstat, (int file, struct stat *into), file, file, into)
ON_FILE(STAT, -1, int, -1, fstat64, (int file, struct stat64 *into), file, file, into)

/* What libraries call that were built for an old libc. */
int __xstat64(int version, const char *path, struct stat64 *into);
int __lxstat64(int version, const char *path, struct stat64 *into);
int __fxstat64(int version, int file, struct stat64 *into);
int __fxstatat64(int version, int at, const char *path, struct stat64 *into, int flags);
ON_PATH(STAT, int, -1, __xstat64, (int version, const char *path, struct stat64 *into), AT_FDCWD, path, version, path, into)
ON_PATH(STAT, int, -1, __lxstat64, (int version, const char *path, struct stat64 *into), AT_FDCWD, path, version, path, into)
ON_PATH(STAT, int, -1, __fxstatat64, (int version, int at, const char *path, struct stat64 *into, int flags), at, path, version, at, path, into, flags)
ON_FILE(STAT, -1, int, -1, __fxstat64, (int version, int file, struct stat64 *into), file, version, file, into)

ON_PATH(LIST, DIR *, NULL, opendir, (const char *path), AT_FDCWD, path, path)
ON_FILE(LIST, -1, DIR *, NULL, fdopendir, (int file), file, file)
struct dirent *readdir(DIR *folder) {
    REAL(readdir);
    return fails_on(LIST, -1, dirfd(folder)) ? NULL : real(folder);
}
struct dirent64 *readdir64(DIR *folder) {
    REAL(readdir64);
    return fails_on(LIST, -1, dirfd(folder)) ? NULL : real(folder);
}

ON_FILE(READ, RECEIVE, ssize_t, FAILED, read, (int file, void *into, size_t size), file, file, into, size)
ON_FILE(READ, RECEIVE, ssize_t, FAILED, readv, (int file, const struct iovec *into, int count), file, file, into, count)
ON_FILE(READ, -1, ssize_t, -1, pread, (int file, void *into, size_t size, off_t at), file, file, into, size, at)
ON_FILE(READ, -1, ssize_t, -1, pread64, (int file, void *into, size_t size, off64_t at), file, file, into, size, at)
ON_FILE(WRITE, SEND, ssize_t, -1, write, (int file, const void *from, size_t size), file, file, from, size)
ON_FILE(WRITE, SEND, ssize_t, -1, writev, (int file, const struct iovec *from, int count), file, file, from, count)
ON_FILE(WRITE, -1, ssize_t, -1, pwrite, (int file, const void *from, size_t size, off_t at), file, file, from, size, at)
ON_FILE(WRITE, -1, ssize_t, -1, pwrite64, (int file, const void *from, size_t size, off64_t at), file, file, from, size, at)
ON_FILE(WRITE, SEND, ssize_t, -1, sendfile64, (int to, int from, off64_t *at, size_t size), to, to, from, at, size)
ON_FILE(WRITE, -1, ssize_t, -1, copy_file_range, (int from, off64_t *at, int to, off64_t *into, size_t size, unsigned flags), to, from, at, to, into, size, flags)
ON_FILE(RESIZE, -1, int, -1, ftruncate, (int file, off_t size), file, file, size)
ON_FILE(RESIZE, -1, int, -1, ftruncate64, (int file, off64_t size), file, file, size)
/* This one returns its error instead of setting errno. */
ON_FILE(RESIZE, -1, int, errno, posix_fallocate64, (int file, off64_t at, off64_t size), file, file, at, size)
ON_FILE(SYNC, -1, int, -1, fsync, (int file), file, file)
ON_FILE(SYNC, -1, int, -1, fdatasync, (int file), file, file)

/* As on a network filesystem that reports a failed write late: the file is closed, and only files that were written. */
int close(int file) {
    REAL(close);
    int failed = 0;
    if (control && control->armed) {
        int flags = syscall(SYS_fcntl, file, F_GETFL);
        failed = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fails_on(CLOSE, -1, file);
    }
    int error = errno, result = real(file);
    if (!failed) return result;
    errno = error;
    return -1;
}

ON_PATH(RENAME, int, -1, rename, (const char *from, const char *to), AT_FDCWD, to, from, to)
ON_PATH(RENAME, int, -1, renameat, (int above, const char *from, int at, const char *to), at, to, above, from, at, to)
ON_PATH(RENAME, int, -1, renameat2, (int above, const char *from, int at, const char *to, unsigned flags), at, to, above, from, at, to, flags)
ON_PATH(RENAME, int, -1, link, (const char *from, const char *to), AT_FDCWD, to, from, to)
ON_PATH(RENAME, int, -1, linkat, (int above, const char *from, int at, const char *to, int flags), at, to, above, from, at, to, flags)
ON_PATH(RENAME, int, -1, symlink, (const char *from, const char *to), AT_FDCWD, to, from, to)
ON_PATH(RENAME, int, -1, symlinkat, (const char *from, int at, const char *to), at, to, from, at, to)
ON_PATH(REMOVE, int, -1, unlink, (const char *path), AT_FDCWD, path, path)
ON_PATH(REMOVE, int, -1, unlinkat, (int at, const char *path, int flags), at, path, at, path, flags)
ON_PATH(REMOVE, int, -1, rmdir, (const char *path), AT_FDCWD, path, path)
ON_PATH(MAKE, int, -1, mkdir, (const char *path, mode_t mode), AT_FDCWD, path, path, mode)
ON_PATH(MAKE, int, -1, mkdirat, (int at, const char *path, mode_t mode), at, path, at, path, mode)

int socket(int domain, int type, int protocol) {
    REAL(socket);
    int counts = control && control->armed && (domain == AF_INET || domain == AF_INET6);
    return counts && fails(SOCKET, "socket") ? -1 : real(domain, type, protocol);
}
ON_FILE(-1, CONNECT, int, -1, connect, (int file, const struct sockaddr *to, socklen_t size), file, file, to, size)
ON_FILE(-1, SEND, ssize_t, -1, send, (int file, const void *from, size_t size, int flags), file, file, from, size, flags)
ON_FILE(-1, SEND, ssize_t, -1, sendto, (int file, const void *from, size_t size, int flags, const struct sockaddr *to, socklen_t length), file, file, from, size, flags, to, length)
ON_FILE(-1, SEND, ssize_t, -1, sendmsg, (int file, const struct msghdr *message, int flags), file, file, message, flags)
ON_FILE(-1, RECEIVE, ssize_t, FAILED, recv, (int file, void *into, size_t size, int flags), file, file, into, size, flags)
ON_FILE(-1, RECEIVE, ssize_t, FAILED, recvfrom, (int file, void *into, size_t size, int flags, struct sockaddr *from, socklen_t *length), file, file, into, size, flags, from, length)
ON_FILE(-1, RECEIVE, ssize_t, FAILED, recvmsg, (int file, struct msghdr *message, int flags), file, file, message, flags)
