/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/proc.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/parse.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL(script) ((const char *const[]){ "/bin/sh", "-c", (script), NULL })

struct lines {
    struct strbuf text; /* "|" after each */
};

static void keep_line(void *ctx, const char *line)
{
    strbuf_addf(&((struct lines *)ctx)->text, "%s|", line);
}

static size_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

static void test_output(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("printf 'out%s' \"$0\"; exit 7"),
                                    .max_output = 100,
                                    .limit_ms = 10000 };

    assert_works(proc_run(&spec, &r, &err));
    assert_int_equal(r.exit_code, 7);
    assert_int_equal(r.signal, 0);
    assert_string_equal(strbuf_text(&r.output), "out/bin/sh");
    assert_string_equal(r.last_line, "");
}

static void test_nothing(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("cat; echo lost"), .limit_ms = 10000 };

    assert_works(proc_run(&spec, &r, &err)); /* stdin is /dev/null, stdout too */
    assert_int_equal(r.exit_code, 0);
    assert_string_equal(strbuf_text(&r.output), "");
}

static void test_input(void **state UNUSED)
{
    static char big[60 * 1024];
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    struct proc_spec spec = { .argv = SHELL("sleep 0.1; cat"),
                              .input = big,
                              .input_len = sizeof(big),
                              .max_output = sizeof(big),
                              .limit_ms = 10000 };

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)('a' + i % 23);
    assert_works(proc_run(&spec, &r, &err));
    assert_int_equal(r.output.len, sizeof(big));
    assert_memory_equal(strbuf_text(&r.output), big, sizeof(big));
    spec.input_len++;
    assert_fails(proc_run(&spec, &r, &err), ERR_INTERNAL,
                 "the input of '/bin/sh' is longer than 61440 bytes");
}

static void test_input_not_read(void **state UNUSED)
{
    static char big[60 * 1024];
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("exec 0<&-; sleep 0.1; exit 3"),
                                    .input = big,
                                    .input_len = sizeof(big),
                                    .limit_ms = 10000 };
    sigset_t pending;

    (void)signal(SIGPIPE, SIG_DFL); /* would end this program */
    for (int i = 0; i < 5; i++) {
        assert_works(proc_run(&spec, &r, &err));
        assert_int_equal(r.exit_code, 3);
    }
    assert_int_equal(sigpending(&pending), 0);
    assert_false(sigismember(&pending, SIGPIPE));
}

static void test_output_limit(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("head -c 300000 /dev/zero | tr '\\0' x"),
                                    .max_output = 1000,
                                    .limit_ms = 10000 };

    assert_works(proc_run(&spec, &r, &err));
    assert_int_equal(r.exit_code, 0); /* the child was not stopped by it */
    assert_int_equal(r.output.len, 1000);
    assert_fails(strbuf_check(&r.output, "the reply", &err), ERR_EXHAUSTED,
                 "the reply is longer than 1000 bytes");
}

static void run_lines(const char *script, const char *wanted, const char *last)
{
    struct lines l = { .text = STRBUF_INIT(100000) };
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = {
        .argv = SHELL(script), .limit_ms = 10000, .on_line = keep_line, .ctx = &l
    };

    assert_works(proc_run(&spec, &r, &err));
    assert_string_equal(strbuf_text(&l.text), wanted);
    assert_string_equal(r.last_line, last);
    strbuf_release(&l.text);
}

