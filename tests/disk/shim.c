/* Faults, and a log, of what a process does to the files below one directory. Preloaded; does nothing until armed.
 *
 * Syncs below the directory return at once: what a power cut leaves is computed from the log, not from this disk.
 * Not seen: stores through mmap, sendfile, copy_file_range, stdio. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SIZE = 2, SYNC = 4, CREATE = 8, RENAME = 16, LINK = 32, UNLINK = 64, MKDIR = 128, ALLOCATE = 256 };
enum { NOTE = 512, LOST = 1024 };
#define GROWS (WRITE | CREATE | RENAME | LINK | MKDIR | ALLOCATE)
#define ALL (GROWS | SIZE | SYNC | UNLINK)

struct record { uint32_t op, path_size, data_size; uint64_t inode; int64_t offset; } __attribute__((packed));

static char root[4096], space[4096];
static size_t root_size;
static int mask, fault, error_number, rest, log_fd = -1;
static long nth;
static atomic_long count;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
enum { NONE, FAIL, PART, FULL, SHORT, STOP };

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void emit(int op, uint64_t inode, const char *path, const void *data, size_t size, int64_t offset) {
    if (log_fd < 0) return;
    struct record r = {op, path ? strlen(path) : 0, size, inode, offset};
    struct iovec parts[] = {{&r, sizeof r}, {(void *)path, r.path_size}, {(void *)data, size}};
    if (REAL(writev)(log_fd, parts, 3) != (ssize_t)(sizeof r + r.path_size + size)) abort();
}

/* --- called by the process itself -------------------------------------------------------------------------------- */

