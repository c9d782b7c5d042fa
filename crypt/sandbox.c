/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/sandbox.h"

#if defined(COFFER_SANITIZER) || defined(COFFER_LEAKY) /* some leaks start programs */

int sandbox_enter(unsigned parts, struct error *err)
{
    return 0;
}

#else

#include <errno.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/keyctl.h>
#include <linux/loop.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define ANY      0u /* every verb */
#define DISK     SANDBOX_DISK
#define KEYED    SANDBOX_KEYED
#define DM_WRITE SANDBOX_DM_WRITE
#define FORMAT   SANDBOX_FORMAT

/* Measured by strace over every verb and refusal, plus what the same library paths call on other
 * kernels. */
static const struct {
    int nr;
    unsigned part;
} calls[] = {
    /* process, memory, time */
    { SCMP_SYS(brk), ANY },
    { SCMP_SYS(munmap), ANY },
    { SCMP_SYS(mremap), ANY },
    { SCMP_SYS(madvise), ANY },
    { SCMP_SYS(mlock), ANY },
    { SCMP_SYS(mlock2), ANY },
    { SCMP_SYS(munlock), ANY },
    { SCMP_SYS(futex), ANY },
    { SCMP_SYS(exit), ANY },
    { SCMP_SYS(exit_group), ANY },
    { SCMP_SYS(getpid), ANY },
    { SCMP_SYS(gettid), ANY },
    { SCMP_SYS(getuid), ANY },
    { SCMP_SYS(geteuid), ANY },
    { SCMP_SYS(getgid), ANY },
    { SCMP_SYS(getegid), ANY },
    { SCMP_SYS(rt_sigaction), ANY },
    { SCMP_SYS(rt_sigprocmask), ANY },
    { SCMP_SYS(rt_sigreturn), ANY },
    { SCMP_SYS(restart_syscall), ANY },
    { SCMP_SYS(getrandom), ANY },
    { SCMP_SYS(uname), ANY },
    { SCMP_SYS(sysinfo), ANY },
    { SCMP_SYS(umask), ANY },
    { SCMP_SYS(clock_gettime), ANY },
    { SCMP_SYS(gettimeofday), ANY },
    { SCMP_SYS(clock_nanosleep), ANY },
    { SCMP_SYS(nanosleep), ANY },
    { SCMP_SYS(prlimit64), ANY },
    { SCMP_SYS(getrlimit), ANY },
    { SCMP_SYS(sched_yield), ANY },
    { SCMP_SYS(sched_getaffinity), ANY },
    { SCMP_SYS(semctl), ANY }, /* libdm looks whether udev cookies work */
    /* files */
    { SCMP_SYS(openat), ANY },
    { SCMP_SYS(open), ANY },
    { SCMP_SYS(close), ANY },
    { SCMP_SYS(read), ANY },
    { SCMP_SYS(pread64), ANY },
    { SCMP_SYS(readv), ANY },
    { SCMP_SYS(write), ANY },
    { SCMP_SYS(writev), ANY },
    { SCMP_SYS(lseek), ANY },
    { SCMP_SYS(fcntl), ANY },
    { SCMP_SYS(dup), ANY },
    { SCMP_SYS(fstat), ANY },
    { SCMP_SYS(stat), ANY },
    { SCMP_SYS(lstat), ANY },
    { SCMP_SYS(newfstatat), ANY },
    { SCMP_SYS(statx), ANY },
    { SCMP_SYS(statfs), ANY },
    { SCMP_SYS(fstatfs), ANY },
    { SCMP_SYS(access), ANY },
    { SCMP_SYS(faccessat), ANY },
    { SCMP_SYS(faccessat2), ANY },
    { SCMP_SYS(readlink), ANY },
    { SCMP_SYS(readlinkat), ANY },
    { SCMP_SYS(getdents64), ANY },
    { SCMP_SYS(poll), ANY },
    { SCMP_SYS(ppoll), ANY },
    { SCMP_SYS(fadvise64), DISK },
    { SCMP_SYS(memfd_create), DISK },
    { SCMP_SYS(ftruncate), DISK },
    { SCMP_SYS(pwrite64), DISK },
    { SCMP_SYS(fsync), FORMAT },
    { SCMP_SYS(fdatasync), FORMAT },
    /* libcryptsetup: metadata locks, the thread's keyring */
    { SCMP_SYS(flock), KEYED },
    { SCMP_SYS(mkdir), KEYED },
    { SCMP_SYS(mkdirat), KEYED },
    { SCMP_SYS(add_key), KEYED },
    { SCMP_SYS(request_key), KEYED },
    /* libdevmapper's own nodes */
    { SCMP_SYS(mknod), DM_WRITE },
    { SCMP_SYS(mknodat), DM_WRITE },
    { SCMP_SYS(chown), DM_WRITE },
    { SCMP_SYS(fchownat), DM_WRITE },
    { SCMP_SYS(unlink), DM_WRITE },
    { SCMP_SYS(unlinkat), DM_WRITE },
#ifdef COFFER_FAULT
    { SCMP_SYS(kill), ANY },
    { SCMP_SYS(pause), ANY },
    { SCMP_SYS(flock), ANY },
    { SCMP_SYS(unlink), ANY },
    { SCMP_SYS(unlinkat), ANY },
    { SCMP_SYS(tgkill), ANY },
#endif
};

