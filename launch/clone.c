/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/clone.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

int clone_process(uint64_t flags, int cgroup_fd, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
    int pidfd = -1;
    struct clone_args args = { .flags = flags | CLONE_PIDFD,
                               .pidfd = (uint64_t)(uintptr_t)&pidfd,
                               .exit_signal = SIGCHLD };
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)cgroup_fd;
    }
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        return error_errno(err, errno, "make a process");
    *ret_pid = (pid_t)pid;
    *ret_pidfd = pidfd;
    return 0;
}