static void test_stderr(void **state UNUSED)
{
    char line[2000], wanted[2100];

    run_lines("true", "", "");
    run_lines("printf 'one\\ntwo\\n\\n' >&2", "one|two||", "two");
    run_lines("printf 'one\\ntail' >&2", "one|tail|", "tail");
    run_lines("printf 'a\\tb\\033[1m\\0c\\n' >&2", "a?b?[1m?c|", "a?b?[1m?c");
    run_lines("printf 'caf\\303\\251\\n' >&2", "caf\xc3\xa9|", "caf\xc3\xa9");
    run_lines("printf 'caf\\303\\n' >&2", "caf?|", "caf?");
    memset(line, 'y', 1023);
    line[1023] = '\0';
    (void)snprintf(wanted, sizeof(wanted), "%s|end|", line);
    run_lines("head -c 5000 /dev/zero | tr '\\0' y >&2; printf '\\nend\\n' >&2", wanted, "end");
    line[255] = '\0';
    (void)snprintf(wanted, sizeof(wanted), "%s%s|", line, "yyy");
    run_lines("head -c 258 /dev/zero | tr '\\0' y >&2", wanted, line);
}

/* Numbers in use without O_CLOEXEC, as foreign code may leave them: below, between and above. */
static void clutter(bool make)
{
    for (int fd = 20; fd < 30; fd++)
        (void)(make ? dup2(STDIN_FILENO, fd) : close(fd));
    (void)(make ? dup2(STDIN_FILENO, 200) : close(200));
}

static void run_with_fds(const char *const *argv, const struct proc_fd *fds, size_t n,
                         const char *wanted)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = {
        .argv = argv, .max_output = 1000, .limit_ms = 10000, .fds = fds, .n_fds = n
    };

    assert_works(proc_run(&spec, &r, &err));
    assert_string_equal(strbuf_text(&r.output), wanted);
}

/* Every descriptor the child has, by number and what it is. */
static void test_descriptors(void **state UNUSED)
{
    static const char *const list[] = { "/bin/ls", "-mv", "/proc/self/fd", NULL };
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();

    tmpdir_write(&t, "a", "A", 1);
    tmpdir_write(&t, "b", "B", 1);
    clutter(true);
    AUTO_CLOSE int low_a = open(tmpdir_path(&t, "a"), O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int low_b = open(tmpdir_path(&t, "b"), O_RDONLY | O_CLOEXEC);

    assert_int_equal(dup3(low_a, 22, O_CLOEXEC), 22);
    assert_int_equal(dup3(low_b, 25, O_CLOEXEC), 25);
    /* each other's numbers, and one that is in use: nothing may be lost on the way */
    const struct proc_fd fds[] = { { 22, 25 }, { 25, 22 }, { 22, 4 }, { 25, 63 } };

    run_with_fds(SHELL("cat <&4; cat /proc/self/fd/22 /proc/self/fd/25 /proc/self/fd/63"), fds,
                 ARRAY_SIZE(fds), "ABAB");
    /* 3 is the directory that ls reads */
    run_with_fds(list, fds, ARRAY_SIZE(fds), "0, 1, 2, 3, 4, 22, 25, 63\n");
    run_with_fds(list, NULL, 0, "0, 1, 2, 3\n");
    clutter(false);
}

static void test_closed_standard(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("cat; echo end"),
                                    .input = "in ",
                                    .input_len = 3,
                                    .max_output = 100,
                                    .limit_ms = 10000 };
    int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100);
    struct error why = ERROR_INIT;
    int rc;

    (void)close(STDIN_FILENO); /* the next pipe gets number 0 */
    rc = proc_run(&spec, &r, &why);
    if (saved >= 0) {
        (void)dup2(saved, STDIN_FILENO);
        (void)close(saved);
    }
    assert_int_equal(rc, 0);
    assert_string_equal(strbuf_text(&r.output), "in end\n");
}

static void test_environment(void **state UNUSED)
{
    static const char *const env[] = { "ONLY=this", NULL };
    static const char *const argv[] = { "/usr/bin/env", NULL };
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 }, own = { .exit_code = 9 };
    struct proc_spec spec = { .argv = argv, .max_output = 1000, .limit_ms = 10000 };

    (void)setenv("A_TOKEN", "x", 1);
    assert_works(proc_run(&spec, &r, &err));
    assert_string_equal(strbuf_text(&r.output),
                        "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nDM_DISABLE_UDEV=1\n");
    spec.env = env;
    assert_works(proc_run(&spec, &own, &err));
    assert_string_equal(strbuf_text(&own.output), "ONLY=this\n");
}

