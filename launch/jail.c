/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/jail.h"

#include "common/cleanup.h"
#include "launch/filter.h"
#include "launch/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bring_lo_up(struct error *err)
{
    struct ifreq request = { .ifr_name = "lo" };
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    request.ifr_flags = IFF_UP;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return error_errno(err, errno, "bring the VM's loopback up");
    return 0;
}

int jail_prepare(const char *id, struct error *err)
{
    char name[64];

    /* Not by clone3: that would make our control group the root, not the VM's. */
    if (unshare(CLONE_NEWCGROUP) < 0)
        return error_errno(err, errno, "make a cgroup namespace");
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return error_errno(err, errno, "make a session keyring");
    (void)snprintf(name, sizeof(name), "cloud-%s", id);
    if (sethostname(name, strlen(name)) < 0 || setdomainname("", 0) < 0)
        return error_errno(err, errno, "name the VM's host");
    return bring_lo_up(err);
}

static int set_limits(struct error *err)
{
    static const struct {
        __rlimit_resource_t what;
        rlim_t most;
    } rows[] = {
        /* 1, not 0: the one size at which the kernel starts no core dump program of the host's */
        { RLIMIT_CORE, 1 },     { RLIMIT_NOFILE, 16384 },    { RLIMIT_MEMLOCK, 65536 },
        { RLIMIT_MSGQUEUE, 0 }, { RLIMIT_SIGPENDING, 1024 }, { RLIMIT_NICE, 0 },
        { RLIMIT_RTPRIO, 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct rlimit limit;
        if (getrlimit(rows[i].what, &limit) < 0)
            return error_errno(err, errno, "ask for a limit");
        if (limit.rlim_max > rows[i].most)
            limit.rlim_max = rows[i].most;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(rows[i].what, &limit) < 0)
            return error_errno(err, errno, "limit what a process of the VM may use");
    }
    return 0;
}

static int drop_capabilities(struct error *err)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    struct __user_cap_data_struct none[2] = { { .effective = 0 } };

    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap) < 0)
            return error_errno(err, errno, "drop capability %lu", cap);
    }
    /* the user's change doesn't take them: user 0 isn't known in this user namespace */
    if (syscall(SYS_capset, &header, none) < 0)
        return error_errno(err, errno, "drop the capabilities");
    return 0;
}

int jail_enter(int userns_fd, struct error *err)
{
    if (set_limits(err) < 0)
        return -1;
    if (setgroups(0, NULL) < 0)
        return error_errno(err, errno, "leave the groups");
    if (setns(userns_fd, CLONE_NEWUSER) < 0)
        return error_errno(err, errno, "enter the VM's user namespace");
    if (setresgid(VM_USER, VM_USER, VM_USER) < 0 || setresuid(VM_USER, VM_USER, VM_USER) < 0)
        return error_errno(err, errno, "become the VM's user");
    if (drop_capabilities(err) < 0)
        return -1;
    /* init has no program of its own that would set it again: nobody may look into it */
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_errno(err, errno, "give up privileges");
    (void)umask(077);
    return filter_enter(err);
}
