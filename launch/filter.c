/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/filter.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/socket.h>

/* EPERM: there is no such right. ENOSYS: libraries then go another way that can be looked at. */
static const struct {
    int nr, error;
} refused[] = {
    /* mounts, namespaces, roots */
    { SCMP_SYS(mount), EPERM },
    { SCMP_SYS(umount2), EPERM },
    { SCMP_SYS(pivot_root), EPERM },
    { SCMP_SYS(chroot), EPERM },
    { SCMP_SYS(open_tree), EPERM },
    { SCMP_SYS(move_mount), EPERM },
    { SCMP_SYS(fsopen), EPERM },
    { SCMP_SYS(fsconfig), EPERM },
    { SCMP_SYS(fsmount), EPERM },
    { SCMP_SYS(fspick), EPERM },
    { SCMP_SYS(mount_setattr), EPERM },
    { SCMP_SYS(unshare), EPERM },
    { SCMP_SYS(setns), EPERM },
    { SCMP_SYS(clone3), ENOSYS }, /* its flags are in memory, where a filter can't read them */
    /* keys: keyrings are not in any namespace of ours */
    { SCMP_SYS(add_key), EPERM },
    { SCMP_SYS(request_key), EPERM },
    { SCMP_SYS(keyctl), EPERM },
    /* other processes' memory and files */
    { SCMP_SYS(ptrace), EPERM },
    { SCMP_SYS(process_vm_readv), EPERM },
    { SCMP_SYS(process_vm_writev), EPERM },
    { SCMP_SYS(process_madvise), EPERM },
    { SCMP_SYS(pidfd_getfd), EPERM },
    { SCMP_SYS(kcmp), EPERM },
    { SCMP_SYS(open_by_handle_at), EPERM },
    { SCMP_SYS(name_to_handle_at), EPERM },
    /* large parts of the kernel */
    { SCMP_SYS(bpf), EPERM },
    { SCMP_SYS(perf_event_open), EPERM },
    { SCMP_SYS(userfaultfd), EPERM },
    { SCMP_SYS(io_uring_setup), ENOSYS },
    { SCMP_SYS(io_uring_enter), ENOSYS },
    { SCMP_SYS(io_uring_register), ENOSYS },
    { SCMP_SYS(fanotify_init), EPERM },
    { SCMP_SYS(lookup_dcookie), EPERM },
    { SCMP_SYS(vmsplice), EPERM },
    { SCMP_SYS(move_pages), EPERM },
    { SCMP_SYS(migrate_pages), EPERM },
    { SCMP_SYS(mbind), EPERM },
    { SCMP_SYS(set_mempolicy), EPERM },
    /* the host */
    { SCMP_SYS(acct), EPERM },
    { SCMP_SYS(quotactl), EPERM },
    { SCMP_SYS(quotactl_fd), EPERM },
    { SCMP_SYS(syslog), EPERM },
    { SCMP_SYS(reboot), EPERM },
    { SCMP_SYS(kexec_load), EPERM },
    { SCMP_SYS(kexec_file_load), EPERM },
    { SCMP_SYS(init_module), EPERM },
    { SCMP_SYS(finit_module), EPERM },
    { SCMP_SYS(delete_module), EPERM },
    { SCMP_SYS(swapon), EPERM },
    { SCMP_SYS(swapoff), EPERM },
    { SCMP_SYS(iopl), EPERM },
    { SCMP_SYS(ioperm), EPERM },
    { SCMP_SYS(modify_ldt), EPERM },
    { SCMP_SYS(vhangup), EPERM },
    { SCMP_SYS(sethostname), EPERM },
    { SCMP_SYS(setdomainname), EPERM },
    { SCMP_SYS(settimeofday), EPERM },
    { SCMP_SYS(clock_settime), EPERM },
    { SCMP_SYS(clock_adjtime), EPERM },
    { SCMP_SYS(adjtimex), EPERM },
    { SCMP_SYS(mknod), EPERM },
    { SCMP_SYS(mknodat), EPERM },
};

/* clone(2)'s flags, its first argument, that begin a namespace. */
static const scmp_datum_t new_namespaces[] = {
    CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,    CLONE_NEWNET,
    CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWTIME,
};

static int refuse_calls(scmp_filter_ctx f)
{
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(refused) && r == 0; i++)
        r = seccomp_rule_add(f, SCMP_ACT_ERRNO((uint32_t)refused[i].error), refused[i].nr, 0);
    for (size_t i = 0; i < ARRAY_SIZE(new_namespaces) && r == 0; i++)
        r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, new_namespaces[i], new_namespaces[i]));
    return r;
}

/* Refuses socket(2) with a first argument that compares so. */
static int refuse_family(scmp_filter_ctx f, enum scmp_compare op, scmp_datum_t family)
{
    const struct scmp_arg_cmp only = { .arg = 0, .op = op, .datum_a = family };

    return seccomp_rule_add_array(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, &only);
}

/* Only what a network namespace with lo alone has: not AF_ALG, and not AF_VSOCK, which no network
 * namespace keeps from reaching the machine's hypervisor. Of netlink only what getifaddrs asks. */
static int refuse_sockets(scmp_filter_ctx f)
{
    const struct scmp_arg_cmp netlink[] = {
        { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_NETLINK },
        { .arg = 2, .op = SCMP_CMP_NE, .datum_a = NETLINK_ROUTE },
    };
    int r = 0;

    for (scmp_datum_t family = 0; family < AF_MAX && r == 0; family++) {
        if (family != AF_UNIX && family != AF_INET && family != AF_INET6 && family != AF_NETLINK)
            r = refuse_family(f, SCMP_CMP_EQ, family);
    }
    if (r == 0)
        r = refuse_family(f, SCMP_CMP_GE, AF_MAX);
    if (r == 0)
        r = seccomp_rule_add_array(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), ARRAY_SIZE(netlink),
                                   netlink);
    return r;
}

int filter_enter(struct error *err)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int r = f != NULL ? 0 : -ENOMEM;

    if (r == 0)
        r = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (r == 0)
        r = refuse_calls(f);
    if (r == 0)
        r = refuse_sockets(f);
    if (r == 0)
        r = seccomp_load(f);
    seccomp_release(f);
    return r == 0 ? 0 : error_errno(err, -r, "install the VM's system-call filter");
}