static const struct {
    unsigned long request;
    unsigned part;
} ioctls[] = {
    { DM_VERSION, ANY },
    { DM_LIST_DEVICES, ANY },
    { DM_DEV_STATUS, ANY },
    { DM_TABLE_STATUS, ANY },
    { DM_TABLE_DEPS, ANY },
    { DM_LIST_VERSIONS, ANY },
    { DM_GET_TARGET_VERSION, ANY },
    { DM_DEV_CREATE, DM_WRITE },
    { DM_TABLE_LOAD, DM_WRITE },
    { DM_TABLE_CLEAR, DM_WRITE },
    { DM_DEV_SUSPEND, DM_WRITE }, /* its number is resume's, too */
    { DM_DEV_REMOVE, DM_WRITE },
    { BLKGETSIZE64, DISK },
    { BLKGETSIZE, DISK },
    { BLKSSZGET, DISK },
    { BLKPBSZGET, DISK },
    { BLKROGET, DISK },
    { BLKRAGET, DISK },
    { BLKIOMIN, DISK },
    { BLKIOOPT, DISK },
    { BLKALIGNOFF, DISK },
    { LOOP_GET_STATUS64, DISK },
    { LOOP_GET_STATUS, DISK },
    { LOOP_SET_CAPACITY, KEYED },
    { BLKZEROOUT, FORMAT },
    { BLKFLSBUF, FORMAT },
    { TCGETS, ANY }, /* stdio asks once */
};

static const int keyctls[] = { KEYCTL_READ, KEYCTL_REVOKE, KEYCTL_UNLINK, KEYCTL_GET_KEYRING_ID };

static bool wanted(unsigned part, unsigned parts)
{
    return part == ANY || (part & parts) != 0;
}

/* Allows the call when its argument number `arg` is exactly that. */
static int allow_equal(scmp_filter_ctx f, int nr, unsigned int arg, scmp_datum_t value)
{
    const struct scmp_arg_cmp only = { .arg = arg, .op = SCMP_CMP_EQ, .datum_a = value };

    return seccomp_rule_add_array(f, SCMP_ACT_ALLOW, nr, 1, &only);
}

static int allow_calls(scmp_filter_ctx f, unsigned parts)
{
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(calls) && r == 0; i++) {
        if (wanted(calls[i].part, parts))
            r = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i].nr, 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(ioctls) && r == 0; i++) {
        if (wanted(ioctls[i].part, parts))
            r = allow_equal(f, SCMP_SYS(ioctl), 1, ioctls[i].request);
    }
    for (size_t i = 0; i < ARRAY_SIZE(keyctls) && r == 0; i++) {
        if (wanted(KEYED, parts))
            r = allow_equal(f, SCMP_SYS(keyctl), 0, (scmp_datum_t)keyctls[i]);
    }
    return r;
}

/* mmap and mprotect (the protection is the third argument of both): not writable and executable at
 * once. */
static int allow_memory(scmp_filter_ctx f)
{
    static const int map[] = { SCMP_SYS(mmap), SCMP_SYS(mprotect) };
    static const scmp_datum_t without[] = { PROT_EXEC, PROT_WRITE };
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(without) && r == 0; k++)
            r = seccomp_rule_add(f, SCMP_ACT_ALLOW, map[i], 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, without[k], 0));
    }
    return r;
}

int sandbox_enter(unsigned parts, struct error *err)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int r = -ENOMEM;

    if (f != NULL)
        r = allow_calls(f, parts);
    if (r == 0)
        r = allow_memory(f);
    if (r == 0)
        r = seccomp_load(f);
    seccomp_release(f);
    return r == 0 ? 0 : error_errno(err, -r, "install the system-call filter");
}

#endif
