/* Faults of the system under a real program: loaded by LD_PRELOAD, told what to break by a mapped file.
 *
 * It breaks calls of this process and its children alone, and can be switched on and off while they run: errors of
 * chosen calls on paths that begin with a prefix, no new process, and clocks that leap. See broken.py, which has the
 * same layout. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { READING = 1, WRITING = 2, SYNCING = 4, OPENING = 8, SPAWNING = 16 };

struct orders {
    volatile int64_t realtime_ns, boottime_ns;
    volatile int32_t error;
    volatile uint32_t what;
    char prefix[232];
};

static struct orders nothing;
static struct orders *orders = &nothing;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("OOMGUARD_BROKEN");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *mapped = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED)
            orders = mapped;
        syscall(SYS_close, fd);
    }
}

static int is_broken_path(uint32_t what, const char *path)
{
    if (!(orders->what & what) || strncmp(path, orders->prefix, strlen(orders->prefix)))
        return 0;
    errno = orders->error;
    return 1;
}

static int is_broken(uint32_t what, int fd)
{
    char link[32] = "/proc/self/fd/", path[4096];
    if (!(orders->what & what))
        return 0;
    char digits[12], *at = digits + sizeof digits;
    unsigned number = (unsigned)fd;
    *--at = 0;
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    strcat(link, at);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    return is_broken_path(what, path);
}

ssize_t read(int fd, void *to, size_t n)
{
    return is_broken(READING, fd) ? -1 : syscall(SYS_read, fd, to, n);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    return is_broken(READING, fd) ? -1 : syscall(SYS_pread64, fd, to, n, at);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    return pread64(fd, to, n, at);
}

ssize_t write(int fd, const void *from, size_t n)
{
    return is_broken(WRITING, fd) ? -1 : syscall(SYS_write, fd, from, n);
}

int fdatasync(int fd)
{
    return is_broken(SYNCING, fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return is_broken(SYNCING, fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    return is_broken_path(OPENING, path) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *how,
                char *const argv[], char *const environ[])
{
    int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                char *const[]) = dlsym(RTLD_NEXT, "posix_spawn");
    return is_broken_path(SPAWNING, path) ? orders->error : real(pid, path, actions, how, argv, environ);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    int64_t leap_ns = clock == CLOCK_REALTIME ? orders->realtime_ns : clock == CLOCK_BOOTTIME ? orders->boottime_ns : 0;
    if (!status && leap_ns) {
        int64_t ns = now->tv_sec * INT64_C(1000000000) + now->tv_nsec + leap_ns;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return status;
}

time_t time(time_t *to)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to)
        *to = now.tv_sec;
    return now.tv_sec;
}