/* A child that may outlive us goes on when nobody reads what it says. */
static void test_outlives_us(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("kill -s PIPE $$; exit 3"),
                                    .outlives_us = true,
                                    .limit_ms = 60000 };

    (void)signal(SIGPIPE, SIG_IGN);
    int result = proc_run(&spec, &r, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    assert_int_equal(result, 0);
    assert_int_equal(r.signal, 0);
    assert_int_equal(r.exit_code, 3);
}

static void test_signals_reset(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    static const char *const argv[] = { "/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status",
                                        NULL };
    const struct proc_spec spec = { .argv = argv, .max_output = 1000, .limit_ms = 10000 };
    sigset_t all, old;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    assert_works(proc_run(&spec, &r, &err));
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
    /* 32 and 33 are glibc's own, for threads, and each program sets them anew */
    assert_string_equal(strbuf_text(&r.output),
                        "SigBlk:\t0000000000000000\nSigIgn:\t0000000180000000\n");
}

static void test_killed_by_signal(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("kill -TERM $$"), .limit_ms = 10000 };

    assert_works(proc_run(&spec, &r, &err));
    assert_int_equal(r.exit_code, -1);
    assert_int_equal(r.signal, SIGTERM);
}

static void test_limit(void **state UNUSED)
{
    struct lines l = { .text = STRBUF_INIT(1000) };
    struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("trap '' TERM; echo busy >&2; exec sleep 60"),
                                    .limit_ms = 300,
                                    .on_line = keep_line,
                                    .ctx = &l };
    uint64_t before = clock_ms();

    assert_fails(proc_run(&spec, &r, &err), ERR_DEADLINE,
                 "'/bin/sh' did not end within 300 ms and was killed; it last said: busy");
    assert_int_equal(r.exit_code, 9); /* untouched */
    assert_true(clock_ms() - before >= 300);
    assert_true(clock_ms() - before < 55000);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* reaped */
    strbuf_release(&l.text);
}

/* A grandchild holds the pipes open; the child's end is what counts. */
static void test_grandchild(void **state UNUSED)
{
    struct lines l = { .text = STRBUF_INIT(1000) };
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    const struct proc_spec spec = { .argv = SHELL("sleep 100 & echo $!; echo said >&2; exit 5"),
                                    .max_output = 100,
                                    .limit_ms = 60000,
                                    .on_line = keep_line,
                                    .ctx = &l };
    uint64_t before = clock_ms(), pid = 0;

    assert_works(proc_run(&spec, &r, &err));
    assert_true(clock_ms() - before < 50000);
    assert_int_equal(r.exit_code, 5);
    assert_string_equal(r.last_line, "said");
    r.output.buf[strcspn(r.output.buf, "\n")] = '\0';
    assert_int_equal(parse_u64(r.output.buf, &pid), 0);
    (void)kill((pid_t)pid, SIGKILL);
    strbuf_release(&l.text);
}

