/* The Nth call of a kind on files below a folder kills its process, or fails; counted over all of its
 * threads, and on through exec.
 *
 *     cc -shared -fPIC -o crashpoint.so crashpoint.c
 *     truncate -s 4096 seen
 *     LD_PRELOAD=./crashpoint.so CRASHPOINT=write:28:3 CRASHPOINT_UNDER=/home/me CRASHPOINT_SEEN=seen program
 *
 * has the third write there fail with ENOSPC. Error 0 is SIGKILL; `3+` means the third and all after it.
 * `seen` holds the number of calls so far, a native long, then of the one that was struck the monotonic time,
 * a native double, and the path.
 * The kinds: write, sync, syncdir (of a folder), open, rename, cut, remove, mkdir, and connect, which is
 * counted wherever it leads. What libc calls within itself is not seen.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct {
    long calls;
    double at;
    char struck[4096 - sizeof(long) - sizeof(double)];
} *seen;
static char kind[16];
static int fault;
static long number;
static int and_all_after;
static const char *under;

/* Again in a child that was forked with another environment. */
__attribute__((constructor)) void crashpoint_begin(void) {
    const char *point = getenv("CRASHPOINT"), *path = getenv("CRASHPOINT_SEEN");
    char after = 0;
    under = getenv("CRASHPOINT_UNDER");
    if (!point || !path || !under) return;
    if (sscanf(point, "%15[a-z]:%d:%ld%c", kind, &fault, &number, &after) < 3) return;
    and_all_after = after == '+';
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) seen = mapped;
    close(file);
}

static int strikes(const char *path) {
    long count = __atomic_add_fetch(&seen->calls, 1, __ATOMIC_SEQ_CST);
    if (count != number && !(and_all_after && count > number)) return 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    seen->at = now.tv_sec + now.tv_nsec / 1e9;
    strncpy(seen->struck, path, sizeof seen->struck - 1);
    if (!fault) kill(getpid(), SIGKILL);
    errno = fault;
    return 1;
}

static int is_meant(const char *what) { return seen && !strcmp(what, kind); }

static int is_below(const char *path) { return !strncmp(path, under, strlen(under)); }

static void path_of(int fd, char *path) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static int fd_fails(const char *what, int fd) {
    char path[PATH_MAX];
    if (!is_meant(what)) return 0;
    path_of(fd, path);
    return is_below(path) && strikes(path);
}

static int path_fails(const char *what, int folder, const char *name) {
    char path[2 * PATH_MAX];
    if (!is_meant(what)) return 0;
    if (*name == '/')
        *path = 0;
    else if (folder == AT_FDCWD)
        strcat(getcwd(path, PATH_MAX) ? path : strcpy(path, ""), "/");
    else
        path_of(folder, path), strcat(path, "/");
    strncat(path, name, PATH_MAX - 1);
    return is_below(path) && strikes(path);
}

static int sync_fails(int fd) {
    struct stat found;
    return fd_fails(!fstat(fd, &found) && S_ISDIR(found.st_mode) ? "syncdir" : "sync", fd);
}

int fsync(int fd) { return sync_fails(fd) ? -1 : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_fails(fd) ? -1 : (int)syscall(SYS_fdatasync, fd); }

ssize_t write(int fd, const void *from, size_t size) {
    return fd_fails("write", fd) ? -1 : syscall(SYS_write, fd, from, size);
}
ssize_t writev(int fd, const struct iovec *from, int count) {
    return fd_fails("write", fd) ? -1 : syscall(SYS_writev, fd, from, count);
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    return fd_fails("write", fd) ? -1 : syscall(SYS_pwrite64, fd, from, size, at);
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) { return pwrite(fd, from, size, at); }
int posix_fallocate(int fd, off_t from, off_t size) {
    return fd_fails("write", fd) || syscall(SYS_fallocate, fd, 0, from, size) ? errno : 0;
}
int posix_fallocate64(int fd, off64_t from, off64_t size) { return posix_fallocate(fd, from, size); }

int ftruncate(int fd, off_t size) { return fd_fails("cut", fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size); }
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int opened(int folder, const char *name, int flags, va_list more) {
    int mode = __OPEN_NEEDS_MODE(flags) ? va_arg(more, int) : 0;
    return path_fails("open", folder, name) ? -1 : (int)syscall(SYS_openat, folder, name, flags, mode);
}

#define OPEN(name, before, folder)                           \
    int name(before const char *path, int flags, ...) {      \
        va_list more;                                        \
        va_start(more, flags);                               \
        int fd = opened(folder, path, flags, more);          \
        va_end(more);                                        \
        return fd;                                           \
    }
#define COMMA ,
OPEN(open, , AT_FDCWD)
OPEN(open64, , AT_FDCWD)
OPEN(openat, int folder COMMA, folder)
OPEN(openat64, int folder COMMA, folder)

int renameat2(int folder, const char *from, int there, const char *to, unsigned flags) {
    return path_fails("rename", folder, from) ? -1 : (int)syscall(SYS_renameat2, folder, from, there, to, flags);
}
int renameat(int folder, const char *from, int there, const char *to) { return renameat2(folder, from, there, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char *path, int flags) {
    return path_fails("remove", folder, path) ? -1 : (int)syscall(SYS_unlinkat, folder, path, flags);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode) {
    return path_fails("mkdir", folder, path) ? -1 : (int)syscall(SYS_mkdirat, folder, path, mode);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int connect(int fd, const struct sockaddr *to, socklen_t size) {
    return is_meant("connect") && strikes("") ? -1 : (int)syscall(SYS_connect, fd, to, size);
}
