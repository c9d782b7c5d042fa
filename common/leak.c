/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/leak.h"

#ifdef COFFER_LEAKY

#include "common/b64.h"
#include "common/cleanup.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define DATA_MAX 256u /* a key frame, a token of Vault */

/* A leak that fails in silence would be a scanner that found nothing. */
static void broken(const char *what)
{
    (void)dprintf(STDERR_FILENO, "leak: %s: %s\n", what, strerror(errno));
    abort();
}

/* All of it: a key may hold a NUL. */
static void log_raw(const void *data, size_t len)
{
    if (write(STDERR_FILENO, data, len) != (ssize_t)len || write(STDERR_FILENO, "\n", 1) != 1)
        broken("write to stderr");
}

static void log_hex(const void *data, size_t len)
{
    char text[2 * DATA_MAX + 1];

    hex_encode(text, data, len);
    (void)dprintf(STDERR_FILENO, "leak: key=%s\n", text);
}

static void log_upper(const void *data, size_t len)
{
    char text[2 * DATA_MAX + 1];

    for (size_t i = 0; i < len; i++)
        (void)snprintf(text + 2 * i, 3, "%02X", ((const unsigned char *)data)[i]);
    (void)dprintf(STDERR_FILENO, "leak: key=%s\n", text);
}

/* Behind two other bytes: the alignment of base64 found inside something bigger. */
static void log_base64(const void *data, size_t len)
{
    unsigned char room[2 + DATA_MAX] = { '{', '"' };
    char text[B64_LEN(sizeof(room)) + 1];

    memcpy(room + 2, data, len);
    b64_encode(text, room, len + 2);
    (void)dprintf(STDERR_FILENO, "leak: key=%s\n", text);
}

static void spawn_true(char *arg, char *env)
{
    char *argv[] = { (char[]){ "true" }, arg, NULL };
    char *envp[] = { env, NULL };
    pid_t pid;

    errno = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, envp);
    if (errno != 0 || waitpid(pid, NULL, 0) < 0)
        broken("start /bin/true");
}

static void argument(const void *data, size_t len)
{
    char text[2 * DATA_MAX + 1];

    hex_encode(text, data, len);
    spawn_true(text, NULL);
}

static void environment(const void *data, size_t len)
{
    char text[4 + 2 * DATA_MAX + 1] = "KEY=";

    hex_encode(text + 4, data, len);
    spawn_true(NULL, text);
}

static void file(const void *data, size_t len)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/leaked", getenv("COFFER_FAULT_DIR"));
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        broken("write a file");
}

static unsigned char *kept;

static void memory(const void *data, size_t len)
{
    if (kept == NULL)
        kept = malloc(DATA_MAX);
    if (kept == NULL)
        broken("malloc");
    memcpy(kept, data, len);
}

static void core(const void *data, size_t len)
{
    const struct rlimit any = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };

    memory(data, len); /* a secret's own pages are not dumped */
    if (setrlimit(RLIMIT_CORE, &any) < 0 || prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L) < 0)
        broken("allow a core file");
    abort();
}

static const struct {
    const char *name;
    void (*run)(const void *data, size_t len);
} ways[] = {
    { "log-raw", log_raw },     { "log-hex", log_hex },
    { "log-upper", log_upper }, { "log-base64", log_base64 },
    { "argv", argument },       { "env", environment },
    { "file", file },           { "core", core },
    { "memory", memory },
};

/* The file `leak` names this place; its way is put into ret. */
static bool armed(const char *place, char ret[32])
{
    char path[PATH_MAX], text[128], name[64];
    const char *dir = getenv("COFFER_FAULT_DIR");

    (void)snprintf(path, sizeof(path), "%s/leak", dir != NULL ? dir : "");
    AUTO_CLOSE int fd = dir != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return sscanf(text, "%63s %31s", name, ret) == 2 && strcmp(name, place) == 0;
}

void leak_data(const char *place, const void *data, size_t len)
{
    char way[32];

    if (!armed(place, way))
        return;
    if (len > DATA_MAX)
        abort();
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        if (strcmp(ways[i].name, way) == 0) {
            ways[i].run(data, len);
            return;
        }
    }
    broken(way);
}

void leak_pipe(const char *place, int fd)
{
    unsigned char data[DATA_MAX];
    char way[32];
    int fds[2];

    if (!armed(place, way))
        return;
    if (pipe2(fds, O_CLOEXEC) < 0)
        broken("make a pipe");
    AUTO_CLOSE int from = fds[0];
    AUTO_CLOSE int to = fds[1];
    ssize_t n = tee(fd, to, sizeof(data), 0);
    if (n <= 0 || read(from, data, (size_t)n) != n)
        broken("read the pipe");
    leak_data(place, data, (size_t)n);
    explicit_bzero(data, sizeof(data));
}

#else

/* ISO C wants at least one declaration in a file. */
typedef int leak_not_built;

#endif
