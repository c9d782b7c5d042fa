/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/remains.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "launch/cgroup.h"

#include <errno.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* 1: opened; 0: there is none. */
static int open_group(const struct options *o, const char *id, int *ret_fd, struct error *err)
{
    struct error e = ERROR_INIT;

    if (cgroup_open(o->cgroup, id, ret_fd, &e) == 0)
        return 1;
    return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
}

int remains_running(const struct options *o, const char *id, bool *ret, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    int r = open_group(o, id, &fd, err);

    if (r < 0)
        return -1;
    if (r > 0)
        return cgroup_populated(fd, ret, err);
    *ret = false;
    return 0;
}

/* A pid may be another process's by the time it is used: it is looked for again once a pidfd holds
 * it. */
static int signal_init(int group, struct error *err)
{
    pid_t pid = 0, again = 0;

    if (cgroup_init_pid(group, &pid, err) < 0)
        return -1;
    if (pid == 0)
        return 0;
    AUTO_CLOSE int process = pidfd_open(pid, 0);
    if (process < 0)
        return errno == ESRCH ? 0 : error_errno(err, errno, "open the VM's init");
    if (cgroup_init_pid(group, &again, err) < 0)
        return -1;
    if (again == pid && pidfd_send_signal(process, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
        return error_errno(err, errno, "ask the VM to end");
    return 0;
}

int remains_ask(const struct options *o, const char *id, uint64_t deadline, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct error e = ERROR_INIT;
    int r = open_group(o, id, &fd, err);

    if (r <= 0)
        return r;
    if (signal_init(fd, err) < 0)
        return -1;
    if (cgroup_wait_empty(fd, deadline, &e) < 0 && e.code != ERR_DEADLINE)
        return error_pass(err, &e);
    return 0;
}

int remains_kill(const struct options *o, const char *id, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    int r = open_group(o, id, &fd, err);

    return r <= 0 ? r : cgroup_kill(fd, deadline_in(KILL_MS), err);
}

int remains_remove_group(const struct options *o, const char *id, struct error *err)
{
    return cgroup_remove(o->cgroup, id, err);
}

void remains_socket_path(const struct options *o, const char *id, char ret[108])
{
    (void)snprintf(ret, 108, "%s/%s.sock", o->sockets, id);
}

int remains_remove_socket(const struct options *o, const char *id, struct error *err)
{
    char path[108];
    struct stat st;

    remains_socket_path(o, id, path);
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "look at '%s'", path);
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, ERR_PRECONDITION, "'%s' is not a socket", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove '%s'", path);
    return 0;
}
