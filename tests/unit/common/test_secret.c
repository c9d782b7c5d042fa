/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/secret.h"

#include "tests/support/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK_LEN 32
#define SCAN_MAX MIB(64) /* bigger mappings are the sanitizer's shadow */

static struct secret *make(size_t capacity)
{
    struct error err = ERROR_INIT;
    struct secret *s = secret_new(capacity, &err);

    if (s == NULL)
        fail_msg("secret_new: %s", err.msg);
    return s;
}

/* Runs fn in a forked child; its wait status. */
static int in_child(void (*fn)(void *), void *arg)
{
    int status = -1;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit none = { 0, 0 };

        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGSEGV, SIG_DFL);
        fn(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_room(void **state UNUSED)
{
    AUTO_SECRET struct secret *s = make(32);
    struct error why = ERROR_INIT;

    assert_int_equal(secret_capacity(s), 32);
    assert_int_equal(secret_len(s), 0);
    memset(secret_bytes(s), 'x', 32);
    secret_set_len(s, 32);
    assert_ptr_equal(secret_data(s), secret_bytes(s));
    assert_int_equal(secret_len(s), 32);
    assert_null(secret_new(0, &why));
    assert_int_equal(why.code, ERR_EXHAUSTED);
    assert_null(secret_new(65537, &why));
    assert_string_equal(why.msg, "no room for a secret of 65537 bytes");
    secret_free(NULL);
    secret_free(make(65536));
}

static void set_too_long(void *s)
{
    secret_set_len(s, 33);
}

static void touch_guard(void *s)
{
    ((volatile unsigned char *)secret_bytes(s))[32] = 1;
}

static void test_too_far(void **state UNUSED)
{
    AUTO_SECRET struct secret *s = make(32);
    int status = in_child(set_too_long, s);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    status = in_child(touch_guard, s);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void must_be_zero(void *s)
{
    for (size_t i = 0; i < 32; i++)
        if (secret_bytes(s)[i] != 0)
            _exit(1);
    secret_free(s); /* and the description still works there */
}

static void test_fork_wipes(void **state UNUSED)
{
    AUTO_SECRET struct secret *s = make(32);
    int status;

    assert_works(secret_random(s, 32, &err));
    status = in_child(must_be_zero, s);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* VmFlags of the mapping that holds `at`. */
static void read_flags(const void *at, char *ret, size_t size)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    bool here = false;

    assert_non_null(f);
    ret[0] = '\0';
    while (fgets(line, sizeof(line), f) != NULL) {
        unsigned long from, to;

        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (uintptr_t)at >= from && (uintptr_t)at < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            (void)snprintf(ret, size, "%s", line);
    }
    (void)fclose(f);
}

static void test_page_flags(void **state UNUSED)
{
    AUTO_SECRET struct secret *s = make(100);
    char flags[512];

    read_flags(secret_data(s), flags, sizeof(flags));
    assert_non_null(strstr(flags, " dd")); /* not in a core dump */
    assert_non_null(strstr(flags, " wf")); /* wiped on fork */
}

/* How often the marker (kept inverted, so that this program doesn't find itself) is in one range.
 */
static size_t count_in(int mem, unsigned long from, unsigned long to, const unsigned char *inverted)
{
    static unsigned char window[1 << 16];
    size_t found = 0;

    for (unsigned long at = from; at < to;) {
        size_t want = to - at < sizeof(window) ? to - at : sizeof(window);
        ssize_t n = pread(mem, window, want, (off_t)at);

        if (n < MARK_LEN)
            break;
        for (size_t i = 0; i + MARK_LEN <= (size_t)n; i++) {
            size_t k = 0;

            while (k < MARK_LEN && window[i + k] == (unsigned char)~inverted[k])
                k++;
            found += k == MARK_LEN;
        }
        explicit_bzero(window, sizeof(window));
        at += (size_t)n < want ? want : want - (want == sizeof(window) ? MARK_LEN : 0);
    }
    return found;
}

static size_t count_in_memory(const unsigned char *inverted)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[512];
    size_t found = 0;

    assert_non_null(maps);
    assert_true(mem >= 0);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from, to;
        char mode[5];

        if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) == 3 && mode[1] == 'w' &&
            to - from <= SCAN_MAX)
            found += count_in(mem, from, to, inverted);
    }
    (void)fclose(maps);
    (void)close(mem);
    return found;
}

