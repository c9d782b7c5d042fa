/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/log.h"

#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"
#include "tests/support/unit.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <sys/socket.h>
#include <unistd.h>

/* A datagram socket as stderr: one write is one message. */
static int catcher = -1, old_stderr = -1;

static int setup(void **state UNUSED)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -1;
    old_stderr = dup(STDERR_FILENO);
    (void)dup2(pair[1], STDERR_FILENO);
    (void)close(pair[1]);
    catcher = pair[0];
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    return 0;
}

static int teardown(void **state UNUSED)
{
    (void)dup2(old_stderr, STDERR_FILENO);
    (void)close(old_stderr);
    (void)close(catcher);
    return 0;
}

/* The next line, without its newline; NULL: none was written. */
static const char *caught(void)
{
    static char buf[2 * PIPE_BUF];
    ssize_t n = recv(catcher, buf, sizeof(buf) - 1, 0);

    if (n < 0)
        return NULL;
    assert_true(n > 0 && n <= PIPE_BUF);
    assert_int_equal(buf[n - 1], '\n');
    buf[n - 1] = '\0';
    assert_true(utf8_valid(buf, strlen(buf)));
    return buf;
}

/* What follows the head of a text line. */
static const char *caught_text(void)
{
    const char *line = caught();

    assert_non_null(line);
    line = strstr(line, "] ");
    assert_non_null(line);
    return line + 2;
}

static void test_head(void **state UNUSED)
{
    regex_t re;
    const char *line;

    assert_int_equal(regcomp(&re,
                             "^W[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6} [0-9]+ "
                             "test_log\\.c:[0-9]+\\] \"volume staged\" id=\"a\\.b\" ms=12$",
                             REG_EXTENDED),
                     0);
    log_warn("volume staged", KV("id", "a.b"), KV("ms", 12));
    line = caught();
    if (line == NULL || regexec(&re, line, 0, NULL, 0) != 0)
        fail_msg("%s", line);
    regfree(&re);
    assert_null(caught());
}

static void test_types(void **state UNUSED)
{
    const char *none = NULL;
    char array[] = "arr";
    const bool yes = true;

    log_info("m", KV("i", -5), KV("u", 5u), KV("l", INT64_MIN), KV("z", (size_t)UINT64_MAX),
             KV("b", yes), KV("c", (unsigned char)7), KV("n", none), KV("a", (char *)array));
    assert_string_equal(caught_text(),
                        "\"m\" i=-5 u=5 l=-9223372036854775808 z=18446744073709551615 "
                        "b=true c=7 n=\"\" a=\"arr\"");
    log_info("bare");
    assert_string_equal(caught_text(), "\"bare\"");
}

static void test_levels(void **state UNUSED)
{
    log_debug("no");
    assert_null(caught());
    assert_works(log_setup_by_name("debug", "text", &err));
    log_debug("yes");
    assert_string_equal(caught_text(), "\"yes\"");
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    log_warn("no");
    assert_null(caught());
    log_error("yes");
    assert_non_null(caught());
    log_audit(KV("action", "look"));
    assert_string_equal(caught_text(), "\"audit\" action=\"look\"");
    assert_fails(log_setup_by_name("Debug", "text", &err), ERR_INVALID,
                 "log level 'Debug' is none of error, warn, info, debug");
    assert_fails(log_setup_by_name("debug", "xml", &err), ERR_INVALID,
                 "log format 'xml' is neither text nor json");
    assert_false(log_enabled(LOG_LEVEL_WARN));
    assert_works(log_setup_by_name("info", "json", &err));
    log_info("yes");
    assert_int_equal(caught()[0], '{');
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
}

static void test_escapes(void **state UNUSED)
{
    log_info("m", KV("v", "a\"b\\c\nd\te\x1b[31m\x7f\xc2\x9b\xc3\xa9\xff\xe2\x82"));
    assert_string_equal(caught_text(),
                        "\"m\" v=\"a\\\"b\\\\c\\nd\\u0009e\\u001b[31m\\u007f\\u009b\xc3\xa9"
                        "\\ufffd\\ufffd\\ufffd\"");
    log_info("m", KV("v", "a\xe2\x80\xae\xe2\x80\xa8\xe2\x81\xa9\xe2\x82\xac"));
    assert_string_equal(caught_text(), "\"m\" v=\"a\\u202e\\u2028\\u2069\xe2\x82\xac\"");
}

