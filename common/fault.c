/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/fault.h"

#ifdef COFFER_FAULT

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAUSE_MAX_MS  600000
#define PAUSE_STEP_MS 10

/* A sweep that silently misses its point would pass for the wrong reason: die loudly instead. */
static void broken(const char *what, const char *path)
{
    (void)dprintf(STDERR_FILENO, "fault points: %s '%s': %s\n", what, path, strerror(errno));
    abort();
}

static void file_path(char ret[PATH_MAX], const char *ending)
{
    (void)snprintf(ret, PATH_MAX, "%s/%s.%s", getenv("COFFER_FAULT_DIR"),
                   program_invocation_short_name, ending);
}

/* The story `faults` fails one system call with EIO: not this one, which the product doesn't make.
 */
static int open_arm(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd < 0 && errno == EIO ? open(path, O_RDONLY | O_CLOEXEC) : fd;
}

/* What P.arm says, without the newline; false when there is none. */
static bool read_arm(char *ret, size_t size)
{
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;
    ssize_t n;

    file_path(path, "arm");
    fd = open_arm(path);
    if (fd < 0 && errno == ENOENT)
        return false;
    n = fd < 0 ? -1 : read(fd, ret, size - 1);
    if (n < 0)
        broken("read", path);
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    return n > 0;
}

static uint64_t count_lines(int fd, const char *path)
{
    char buf[4096];
    uint64_t lines = 0;
    off_t at = 0;
    ssize_t n;

    while ((n = pread(fd, buf, sizeof(buf), at)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            lines += buf[i] == '\n';
        at += n;
    }
    if (n < 0)
        broken("read", path);
    return lines;
}

/* Appends the name and returns its number; under a lock, so that two threads don't share one. */
static uint64_t trace(const char *name)
{
    char path[PATH_MAX];
    AUTO_CLOSE int fd = -1;

    file_path(path, "trace");
    fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || flock(fd, LOCK_EX) < 0 || dprintf(fd, "%s\n", name) < 0)
        broken("append to", path);
    return count_lines(fd, path);
}

static void pause_here(void)
{
    char arm[PATH_MAX], path[PATH_MAX];
    uint64_t end = deadline_in(PAUSE_MAX_MS);
    int fd;

    file_path(arm, "arm");
    file_path(path, "paused");
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        broken("create", path);
    (void)close(fd);
    while (access(arm, F_OK) == 0 && deadline_left(end) > 0)
        sleep_ms(PAUSE_STEP_MS);
    (void)unlink(path);
}

static void kill_self(void)
{
    (void)kill(getpid(), SIGKILL);
    if (getpid() == 1) /* which the kernel doesn't let itself be killed in its own namespace */
        _exit(128 + SIGKILL);
    for (;;)
        (void)pause();
}

/* "<verb> <rest>" -> rest, or NULL. */
static const char *after_verb(const char *arm, const char *verb)
{
    size_t len = strlen(verb);

    return strncmp(arm, verb, len) == 0 && arm[len] == ' ' ? arm + len + 1 : NULL;
}

static bool armed_for(const char *arm, const char *verb, const char *name)
{
    const char *rest = after_verb(arm, verb);

    return rest != NULL && strcmp(rest, name) == 0;
}

static bool act(const char *arm, const char *name)
{
    const char *rest = after_verb(arm, "kill");
    uint64_t n = 0, number;

    if (strcmp(arm, "record") == 0 || (rest != NULL && parse_u64(rest, &n) == 0)) {
        number = trace(name);
        if (n > 0 && number == n)
            kill_self();
        return false;
    }
    if (armed_for(arm, "kill", name))
        kill_self();
    if (armed_for(arm, "pause", name))
        pause_here();
    return armed_for(arm, "fail", name);
}

bool fault_point(const char *name)
{
    int saved = errno;
    char arm[256];
    bool fail = false;

    if (getenv("COFFER_FAULT_DIR") != NULL && read_arm(arm, sizeof(arm)))
        fail = act(arm, name);
    errno = saved;
    return fail;
}

#else

/* ISO C wants at least one declaration in a file. */
typedef int fault_not_built;

#endif