static void test_free_leaves_nothing(void **state UNUSED)
{
    unsigned char inverted[MARK_LEN];
    struct secret *s = make(MARK_LEN), *hex = make(2 * MARK_LEN);

    assert_works(secret_random(s, MARK_LEN, &err));
    for (size_t i = 0; i < MARK_LEN; i++)
        inverted[i] = (unsigned char)~secret_data(s)[i];
    assert_works(secret_hex(hex, s, &err));
    assert_int_equal(count_in_memory(inverted), 1); /* the search does find it, in one place only */
    secret_free(s);
    assert_int_equal(count_in_memory(inverted), 0);
    for (size_t i = 0; i < MARK_LEN; i++)
        inverted[i] = (unsigned char)~secret_data(hex)[i];
    assert_int_equal(count_in_memory(inverted), 1);
    secret_free(hex);
    assert_int_equal(count_in_memory(inverted), 0);
}

static void test_equal(void **state UNUSED)
{
    AUTO_SECRET struct secret *a = make(8), *b = make(16);

    memcpy(secret_bytes(a), "12345678", 8);
    memcpy(secret_bytes(b), "12345678", 8);
    secret_set_len(a, 8);
    secret_set_len(b, 8);
    assert_true(secret_equal(a, b));
    secret_bytes(b)[7] = '9';
    assert_false(secret_equal(a, b));
    secret_set_len(a, 7);
    assert_false(secret_equal(a, b));
    secret_set_len(b, 7);
    assert_true(secret_equal(a, b));
    secret_set_len(a, 0);
    secret_set_len(b, 0);
    assert_true(secret_equal(a, b));
}

static void test_random_and_hex(void **state UNUSED)
{
    AUTO_SECRET struct secret *a = make(32), *b = make(32), *hex = make(64), *small = make(63);

    assert_works(secret_random(a, 32, &err));
    assert_works(secret_random(b, 32, &err));
    assert_false(secret_equal(a, b));
    assert_fails(secret_random(a, 33, &err), ERR_INTERNAL,
                 "a secret of 32 bytes can't hold 33 random ones");
    memcpy(secret_bytes(a), "\x00\x01\x7f\x80\xab\xff", 6);
    secret_set_len(a, 6);
    assert_works(secret_hex(hex, a, &err));
    assert_int_equal(secret_len(hex), 12);
    assert_memory_equal(secret_data(hex), "00017f80abff", 12);
    assert_works(secret_hex(hex, b, &err)); /* exactly as much as fits: the guard is right behind */
    assert_fails(secret_hex(small, b, &err), ERR_INTERNAL,
                 "a secret of 63 bytes can't hold 64 hex digits");
}

static void harden(void *unused UNUSED)
{
    struct error err = ERROR_INIT;
    struct rlimit now = { 1, 1 };

    if (secret_harden_process(&err) < 0 || getrlimit(RLIMIT_CORE, &now) < 0)
        _exit(1);
    if (now.rlim_cur != 0 || now.rlim_max != 0)
        _exit(2);
#ifndef COFFER_SANITIZER
    if (prctl(PR_GET_DUMPABLE, 0L, 0L, 0L, 0L) != 0)
        _exit(3);
#endif
}

static void test_harden(void **state UNUSED)
{
    int status = in_child(harden, NULL);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_too_far),
        cmocka_unit_test(test_fork_wipes),
        cmocka_unit_test(test_page_flags),
        cmocka_unit_test(test_free_leaves_nothing),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_random_and_hex),
        cmocka_unit_test(test_harden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
