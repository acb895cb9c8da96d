/* Lets the n-th call on a file below a directory fail. For LD_PRELOAD; armed and asked by shim.py.
 *
 * Counted are the calls of the classes in `classes`; the one with the number `nth` fails, and with
 * `stays` every one after it. `failure` is an errno, or 0: a write takes half of what it was given.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, MAKE = 4, CHANGE = 8, READ = 16 };

static char directory[4096];
static size_t directory_length;
static int classes, failure, stays;
static long nth;
static atomic_long count;
static atomic_long struck;
static char first_struck[4200];

void faults_arm(const char *below, int which, int error, long number, int for_good)
{
    snprintf(directory, sizeof directory, "%s/", below);
    directory_length = strlen(directory);
    classes = which;
    failure = error;
    nth = number;
    stays = for_good;
    count = struck = 0;
    first_struck[0] = 0;
}

void faults_disarm(void) { classes = 0; }
void faults_resume(int which) { classes = which; }
long faults_count(void) { return count; }
long faults_struck(void) { return struck; }
const char *faults_first(void) { return first_struck; }

static int strikes(int class, const char *call, const char *path)
{
    if (!(classes & class) || !path || strncmp(path, directory, directory_length))
        return 0;
    long number = atomic_fetch_add(&count, 1) + 1;
    if (number != nth && !(stays && number > nth))
        return 0;
    if (atomic_fetch_add(&struck, 1) == 0)
        snprintf(first_struck, sizeof first_struck, "%s %s", call, path + directory_length);
    return 1;
}

static int strikes_at(int class, const char *call, int descriptor)
{
    char link[40], path[4096];
    if (!(classes & class))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 2);
    if (length < 0)
        return 0;
    strcpy(path + length, "/"); /* the directory itself is below itself */
    return strikes(class, call, path);
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define FAIL do { errno = failure; return -1; } while (0)

/* One piece: all of it, or half. */
#define WRITES(name, call, parameters, ...) \
    ssize_t name parameters \
    { \
        if (strikes_at(WRITE, call, fd)) { \
            if (failure) FAIL; \
            size -= size / 2; \
        } \
        return REAL(name)(__VA_ARGS__); \
    }

WRITES(write, "write", (int fd, const void *data, size_t size), fd, data, size)
WRITES(pwrite, "pwrite", (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
WRITES(pwrite64, "pwrite", (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
WRITES(sendfile, "sendfile", (int fd, int from, off_t *at, size_t size), fd, from, at, size)
WRITES(sendfile64, "sendfile", (int fd, int from, off64_t *at, size_t size), fd, from, at, size)

/* Several pieces: half of the first stands for all. */
#define WRITES_PIECES(name, call, parameters, ...) \
    ssize_t name parameters \
    { \
        struct iovec half; \
        if (strikes_at(WRITE, call, fd)) { \
            if (failure) FAIL; \
            half = pieces[0]; \
            half.iov_len -= half.iov_len / 2; \
            pieces = &half; \
            number = 1; \
        } \
        return REAL(name)(__VA_ARGS__); \
    }

WRITES_PIECES(writev, "writev", (int fd, const struct iovec *pieces, int number),
              fd, pieces, number)
WRITES_PIECES(pwritev, "pwritev", (int fd, const struct iovec *pieces, int number, off_t at),
              fd, pieces, number, at)
WRITES_PIECES(pwritev64, "pwritev", (int fd, const struct iovec *pieces, int number, off64_t at),
              fd, pieces, number, at)

#define ON_DESCRIPTOR(class, result, name, call, parameters, ...) \
    result name parameters \
    { \
        if (strikes_at(class, call, fd)) FAIL; \
        return REAL(name)(__VA_ARGS__); \
    }

ON_DESCRIPTOR(SYNC, int, fsync, "fsync", (int fd), fd)
ON_DESCRIPTOR(SYNC, int, fdatasync, "fdatasync", (int fd), fd)
ON_DESCRIPTOR(CHANGE, int, ftruncate, "ftruncate", (int fd, off_t size), fd, size)
ON_DESCRIPTOR(CHANGE, int, ftruncate64, "ftruncate", (int fd, off64_t size), fd, size)
ON_DESCRIPTOR(READ, ssize_t, read, "read", (int fd, void *data, size_t size), fd, data, size)
ON_DESCRIPTOR(READ, ssize_t, pread, "pread", (int fd, void *data, size_t size, off_t at),
              fd, data, size, at)
ON_DESCRIPTOR(READ, ssize_t, pread64, "pread", (int fd, void *data, size_t size, off64_t at),
              fd, data, size, at)
ON_DESCRIPTOR(READ, ssize_t, preadv2, "preadv",
              (int fd, const struct iovec *pieces, int number, off_t at, int flags),
              fd, pieces, number, at, flags)
ON_DESCRIPTOR(READ, ssize_t, preadv64v2, "preadv",
              (int fd, const struct iovec *pieces, int number, off64_t at, int flags),
              fd, pieces, number, at, flags)

#define ON_PATH(class, name, call, parameters, ...) \
    int name parameters \
    { \
        if (strikes(class, call, path)) FAIL; \
        return REAL(name)(__VA_ARGS__); \
    }

ON_PATH(access(path, F_OK) ? MAKE : CHANGE, mkdir, "mkdir", (const char *path, mode_t mode),
        path, mode)
ON_PATH(MAKE, rename, "rename", (const char *path, const char *to), path, to)
ON_PATH(MAKE, renameat, "rename", (int from, const char *path, int into, const char *to),
        from, path, into, to)
ON_PATH(CHANGE, unlink, "unlink", (const char *path), path)
ON_PATH(CHANGE, rmdir, "rmdir", (const char *path), path)

/* What is there already needs no room. */
static int makes(int flags, const char *path) { return flags & O_CREAT && access(path, F_OK); }

#define OPENS(name, parameters, ...) \
    int name parameters \
    { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        if (flags & O_DIRECTORY ? strikes(SYNC, "sync", path) \
                                : strikes(makes(flags, path) ? MAKE : READ, "open", path)) \
            FAIL; \
        return REAL(name)(__VA_ARGS__); \
    }

OPENS(open, (const char *path, int flags, ...), path, flags, mode)
OPENS(open64, (const char *path, int flags, ...), path, flags, mode)
OPENS(openat, (int at, const char *path, int flags, ...), at, path, flags, mode)
OPENS(openat64, (int at, const char *path, int flags, ...), at, path, flags, mode)