static void test_refused(void **state UNUSED)
{
    static const char *const gone[] = { "/no/such/program", NULL };
    static const char *const relative[] = { "sh", NULL };
    const struct proc_fd low = { 1, 2 }, high = { 1, 64 }, closed = { 999, 3 };
    struct proc_spec spec = { .argv = gone, .limit_ms = 1000 };
    struct proc_result r = { .exit_code = 9 };

    assert_fails(proc_run(&spec, &r, &err), ERR_INTERNAL,
                 "start '/no/such/program': No such file or directory");
    spec.argv = relative;
    assert_fails(proc_run(&spec, &r, &err), ERR_INTERNAL,
                 "a program must be named by its absolute path");
    spec.argv = SHELL("true");
    spec.n_fds = 1;
    spec.fds = &low;
    assert_fails(proc_run(&spec, &r, &err), ERR_INTERNAL,
                 "'/bin/sh' can't get descriptor 1 as its 2");
    spec.fds = &high;
    assert_fails(proc_run(&spec, &r, &err), ERR_INTERNAL,
                 "'/bin/sh' can't get descriptor 1 as its 64");
    spec.fds = &closed;
    assert_fails(proc_run(&spec, &r, &err), ERR_INTERNAL,
                 "duplicate descriptor 999 for a child: Bad file descriptor");
    spec.n_fds = 0;
    spec.limit_ms = 0;
    assert_fails(proc_run(&spec, &r, &err), ERR_INTERNAL, "'/bin/sh' has no time limit");
    assert_int_equal(r.exit_code, 9);
}

static void *run_many(void *arg)
{
    char script[64];

    for (int i = 0; i < 15; i++) {
        AUTO_PROC_RESULT struct proc_result r = { .exit_code = 99 };
        (void)snprintf(script, sizeof(script), "cat; exit %d", i);
        const struct proc_spec spec = {
            .argv = SHELL(script), .input = arg, .input_len = 1, .max_output = 10, .limit_ms = 30000
        };

        if (proc_run(&spec, &r, NULL) < 0 || r.exit_code != i ||
            strcmp(strbuf_text(&r.output), (const char *)arg) != 0)
            return arg;
    }
    return NULL;
}

static void test_threads(void **state UNUSED)
{
    static char names[8][2] = { "0", "1", "2", "3", "4", "5", "6", "7" };
    pthread_t t[8];
    size_t before = count_fds();

    for (size_t i = 0; i < ARRAY_SIZE(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, run_many, names[i]), 0);
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        void *bad = NULL;

        assert_int_equal(pthread_join(t[i], &bad), 0);
        assert_null(bad);
    }
    assert_int_equal(count_fds(), before);
}

/* Whatever fails, no descriptor and no child stays. */
/* It may run before it is told, so it waits for that, a while. */
static void test_dies_before_us(void **state UNUSED)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = 9 };
    char ours[16], wanted[24];

    assert_works(fs_read_line("/proc/self/oom_score_adj", ours, sizeof(ours), &err));
    long score = strtol(ours, NULL, 10) + 100;
    (void)snprintf(wanted, sizeof(wanted), "%ld", score < 1000 ? score : 1000);
    const char *const argv[] = { "/bin/sh",
                                 "-c",
                                 "i=0; while [ $i -lt 1000 ]; do"
                                 " [ \"$(cat /proc/$$/oom_score_adj)\" = \"$1\" ] && exit 0;"
                                 " i=$((i + 1)); sleep 0.01; done; exit 1",
                                 "sh",
                                 wanted,
                                 NULL };
    const struct proc_spec spec = { .argv = argv, .limit_ms = 300000 };

    assert_works(proc_run(&spec, &r, &err));
    assert_int_equal(r.exit_code, 0);
}

static void test_no_leak(void **state UNUSED)
{
    size_t before = count_fds();

    test_refused(NULL);
    test_output(NULL);
    test_input_not_read(NULL);
    test_limit(NULL);
    assert_int_equal(count_fds(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output),        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_input),         cmocka_unit_test(test_input_not_read),
        cmocka_unit_test(test_output_limit),  cmocka_unit_test(test_stderr),
        cmocka_unit_test(test_descriptors),   cmocka_unit_test(test_closed_standard),
        cmocka_unit_test(test_environment),   cmocka_unit_test(test_outlives_us),
        cmocka_unit_test(test_signals_reset), cmocka_unit_test(test_killed_by_signal),
        cmocka_unit_test(test_limit),         cmocka_unit_test(test_grandchild),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_threads),
        cmocka_unit_test(test_no_leak),       cmocka_unit_test(test_dies_before_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