void shim_arm(const char *dir, const char *name, long n, const char *space_file, const char *log) {
    root_size = 0;
    static const struct { const char *name; int fault, mask, error; } faults[] = {
        {"none", NONE, ALL, 0},          {"enospc", PART, GROWS, ENOSPC}, {"full", FULL, GROWS, ENOSPC},
        {"eio", FAIL, ALL, EIO},         {"fsync", FAIL, SYNC, EIO},      {"short", SHORT, WRITE, 0},
        {"stop", STOP, ALL, 0},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (!strcmp(faults[i].name, name)) fault = faults[i].fault, mask = faults[i].mask, error_number = faults[i].error;
    strcpy(space, space_file);
    count = rest = 0;
    nth = n;
    if (log_fd >= 0) close(log_fd);
    log_fd = -1;
    if (*log) log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    strcpy(root, dir);
    root_size = strlen(dir);
}

long shim_count(void) { return count; }

void shim_note(const char *text, size_t size) {
    pthread_mutex_lock(&order);
    emit(NOTE, 0, NULL, text, size, 0);
    pthread_mutex_unlock(&order);
}

/* --- deciding ---------------------------------------------------------------------------------------------------- */

static int below(const char *path) {
    return root_size && !strncmp(path, root, root_size) && (!path[root_size] || path[root_size] == '/');
}

static int ours(int fd, char *path) {
    char link[64];
    if (!root_size) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 4095);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

/* 0: go on. An errno: fail with it. -1: do half of it. -2: do half of it, stop, do the rest. */
static int verdict(int op) {
    if (!(op & mask)) return 0;
    long now = ++count;
    if (fault == STOP) return raise(SIGSTOP), op == WRITE ? -2 : 0;
    if (fault == FULL && nth) {
        if (now < nth || !access(space, F_OK)) return 0;
        return now == nth && op == WRITE ? -1 : error_number;
    }
    if (fault == PART && now == nth && op == WRITE) return rest = 1, -1;
    if (fault == PART && now == nth + 1 && rest) return error_number;
    if (now != nth) return 0;
    return fault == FAIL || fault == PART ? error_number : fault == SHORT ? -1 : 0;
}

static uint64_t inode(int fd) {
    struct stat st;
    return fstat(fd, &st) ? 0 : st.st_ino;
}

/* --- interposed -------------------------------------------------------------------------------------------------- */

/* offset < 0: where the file is */
static ssize_t really_put(int fd, const char *path, const void *data, size_t size, int64_t offset) {
    pthread_mutex_lock(&order);
    ssize_t done = offset < 0 ? REAL(write)(fd, data, size) : REAL(pwrite)(fd, data, size, offset);
    if (done > 0) emit(WRITE, inode(fd), path, data, done, offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset);
    pthread_mutex_unlock(&order);
    return done;
}

static ssize_t put(int fd, const void *data, size_t size, int64_t offset) {
    char path[4096];
    if (!ours(fd, path)) return offset < 0 ? REAL(write)(fd, data, size) : REAL(pwrite)(fd, data, size, offset);
    int bad = verdict(WRITE);
    if (bad > 0) return errno = bad, -1;
    ssize_t half = size / 2;
    if (bad == 0 || half == 0) return really_put(fd, path, data, size, offset);
    half = really_put(fd, path, data, half, offset);
    if (bad == -1 || half < 0) return half;
    raise(SIGSTOP);
    ssize_t rest = really_put(fd, path, (const char *)data + half, size - half, offset < 0 ? offset : offset + half);
    return rest < 0 ? rest : half + rest;
}

static ssize_t putv(int fd, const struct iovec *parts, int number, int64_t offset) {
    size_t size = 0, at = 0;
    for (int i = 0; i < number; i++) size += parts[i].iov_len;
    char *data = malloc(size + 1);
    for (int i = 0; i < number; at += parts[i++].iov_len) memcpy(data + at, parts[i].iov_base, parts[i].iov_len);
    ssize_t done = put(fd, data, size, offset);
    int error = errno;
    free(data);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return put(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return put(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int number) { return putv(fd, parts, number, -1); }
ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t at) { return putv(fd, parts, number, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int number, off64_t at) { return putv(fd, parts, number, at); }
ssize_t pwritev2(int fd, const struct iovec *p, int n, off_t at, int flags) { return (void)flags, putv(fd, p, n, at); }

#define GUARDED(op, wanted, call, path, object, data, size, offset)                                                    \
    if (!(wanted)) return call;                                                                                        \
    int bad = verdict(op);                                                                                             \
    if (bad) return errno = bad, -1;                                                                   \
    pthread_mutex_lock(&order);                                                                                        \
    int done = call;                                                                                                   \
    if (done >= 0) emit(op, object, path, data, size, offset);                                                         \
    pthread_mutex_unlock(&order);                                                                                      \
    return done;

static int cut(int fd, off64_t size) {
    char path[4096];
    GUARDED(SIZE, ours(fd, path), REAL(ftruncate)(fd, size), path, inode(fd), NULL, 0, size)
}
int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut(fd, size); }

/* A sync that fails has lost what it should have written, and the next one does not tell. */
static int synced(int fd, int (*sync)(int)) {
    char path[4096];
    if (!ours(fd, path)) return sync(fd);
    int bad = verdict(SYNC);
    pthread_mutex_lock(&order);
    emit(bad ? LOST : SYNC, inode(fd), path, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return bad ? (errno = bad, -1) : 0;
}
int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

static int allocate(int fd, off64_t at, off64_t size) {
    char path[4096];
    int bad = ours(fd, path) ? verdict(ALLOCATE) : 0;
    if (bad) return bad;
    pthread_mutex_lock(&order);
    int error = REAL(posix_fallocate)(fd, at, size);
    if (!error && below(path)) emit(ALLOCATE, inode(fd), path, NULL, 0, at + size);
    pthread_mutex_unlock(&order);
    return error;
}
int posix_fallocate(int fd, off_t at, off_t size) { return allocate(fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { return allocate(fd, at, size); }

/* The whole path of a name that may be relative to an open directory. */
static const char *whole(int dir, const char *name, char *path) {
    char link[64];
    if (*name == '/' || dir == AT_FDCWD) return name;
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t size = readlink(link, path, 4095);
    if (size < 0) size = 0;
    snprintf(path + size, 4096 - size, "/%s", name);
    return path;
}

static int opened(int dir, const char *name, int flags, mode_t mode) {
    char space_for_path[4096];
    const char *path = whole(dir, name, space_for_path);
    int makes = flags & O_CREAT && access(path, F_OK);
    if (!below(path) || !(makes || flags & O_TRUNC)) return REAL(openat)(dir, name, flags, mode);
    int bad = makes ? verdict(CREATE) : 0;
    if (bad) return errno = bad, -1;
    pthread_mutex_lock(&order);
    int fd = REAL(openat)(dir, name, flags, mode);
    if (fd >= 0) emit(makes ? CREATE : SIZE, inode(fd), path, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return fd;
}
#define MODE                                                                                                           \
    va_list more;                                                                                                      \
    va_start(more, flags);                                                                                             \
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;                                                          \
    va_end(more);
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return opened(dir, path, flags, mode); }

int renameat(int from_dir, const char *from_name, int to_dir, const char *to_name) {
    char one[4096], two[4096];
    const char *from = whole(from_dir, from_name, one), *to = whole(to_dir, to_name, two);
    GUARDED(RENAME, below(from), REAL(renameat)(from_dir, from_name, to_dir, to_name), from, 0, to, strlen(to), 0)
}
int linkat(int from_dir, const char *from_name, int to_dir, const char *to_name, int flags) {
    char one[4096], two[4096];
    const char *from = whole(from_dir, from_name, one), *to = whole(to_dir, to_name, two);
    GUARDED(LINK, below(to), REAL(linkat)(from_dir, from_name, to_dir, to_name, flags), from, 0, to, strlen(to), 0)
}
int unlinkat(int dir, const char *name, int flags) {
    char one[4096];
    const char *path = whole(dir, name, one);
    GUARDED(UNLINK, below(path), REAL(unlinkat)(dir, name, flags), path, 0, NULL, 0, 0)
}
int mkdirat(int dir, const char *name, mode_t mode) {
    char one[4096];
    const char *path = whole(dir, name, one);
    GUARDED(MKDIR, below(path), REAL(mkdirat)(dir, name, mode), path, 0, NULL, 0, 0)
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