static void test_cut_value(void **state UNUSED)
{
    char value[1100], wanted[1200];

    memset(value, 'x', sizeof(value));
    value[1024] = '\0';
    (void)snprintf(wanted, sizeof(wanted), "\"m\" v=\"%.1024s\"", value);
    log_info("m", KV("v", value));
    assert_string_equal(caught_text(), wanted);
    value[1024] = 'x';
    value[1025] = '\0';
    (void)snprintf(wanted, sizeof(wanted), "\"m\" v=\"%.1024s...\" w=1", value);
    log_info("m", KV("v", value), KV("w", 1));
    assert_string_equal(caught_text(), wanted);
    memcpy(value + 1023, "\xe2\x82\xac", 4); /* a character over the edge goes whole */
    (void)snprintf(wanted, sizeof(wanted), "\"m\" v=\"%.1023s...\"", value);
    log_info("m", KV("v", value));
    assert_string_equal(caught_text(), wanted);
}

static void test_cut_line(void **state UNUSED)
{
    char nasty[513];
    const char *line;

    memset(nasty, 1, sizeof(nasty) - 1); /* six bytes each when escaped */
    nasty[sizeof(nasty) - 1] = '\0';
    log_info("m", KV("a", nasty), KV("b", nasty), KV("c", 1));
    line = caught_text();
    assert_memory_equal(line, "\"m\" a=\"\\u0001", 13);
    assert_null(strstr(line, " b="));
    assert_null(strstr(line, " c="));
    assert_string_equal(line + strlen(line) - 10, "\" cut=true");
}

static json_t *caught_json(void)
{
    const char *line = caught();
    json_t *obj = NULL;

    assert_non_null(line);
    assert_works(json_parse(line, strlen(line), "line", &obj, &err));
    return obj;
}

static void test_json(void **state UNUSED)
{
    char nasty[513];
    const char *level = NULL, *msg = NULL, *v = NULL, *caller = NULL, *ts = NULL;
    int pid = 0, n = 0, b = 0, cut = 0;
    const bool yes = true;

    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("hello \"you\"", KV("v", "a\n\"\\\x01\xff"), KV("n", -3), KV("b", yes));
    AUTO_JSON json_t *obj = caught_json();

    assert_int_equal(json_unpack(obj, "{s:s, s:s, s:i, s:s, s:s, s:s, s:i, s:b !}", "ts", &ts,
                                 "level", &level, "pid", &pid, "caller", &caller, "msg", &msg, "v",
                                 &v, "n", &n, "b", &b),
                     0);
    assert_string_equal(level, "info");
    assert_string_equal(msg, "hello \"you\"");
    assert_string_equal(v, "a\n\"\\\x01\xef\xbf\xbd");
    assert_int_equal(pid, getpid());
    assert_int_equal(n, -3);
    assert_int_equal(b, 1);
    assert_memory_equal(caller, "test_log.c:", 11);
    assert_int_equal(strlen(ts), strlen("2026-11-23T14:05:09.123456Z"));

    memset(nasty, 2, sizeof(nasty) - 1);
    nasty[sizeof(nasty) - 1] = '\0';
    log_info("m", KV("a", nasty), KV("b", nasty), KV("c", nasty));
    AUTO_JSON json_t *big = caught_json();

    assert_int_equal(json_unpack(big, "{s:b}", "cut", &cut), 0);
    assert_int_equal(cut, 1);
    assert_null(json_object_get(big, "b"));
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
}

static void test_errno_kept(void **state UNUSED)
{
    while (caught() != NULL)
        continue;
    for (int i = 0; i < 10000; i++) { /* until the socket is full: the write fails */
        errno = E2BIG;
        log_info("m", KV("i", i));
        assert_int_equal(errno, E2BIG);
    }
    while (caught() != NULL)
        continue;
}

static void *chatter(void *arg)
{
    for (int i = 0; i < 20; i++)
        log_info("from a thread", KV("who", (const char *)arg), KV("i", i));
    return NULL;
}

static void test_threads(void **state UNUSED)
{
    static char names[4][2] = { "0", "1", "2", "3" };
    int next[4] = { 0 };
    pthread_t t[4];
    const char *line;
    char wanted[64];

    for (size_t i = 0; i < ARRAY_SIZE(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, chatter, names[i]), 0);
    for (size_t i = 0; i < ARRAY_SIZE(t); i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    for (int n = 0; n < 80; n++) {
        line = caught_text();
        line = strstr(line, "who=\"");
        assert_non_null(line);
        size_t who = (size_t)(line[5] - '0');

        assert_true(who < ARRAY_SIZE(next));
        (void)snprintf(wanted, sizeof(wanted), "who=\"%zu\" i=%d", who, next[who]++);
        assert_string_equal(line, wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),       cmocka_unit_test(test_types),
        cmocka_unit_test(test_levels),     cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_cut_value),  cmocka_unit_test(test_cut_line),
        cmocka_unit_test(test_json),       cmocka_unit_test(test_threads),
        cmocka_unit_test(test_errno_kept),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
