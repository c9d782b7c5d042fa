/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/sandbox.h"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#ifdef COFFER_SANITIZER

int main(void)
{
    puts("ok 1 - sandbox # SKIP the filter isn't installed in a sanitizer build");
    return 0;
}

#else

#define ALL_PARTS (SANDBOX_DM_WRITE | SANDBOX_DISK | SANDBOX_KEYED | SANDBOX_FORMAT)

/* The signal that ended a child which did `act` inside the sandbox; 0 when it came to its end. */
static int signal_of(unsigned parts, void (*act)(void))
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        if (sandbox_enter(parts, NULL) < 0)
            _exit(99);
        act();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void make_socket(void)
{
    (void)socket(AF_UNIX, SOCK_STREAM, 0);
}
static void make_alg_socket(void)
{
    (void)socket(AF_ALG, SOCK_SEQPACKET, 0);
}
static void make_child(void)
{
    (void)fork();
}
static void start_program(void)
{
    (void)execl("/bin/true", "true", NULL);
}
static void trace(void)
{
    (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static void take_it_back(void)
{
    (void)prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);
}
static void remove_all(void)
{
    struct dm_ioctl d = { .version = { 4, 0, 0 } };

    (void)ioctl(-1, DM_REMOVE_ALL, &d);
}
static void remove_one(void)
{
    struct dm_ioctl d = { .version = { 4, 0, 0 } };

    (void)ioctl(-1, DM_DEV_REMOVE, &d);
}
static void list_devices(void)
{
    struct dm_ioctl d = { .version = { 4, 0, 0 } };

    (void)ioctl(-1, DM_LIST_DEVICES, &d);
}
static void discard(void)
{
    uint64_t range[2] = { 0, 4096 };

    (void)ioctl(-1, BLKDISCARD, range);
}
static void add_a_key(void)
{
    (void)syscall(SYS_add_key, "logon", "x:y", "z", 1, -1);
}
static void set_keyring_permissions(void)
{
    (void)syscall(SYS_keyctl, 5, 0, 0); /* KEYCTL_SETPERM */
}
static void map_writable_code(void)
{
    (void)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void make_code_writable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}
static void map_memory(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED || mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0)
        _exit(98);
}
static void read_a_file(void)
{
    char b;
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, &b, 1) != 1 || close(fd) < 0)
        _exit(98);
}

static void every_verb_is_denied(void **state)
{
    static void (*const acts[])(void) = {
        make_socket,        make_alg_socket, make_child, start_program,           trace,
        take_it_back,       remove_all,      discard,    set_keyring_permissions, map_writable_code,
        make_code_writable,
    };

    for (size_t i = 0; i < ARRAY_SIZE(acts); i++)
        assert_int_equal(signal_of(ALL_PARTS, acts[i]), SIGSYS);
}

static void every_verb_may(void **state)
{
    static void (*const acts[])(void) = { list_devices, map_memory, read_a_file };

    for (size_t i = 0; i < ARRAY_SIZE(acts); i++)
        assert_int_equal(signal_of(0, acts[i]), 0);
}

static void some_verbs_may(void **state)
{
    static const struct {
        void (*act)(void);
        unsigned part;
    } rows[] = {
        { remove_one, SANDBOX_DM_WRITE },
        { add_a_key, SANDBOX_KEYED },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(signal_of(rows[i].part, rows[i].act), 0);
        assert_int_equal(signal_of(ALL_PARTS & ~rows[i].part, rows[i].act), SIGSYS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verb_is_denied),
        cmocka_unit_test(every_verb_may),
        cmocka_unit_test(some_verbs_may),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
