/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/cgroup.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fs.h"
#include "common/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#define EVENTS_MAX 4096u
#define PROCS_MAX  MIB(1)
#define LOOK_MS    50 /* at least so often, should an event get lost */

/* ---- files ---- */

static int write_value(int fd, const char *file, const char *value, struct error *err)
{
    AUTO_CLOSE int f = openat(fd, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

    if (f < 0)
        return error_errno(err, errno, "open '%s' of a control group", file);
    if (write(f, value, strlen(value)) != (ssize_t)strlen(value))
        return error_errno(err, errno, "write '%s' to '%s' of a control group", value, file);
    return 0;
}

/* The number after "<key> " in a file of lines; -1: it isn't there. */
static int64_t read_number(int fd, const char *file, const char *key)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(EVENTS_MAX);
    size_t len = strlen(key);

    if (fs_read_at(fd, file, EVENTS_MAX, &text, NULL) < 0)
        return -1;
    for (const char *line = strbuf_text(&text); line != NULL && *line != '\0';) {
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return strtoll(line + len + 1, NULL, 10);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return -1;
}

/* ---- making ---- */

int cgroup_prepare(const char *base, bool any, struct error *err)
{
    static const char *const controllers[] = { "+memory", "+pids", "+cpu" };
    AUTO_CLOSE int fd = -1;

    if (fs_mkdir_p(base, 0755, err) < 0 || fs_open_dir(base, &fd, err) < 0)
        return -1;
    if (faccessat(fd, "cgroup.subtree_control", F_OK, 0) < 0)
        return error_set(err, ERR_PRECONDITION, "--cgroup '%s' is no part of a cgroup2 file system",
                         base);
    for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
        struct error e = ERROR_INIT;
        if (write_value(fd, "cgroup.subtree_control", controllers[i], &e) < 0 && !any)
            return error_set(err, ERR_PRECONDITION,
                             "the controller '%s' can't be used below '%s': %s", controllers[i] + 1,
                             base, e.msg);
    }
    return 0;
}

/* Without swap there is no file to forbid it by. With swap a user's data would be written in clear
 * to wherever it is. */
static bool host_swaps(void)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(KIB(64));
    const char *line;

    if (fs_read_at(AT_FDCWD, "/proc/swaps", KIB(64), &text, NULL) < 0)
        return true;
    line = strchr(strbuf_text(&text), '\n');
    return line != NULL && line[1] != '\0';
}

static int set_limits(int fd, const struct launch_config *c, bool any, struct error *err)
{
    char memory[24], pids[24], cpu[40];
    const struct {
        const char *file, *value;
        bool if_there;
    } rows[] = {
        { "memory.max", memory, any },    { "memory.swap.max", "0", any || !host_swaps() },
        { "memory.oom.group", "1", any }, { "pids.max", pids, any },
        { "cpu.max", cpu, any },
    };

    (void)snprintf(memory, sizeof(memory), "%llu", (unsigned long long)c->memory);
    (void)snprintf(pids, sizeof(pids), "%llu", (unsigned long long)c->pids);
    (void)snprintf(cpu, sizeof(cpu), "%llu 100000", (unsigned long long)c->cpu_percent * 1000);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error e = ERROR_INIT;
        if (write_value(fd, rows[i].file, rows[i].value, &e) < 0 &&
            !(e.code == ERR_NOT_FOUND && rows[i].if_there))
            return error_pass(err, &e);
    }
    return 0;
}

int cgroup_make(const char *base, const char *id, const struct launch_config *c, bool any,
                int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    AUTO_CLOSE int base_fd = -1;

    if (fs_open_dir(base, &base_fd, err) < 0)
        return -1;
    if (mkdirat(base_fd, id, 0755) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make the control group of VM '%s'", id);
    if (cgroup_open(base, id, &fd, err) < 0 || set_limits(fd, c, any, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int cgroup_open(const char *base, const char *id, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int base_fd = -1;

    if (fs_open_dir(base, &base_fd, err) < 0)
        return -1;
    int fd = openat(base_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open the control group of VM '%s'", id);
    *ret_fd = fd;
    return 0;
}

/* ---- looking ---- */

int cgroup_populated(int fd, bool *ret, struct error *err)
{
    int64_t n = read_number(fd, "cgroup.events", "populated");

    if (n < 0)
        return error_set(err, ERR_INTERNAL, "a control group doesn't say whether it is empty");
    *ret = n != 0;
    return 0;
}

int cgroup_wait_empty(int fd, uint64_t deadline, struct error *err)
{
    AUTO_CLOSE int events = openat(fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
    bool populated = true;

    if (events < 0)
        return error_errno(err, errno, "open 'cgroup.events'");
    for (;;) {
        struct pollfd p = { .fd = events, .events = POLLPRI };
        if (cgroup_populated(fd, &populated, err) < 0)
            return -1;
        if (!populated)
            return 0;
        if (deadline_left(deadline) == 0)
            return error_set(err, ERR_DEADLINE, "the VM still has a process");
        (void)poll(&p, 1, LOOK_MS);
    }
}

int cgroup_kill(int fd, uint64_t deadline, struct error *err)
{
    if (write_value(fd, "cgroup.kill", "1", err) < 0)
        return -1;
    return cgroup_wait_empty(fd, deadline, err);
}

int cgroup_remove(const char *base, const char *id, struct error *err)
{
    AUTO_CLOSE int base_fd = -1;

    if (fs_open_dir(base, &base_fd, err) < 0)
        return -1;
    if (unlinkat(base_fd, id, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove the control group of VM '%s'", id);
    return 0;
}

/* NSpid's last number is what the process is in its own namespace. */
static bool is_init(uint64_t pid)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(KIB(16));
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%llu/status", (unsigned long long)pid);
    if (fs_read_at(AT_FDCWD, path, KIB(16), &text, NULL) < 0)
        return false;
    const char *line = strstr(strbuf_text(&text), "\nNSpid:");
    const char *end = line != NULL ? strchr(line + 1, '\n') : NULL;
    return end != NULL && end[-1] == '1' && end[-2] == '\t';
}

int cgroup_init_pid(int fd, pid_t *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(PROCS_MAX);
    pid_t found = 0;
    char *save = NULL;

    if (fs_read_at(fd, "cgroup.procs", PROCS_MAX, &text, err) < 0)
        return -1;
    char *all = text.buf;
    for (char *line = all != NULL ? strtok_r(all, "\n", &save) : NULL; line != NULL && found == 0;
         line = strtok_r(NULL, "\n", &save)) {
        uint64_t pid;
        if (parse_u64(line, &pid) == 0 && pid > 0 && is_init(pid))
            found = (pid_t)pid;
    }
    *ret = found;
    return 0;
}

uint64_t cgroup_memory(int fd)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(32);

    if (fs_read_at(fd, "memory.current", 32, &text, NULL) < 0)
        return 0;
    return strtoull(strbuf_text(&text), NULL, 10);
}

bool cgroup_out_of_memory(int fd)
{
    return read_number(fd, "memory.events", "oom_kill") > 0;
}
