/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's half against a played helper: a script that shows what it got and answers as it is
 * told. */
#include "common/base.h"
#include "crypt/client.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME "coffer-0123456789abcdef0123456789abcdef-01234567"
#define MAPPING(state)                                                                     \
    "{\"name\":\"" NAME                                                                    \
    "\",\"uuid\":\"u\",\"dev\":\"254:1\",\"backing\":\"7:0\",\"size\":1048576,\"open\":0," \
    "\"read_only\":false,\"discards\":false,\"state\":\"" state "\",\"why\":\"\"}"
#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct record record = {
    .id = "fast.01234567.0123456789abcdef0123456789abcdef",
    .name = "pvc",
    .uuid = "0a1b2c3d-4e5f-4607-8899-aabbccddeeff",
    .tenant = "lab",
    .size = MIB(64),
    .state = RECORD_READY,
    .fs = "ext4",
    .kms = "dev",
    .key_source = "vault",
    .created = "2026-11-22T01:02:03Z",
};

struct stage {
    struct tmpdir dir;
    char helper[600];
    struct crypt_client client;
    struct crypt_volume volume;
    int fd;
};

/* A helper that runs `script`; $1 is the verb, $D the test's directory. */
static void play(struct stage *s, const char *script)
{
    char text[2048];

    assert_true(snprintf(text, sizeof(text), "#!/bin/sh\nD='%s'\n%s\n", s->dir.path, script) <
                (int)sizeof(text));
    tmpdir_write(&s->dir, "helper", text, strlen(text));
    assert_int_equal(chmod(s->helper, 0700), 0);
}

static int stage_make(void **state)
{
    struct stage *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->dir = tmpdir_make();
    (void)snprintf(s->helper, sizeof(s->helper), "%s/helper", s->dir.path);
    s->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    s->client = (struct crypt_client){ .helper = s->helper };
    s->volume = (struct crypt_volume){ .dm_name = NAME,
                                       .record = &record,
                                       .device_fd = s->fd,
                                       .device = makedev(7, 0),
                                       .lock_fd = s->fd };
    *state = s;
    return 0;
}

static int stage_remove(void **state)
{
    struct stage *s = *state;

    (void)close(s->fd);
    tmpdir_remove(&s->dir);
    free(s);
    return 0;
}

static void expect_text(struct stage *s, const char *file, const char *part, bool there)
{
    AUTO_FREE char *text = tmpdir_read(&s->dir, file);

    if (text == NULL || (strstr(text, part) != NULL) != there)
        fail_msg("'%s' %s in: %s", part, there ? "isn't" : "is", text != NULL ? text : "(no file)");
}

static void open_passes_descriptors_and_request(void **state)
{
    struct stage *s = *state;
    struct mapping m = { .name = "" };

    play(s, "cat >$D/request; echo \"$0 $*\" >$D/argv; env >$D/env; for n in 0 3 4 5 6 7; do [ -e "
            "/proc/self/fd/$n ]"
            " && echo fd$n; done >$D/fds; echo '{\"mapping\":" MAPPING("ok") "}'");
    s->volume.read_only = true;
    assert_int_equal(crypt_open(&s->client, &s->volume, s->fd, deadline_in(20000), &m, NULL), 0);
    assert_true(m.dev == makedev(254, 1) && m.size == MIB(1) && m.state == MAPPING_OK);
    expect_text(s, "argv", "helper open\n", true);
    expect_text(s, "request", "\"name\":\"" NAME "\"", true);
    expect_text(s, "request", "\"device\":\"7:0\"", true);
    expect_text(s, "request", "\"read_only\":true", true);
    expect_text(s, "request", "\"uuid\":\"0a1b2c3d-", true);
    expect_text(s, "fds", "fd3\nfd4\nfd5\n", true);
    expect_text(s, "fds", "fd6", false);
    expect_text(s, "env", "DM_DISABLE_UDEV=1", true);
    expect_text(s, "env", "HOME=", false);
}

