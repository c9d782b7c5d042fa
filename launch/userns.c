/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/userns.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "launch/clone.h"
#include "launch/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/wait.h>
#include <unistd.h>

/* It lives as long as the other end of the pipe is open. */
static void wait_for_end(int end)
{
    char c;

    while (read(end, &c, 1) < 0 && errno == EINTR)
        continue;
    _exit(0);
}

static int write_map(pid_t pid, const char *file, uid_t uid, struct error *err)
{
    char path[64], map[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    int len = snprintf(map, sizeof(map), "%u %u 1\n", VM_USER, uid);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    return fs_write_all(fd, map, (size_t)len, file, err);
}

static int map_and_open(pid_t pid, uid_t uid, int *ret_fd, struct error *err)
{
    char path[64];

    if (write_map(pid, "uid_map", uid, err) < 0 || write_map(pid, "gid_map", uid, err) < 0)
        return -1;
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    *ret_fd = fd;
    return 0;
}

int userns_make(uid_t uid, int *ret_fd, struct error *err)
{
    int ends[2], pidfd = -1;
    pid_t pid = -1;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    AUTO_CLOSE int reading = ends[0];
    AUTO_CLOSE int writing = ends[1];
    if (clone_process(CLONE_NEWUSER, -1, &pid, &pidfd, err) < 0)
        return error_prefix(err, "user namespace");
    if (pid == 0) {
        (void)close(writing);
        wait_for_end(reading);
    }
    int r = map_and_open(pid, uid, ret_fd, err);
    cleanup_close(&writing);
    writing = -1;
    (void)waitpid(pid, NULL, 0);
    (void)close(pidfd);
    return r;
}
