/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef COFFER_SANITIZER
#include <seccomp.h>

static const int allowed[] = {
    /* the loop */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(accept4),
    SCMP_SYS(getsockopt),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(read),
    SCMP_SYS(close),
    SCMP_SYS(clock_gettime),
    /* the pipe */
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(fcntl),
    SCMP_SYS(write),
    /* memory and secrets */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(getrandom),
    SCMP_SYS(futex),
    /* the way out */
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(tgkill),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(restart_syscall),
};

/* What libcurl, its resolver's thread and TLS need; only where a key service is across a network.
 */
static const int network_calls[] = {
    SCMP_SYS(socket),
    SCMP_SYS(socketpair),
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(writev),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(ioctl),
    SCMP_SYS(eventfd2),
    SCMP_SYS(pipe2),
    /* its files: CA bundle, credentials, resolv.conf */
    SCMP_SYS(lseek),
    SCMP_SYS(stat),
    SCMP_SYS(statx),
    SCMP_SYS(access),
    SCMP_SYS(readlink),
    SCMP_SYS(getdents64),
    SCMP_SYS(pread64),
    /* its thread */
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(
        sched_getaffinity), /* malloc's question, at the ninth of them, where there is no /sys */
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(prctl),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
};

static int allow_list(scmp_filter_ctx filter, const int *calls, size_t n)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    return r;
}

#ifdef COFFER_FAULT
/* What fault points need (common/fault.h); only when they are in use, so that every other test runs
 * under the filter of a release. */
static const int fault_calls[] = {
    SCMP_SYS(openat), SCMP_SYS(flock),           SCMP_SYS(pread64), SCMP_SYS(lseek),
    SCMP_SYS(access), SCMP_SYS(clock_nanosleep), SCMP_SYS(kill),    SCMP_SYS(pause),
};

/* A tracer that makes a call fail has the kernel skip it: number -1. */
static int allow_skipped(scmp_filter_ctx filter)
{
    int r = seccomp_attr_set(filter, SCMP_FLTATR_API_TSKIP, 1);
    return r < 0 ? r : seccomp_rule_add(filter, SCMP_ACT_ALLOW, -1, 0);
}

static int allow_faults(scmp_filter_ctx filter)
{
    if (getenv("COFFER_FAULT_DIR") == NULL)
        return 0;
    int r = allow_list(filter, fault_calls, ARRAY_SIZE(fault_calls));
    return r < 0 ? r : allow_skipped(filter);
}
#else
static int allow_faults(scmp_filter_ctx filter UNUSED)
{
    return 0;
}
#endif

/* Threads, no processes. clone3's flags lie in memory, where a filter can't look: glibc then uses
 * clone. Files are read, never written or made. */
static int allow_network(scmp_filter_ctx filter)
{
    const scmp_datum_t writing = O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | __O_TMPFILE;
    int r = allow_list(filter, network_calls, ARRAY_SIZE(network_calls));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, writing, O_RDONLY));
    return r;
}

/* No memory that can be executed. An error, not the end: a resolver that would load a module then
 * goes on without it. */
static int forbid_code(scmp_filter_ctx filter, int call)
{
    int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), call, 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
    return r;
}

static int allow_all(scmp_filter_ctx filter, bool network)
{
    int r = allow_list(filter, allowed, ARRAY_SIZE(allowed));
    if (r == 0 && network)
        r = allow_network(filter);
    if (r == 0)
        r = allow_faults(filter);
    if (r == 0)
        r = forbid_code(filter, SCMP_SYS(mmap));
    if (r == 0)
        r = forbid_code(filter, SCMP_SYS(mprotect));
    return r;
}

static int filter_calls(bool network, struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL)
        return error_set(err, ERR_EXHAUSTED, "make the seccomp filter: out of memory");
    int r = allow_all(filter, network);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r == 0 ? 0 : error_errno(err, -r, "load the seccomp filter");
}
#else
static int filter_calls(bool network UNUSED, struct error *err UNUSED)
{
    return 0;
}
#endif

/* Effective, permitted and inheritable; the kernel empties the ambient set with them. The bounding
 * set doesn't matter: there is no execve and no_new_privs is set. */
static int drop_capabilities(struct error *err)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
    if (syscall(SYS_capset, &header, none) < 0)
        return error_errno(err, errno, "drop capabilities");
    return 0;
}

int sandbox_enter(bool network, struct error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_errno(err, errno, "set no_new_privs");
    if (drop_capabilities(err) < 0)
        return -1;
    return filter_calls(network, err);
}