static void keyless_verbs_pass_only_the_lock(void **state)
{
    struct stage *s = *state;
    struct mapping m;

    play(s,
         "cat >$D/request; for n in 3 4 5 6; do [ -e /proc/self/fd/$n ] && echo fd$n; done >$D/fds;"
         "[ $1 = close ] && echo '{}' || echo '{\"mapping\":" MAPPING("ok") "}'");
    assert_int_equal(crypt_check(&s->client, &s->volume, deadline_in(20000), &m, NULL), 0);
    expect_text(s, "fds", "fd5\n", true);
    expect_text(s, "fds", "fd4", false);
    assert_int_equal(crypt_close(&s->client, NAME, "u", s->fd, deadline_in(20000), NULL), 0);
    expect_text(s, "request", "\"dm_uuid\":\"u\"", true);
    assert_int_equal(crypt_close(&s->client, NAME, NULL, s->fd, deadline_in(20000), NULL), 0);
    expect_text(s, "request", "dm_uuid", false);
}

static void format_returns_the_proof(void **state)
{
    struct stage *s = *state;
    struct mapping m;
    char digest[65] = "", mac[65] = "";

    play(s, "cat >$D/request; echo '{\"digest\":\"" HEX64 "\",\"mac\":\"" HEX64
            "\",\"mapping\":" MAPPING("ok") "}'");
    assert_int_equal(crypt_format(&s->client, &s->volume, RECORD_NEW, s->fd, deadline_in(20000),
                                  digest, mac, &m, NULL),
                     0);
    assert_string_equal(digest, HEX64);
    assert_string_equal(mac, HEX64);
    expect_text(s, "request", "\"stored_state\":\"new\"", true);
    play(s, "echo '{\"digest\":\"short\",\"mac\":\"" HEX64 "\",\"mapping\":" MAPPING("ok") "}'");
    digest[0] = 'x';
    assert_int_equal(crypt_format(&s->client, &s->volume, RECORD_NEW, s->fd, deadline_in(20000),
                                  digest, mac, &m, NULL),
                     -1);
    assert_int_equal(digest[0], 'x');
}

static void list_finds(void **state)
{
    struct stage *s = *state;
    AUTO_MAPPING_LIST struct mapping_list l = { .items = NULL, .n = 0 };

    play(s, "echo '{\"mappings\":[" MAPPING("zombie") "]}'");
    assert_int_equal(crypt_list(&s->client, deadline_in(20000), &l, NULL), 0);
    assert_int_equal(l.n, 1);
    assert_int_equal(mapping_find(&l, NAME)->state, MAPPING_ZOMBIE);
}

static void passphrase_gets_its_descriptor(void **state)
{
    struct stage *s = *state;
    int p[2];
    char text[16] = "";

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    play(s, "cat >$D/request; echo secret >&6; echo '{}'");
    assert_int_equal(
        crypt_passphrase(&s->client, &s->volume, s->fd, p[1], deadline_in(20000), NULL), 0);
    assert_int_equal(read(p[0], text, sizeof(text)), 7);
    assert_int_equal(close(p[0]) + close(p[1]), 0);
}

static void rescue_passes_a_private_key_and_no_pipe(void **state)
{
    struct stage *s = *state;
    int p[2];
    char text[16] = "";

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    play(s,
         "cat >$D/request; echo $1 >$D/argv; for n in 3 4 5 6 7 8; do [ -e /proc/self/fd/$n ] && "
         "echo fd$n; done >$D/fds; echo secret >&6; echo '{}'");
    s->volume.lock_fd = -1;
    assert_int_equal(crypt_rescue(&s->client, &s->volume, s->fd, p[1], deadline_in(20000), NULL),
                     0);
    assert_int_equal(read(p[0], text, sizeof(text)), 7);
    expect_text(s, "argv", "rescue\n", true);
    expect_text(s, "fds", "fd4\nfd6\nfd8\n", true);
    for (const char *const *other = (const char *const[]){ "fd3", "fd5", "fd7", NULL };
         *other != NULL; other++)
        expect_text(s, "fds", *other, false);
    assert_int_equal(close(p[0]) + close(p[1]), 0);
}

static void rekey_passes_both_keys_and_the_backup(void **state)
{
    struct stage *s = *state;
    char mac[65] = "x";

    play(s,
         "cat >$D/request; echo $1 >$D/argv; for n in 3 4 5 6 7 8; do [ -e /proc/self/fd/$n ] && "
         "echo fd$n; done >$D/fds; echo '{\"mac\":\"" HEX64 "\"}'");
    assert_int_equal(
        crypt_rekey(&s->client, &s->volume, s->fd, s->fd, s->fd, "", deadline_in(20000), mac, NULL),
        0);
    assert_string_equal(mac, HEX64);
    expect_text(s, "argv", "rekey\n", true);
    expect_text(s, "fds", "fd3\nfd4\nfd5\nfd6\nfd7\n", true);
    expect_text(s, "fds", "fd8", false);
    expect_text(s, "request", "\"uuid\":\"0a1b2c3d-", true);
    assert_int_equal(crypt_prune(&s->client, &s->volume, s->fd, deadline_in(20000), mac, NULL), 0);
    expect_text(s, "argv", "prune\n", true);
    expect_text(s, "fds", "fd3\nfd4\nfd5\n", true);
    expect_text(s, "fds", "fd6", false);
    expect_text(s, "fds", "fd7", false);
    play(s, "echo '{\"mac\":\"short\"}'");
    mac[0] = 'x';
    assert_int_equal(crypt_prune(&s->client, &s->volume, s->fd, deadline_in(20000), mac, NULL), -1);
    assert_int_equal(mac[0], 'x');
}

static void bad_answers_are_errors(void **state)
{
    static const struct {
        const char *script;
        enum error_code code;
        const char *says;
    } rows[] = {
        { "echo '{\"error\":{\"code\":\"DATA_LOSS\",\"message\":\"the header is bad\"}}'; exit 1",
          ERR_DATA_LOSS, "the header is bad" },
        { "echo '{\"error\":{\"code\":\"ABORTED\",\"message\":\"busy\"}}'", ERR_ABORTED, "busy" },
        { "echo '{\"error\":{\"code\":\"WHAT\",\"message\":\"x\"}}'; exit 1", ERR_INTERNAL, "x" },
        { "echo '{\"error\":7}'; exit 1", ERR_INTERNAL, "without saying why" },
        { "echo '{\"mapping\":" MAPPING("ok") "}'; exit 1", ERR_INTERNAL, "without saying why" },
        { "exit 2", ERR_INTERNAL, "ended before it answered, exit code 2" },
        { "echo nonsense", ERR_INTERNAL, "not valid JSON" },
        { "echo '{}'", ERR_INTERNAL, "no mapping" },
        { "echo '{\"mapping\":{}}'", ERR_INTERNAL, "mapping" },
        { "echo '{\"mapping\":" MAPPING("odd") "}'", ERR_INTERNAL, "state" },
        { "kill -9 $$", ERR_UNAVAILABLE, "signal 9" },
        { "kill -31 $$", ERR_INTERNAL, "sandbox refused" },
    };
    struct stage *s = *state;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct mapping m = { .size = 7 };
        struct error err = ERROR_INIT;

        play(s, rows[i].script);
        assert_int_equal(crypt_open(&s->client, &s->volume, s->fd, deadline_in(20000), &m, &err),
                         -1);
        assert_int_equal(m.size, 7);
        if (err.code != rows[i].code || strstr(err.msg, rows[i].says) == NULL)
            fail_msg("%s: %s", rows[i].script, err.msg);
    }
}

static void no_helper_or_no_time(void **state)
{
    struct stage *s = *state;
    struct mapping m;
    struct error err = ERROR_INIT;

    assert_int_equal(crypt_open(&s->client, &s->volume, s->fd, deadline_in(0), &m, &err), -1);
    assert_int_equal(err.code, ERR_DEADLINE);
    assert_int_equal(crypt_open(&s->client, &s->volume, s->fd, deadline_in(20000), &m, &err), -1);
    assert_non_null(strstr(err.msg, "coffer-crypt open"));
}

/* --- no more helpers at once than 2 per processor and 16 --- */

static void *one_list(void *arg)
{
    struct stage *s = arg;
    AUTO_MAPPING_LIST struct mapping_list l = { .items = NULL, .n = 0 };

    return (void *)(intptr_t)crypt_list(&s->client, deadline_in(60000), &l, NULL);
}

static void helpers_are_bounded(void **state)
{
    enum { CALLS = 40 };
    struct stage *s = *state;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN), limit = 2 * cpus < 16 ? 2 * cpus : 16;
    pthread_t threads[CALLS];
    AUTO_FREE char *counts = NULL;
    long most = 0;

    play(s, "mkdir $D/run 2>/dev/null; echo >$D/run/$$; ls $D/run | wc -l >>$D/counts; sleep 0.05; "
            "rm $D/run/$$;"
            " echo '{\"mappings\":[]}'");
    for (size_t i = 0; i < CALLS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_list, s), 0);
    for (size_t i = 0; i < CALLS; i++) {
        void *r = NULL;

        assert_int_equal(pthread_join(threads[i], &r), 0);
        assert_null(r);
    }
    counts = tmpdir_read(&s->dir, "counts");
    assert_non_null(counts);
    for (char *p = counts; *p != '\0'; p = strchr(p, '\n') + 1) {
        long n = strtol(p, NULL, 10);

        most = n > most ? n : most;
    }
    assert_true(most >= 1 && most <= limit);
}

/* Each allocation fails once: a request that lacks a field would be refused for another reason. */
static void out_of_memory_is_said_as_that(void **state)
{
    struct stage *s = *state;
    char digest[65], mac[65];
    struct mapping m;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    play(s, "case $(cat) in\n"
            "*'\"device\"'*'\"read_only\"'*'\"stored_state\"'*'\"wait_ms\"'*)\n"
            "echo '{\"mapping\":" MAPPING(
                "ok") ",\"digest\":\"" HEX64 "\",\"mac\":\"" HEX64 "\"}';;\n"
                      "*) echo '{\"error\":{\"code\":\"INVALID_ARGUMENT\",\"message\":\"a "
                      "field\"}}';; esac");
    for (unsigned int n = 1;; n++) {
        struct error err = ERROR_INIT;
        int rc;

        nomem_arm(n);
        rc = crypt_format(&s->client, &s->volume, RECORD_NEW, s->fd, deadline_in(20000), digest,
                          mac, &m, &err);
        if (!nomem_disarm()) {
            assert_int_equal(rc, 0);
            assert_true(n > 20);
            return;
        }
        if (rc != 0 && err.code != ERR_EXHAUSTED)
            fail_msg("allocation %u: %s: %s", n, error_code_name(err.code), err.msg);
    }
}

/* Also when it is the answer of a helper that failed. */
static void out_of_memory_for_a_refusal(void **state)
{
    struct stage *s = *state;
    bool happened = true;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    play(s, "echo '{\"error\":{\"code\":\"ABORTED\",\"message\":\"busy\"}}'; exit 1");
    for (unsigned int n = 1; happened; n++) {
        struct error err = ERROR_INIT;
        struct mapping m;

        nomem_arm(n);
        assert_int_equal(crypt_open(&s->client, &s->volume, s->fd, deadline_in(20000), &m, &err),
                         -1);
        happened = nomem_disarm();
        if (err.code != ERR_ABORTED && !error_is_memory(&err))
            fail_msg("allocation %u: %s: %s", n, error_code_name(err.code), err.msg);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, stage_make, stage_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(open_passes_descriptors_and_request),
        TEST(keyless_verbs_pass_only_the_lock),
        TEST(format_returns_the_proof),
        TEST(list_finds),
        TEST(passphrase_gets_its_descriptor),
        TEST(rescue_passes_a_private_key_and_no_pipe),
        TEST(rekey_passes_both_keys_and_the_backup),
        TEST(bad_answers_are_errors),
        TEST(out_of_memory_is_said_as_that),
        TEST(out_of_memory_for_a_refusal),
        TEST(no_helper_or_no_time),
        TEST(helpers_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
