/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/flags.h"

#include "common/cleanup.h"
#include "tests/support/unit.h"

static struct {
    const char *text, *format, *none;
    bool yes;
    uint64_t n;
    struct flag_strings list;
} got;

static const struct flag table[] = {
    { "text", "T_TEXT", FLAG_STRING, &got.text, "std", "a text", NULL },
    { "format", NULL, FLAG_STRING, &got.format, "text", "how", "text|json" },
    { "none", NULL, FLAG_STRING, &got.none, NULL, "nothing", NULL },
    { "yes", "T_YES", FLAG_BOOL, &got.yes, "false", "a switch", NULL },
    { "n", "T_N", FLAG_UINT, &got.n, "5", "a number", NULL },
    { "list", "T_LIST", FLAG_STRINGS, &got.list, NULL, "things", NULL },
};

static char *args[40];
static int first;
static bool help;

static int parse_list(struct error *err, const char *const *list)
{
    static char store[40][64];
    int n = 0;

    memset(&got, 0, sizeof(got));
    first = -1;
    help = false;
    for (; list[n] != NULL; n++) {
        (void)snprintf(store[n], sizeof(store[n]), "%s", list[n]);
        args[n] = store[n];
    }
    args[n] = NULL;
    return flags_parse(table, ARRAY_SIZE(table), n, args, &first, &help, err);
}

#define PARSE(...) parse_list(&err, (const char *const[]){ "prog", ##__VA_ARGS__, NULL })

static int clean(void **state UNUSED)
{
    (void)unsetenv("T_TEXT");
    (void)unsetenv("T_YES");
    (void)unsetenv("T_N");
    (void)unsetenv("T_LIST");
    return 0;
}

static void test_defaults(void **state UNUSED)
{
    assert_works(PARSE());
    assert_string_equal(got.text, "std");
    assert_string_equal(got.format, "text");
    assert_null(got.none);
    assert_false(got.yes);
    assert_int_equal(got.n, 5);
    assert_int_equal(got.list.len, 0);
    assert_int_equal(first, 1);
    assert_false(help);
}

static void test_forms(void **state UNUSED)
{
    assert_works(
        PARSE("--text", "a", "--format=json", "--yes", "--n", "12", "--none=", "rest", "--n", "x"));
    assert_string_equal(got.text, "a");
    assert_string_equal(got.format, "json");
    assert_string_equal(got.none, "");
    assert_true(got.yes);
    assert_int_equal(got.n, 12);
    assert_int_equal(first, 8);
    assert_works(PARSE("--yes", "false", "--text=--n", "--text", "--yes"));
    assert_false(got.yes);
    assert_string_equal(got.text, "--yes"); /* a value may look like a flag */
    assert_int_equal(first, 6);
    assert_works(PARSE("--yes=true", "--n=1", "--n=2", "--", "--n"));
    assert_true(got.yes);
    assert_int_equal(got.n, 2);
    assert_int_equal(first, 5);
    assert_works(PARSE("--yes", "-"));
    assert_int_equal(first, 2);
    assert_works(PARSE("--text=a=b"));
    assert_string_equal(got.text, "a=b");
}

static void test_env(void **state UNUSED)
{
    (void)setenv("T_TEXT", "from env", 1);
    (void)setenv("T_YES", "true", 1);
    (void)setenv("T_N", "7", 1);
    (void)setenv("T_LIST", "e", 1);
    assert_works(PARSE());
    assert_string_equal(got.text, "from env");
    assert_true(got.yes);
    assert_int_equal(got.n, 7);
    assert_works(PARSE("--text=cmd", "--n=8", "--yes=false", "--list", "a", "--list=b"));
    assert_string_equal(got.text, "cmd");
    assert_false(got.yes);
    assert_int_equal(got.n, 8);
    assert_int_equal(got.list.len, 3);
    assert_string_equal(got.list.items[0], "e");
    assert_string_equal(got.list.items[1], "a");
    assert_string_equal(got.list.items[2], "b");
    (void)setenv("T_N", "", 1);
    assert_fails(PARSE("--n=1"), ERR_INVALID,
                 "environment variable 'T_N' must be a whole number, not ''");
    (void)clean(NULL);
    (void)setenv("T_YES", "yes", 1);
    assert_fails(PARSE(), ERR_INVALID,
                 "environment variable 'T_YES' must be true or false, not 'yes'");
}

static void test_malformed(void **state UNUSED)
{
    assert_fails(PARSE("--nope"), ERR_INVALID, "unknown flag '--nope' (see --help)");
    assert_fails(PARSE("--nope=secret"), ERR_INVALID, "unknown flag '--nope' (see --help)");
    assert_fails(PARSE("--tex", "x"), ERR_INVALID, "unknown flag '--tex' (see --help)");
    assert_fails(PARSE("-text", "x"), ERR_INVALID, "unknown flag '-text' (see --help)");
    assert_fails(PARSE("-n"), ERR_INVALID, "unknown flag '-n' (see --help)");
    assert_fails(PARSE("-="), ERR_INVALID, "unknown flag '-' (see --help)");
    assert_fails(PARSE("--="), ERR_INVALID, "unknown flag '--' (see --help)");
    assert_fails(PARSE("--text"), ERR_INVALID, "flag '--text' needs a value");
    assert_fails(PARSE("--n", "1k"), ERR_INVALID, "flag '--n' must be a whole number, not '1k'");
    assert_fails(PARSE("--n=-1"), ERR_INVALID, "flag '--n' must be a whole number, not '-1'");
    assert_fails(PARSE("--yes=1"), ERR_INVALID, "flag '--yes' must be true or false, not '1'");
    assert_fails(PARSE("--format", "xml"), ERR_INVALID,
                 "flag '--format' must be one of text|json, not 'xml'");
    assert_fails(PARSE("--format=text|json"), ERR_INVALID,
                 "flag '--format' must be one of text|json, not 'text|json'");
    assert_fails(PARSE("--format="), ERR_INVALID,
                 "flag '--format' must be one of text|json, not ''");
}

static void test_too_many(void **state UNUSED)
{
    const char *list[40] = { "prog" };

    for (size_t i = 1; i <= 32; i++)
        list[i] = "--list=x";
    assert_works(parse_list(&err, list));
    assert_int_equal(got.list.len, 32);
    list[33] = "--list=x";
    assert_fails(parse_list(&err, list), ERR_INVALID, "flag '--list' may come at most 32 times");
}

static void test_help(void **state UNUSED)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_works(PARSE("--n=1", "--help", "--nope"));
    assert_true(help);
    assert_works(PARSE("--version"));
    assert_true(help);
    assert_works(PARSE("-h"));
    assert_true(help);
    flags_help(table, ARRAY_SIZE(table), "usage: prog [flags]", f);
    assert_int_equal(fclose(f), 0);
    assert_memory_equal(text, "usage: prog [flags]\n", 20);
    assert_non_null(strstr(text, COFFER_VERSION));
    assert_non_null(strstr(text, "--format text|json\n"));
    assert_non_null(strstr(text, "a number [default: 5] [environment: T_N]\n"));
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        assert_non_null(strstr(text, table[i].help));
}

static int daemon_line(bool *ret_done, struct error *err, const char *argument)
{
    static const struct flags_program program = { "prog", "usage: prog [flags]" };
    char name[] = "prog", *text = strdup(argument);
    char *argv[] = { name, text, NULL };

    assert_non_null(text);
    int r = flags_daemon(&program, table, ARRAY_SIZE(table), 2, argv, ret_done, err);
    free(text);
    return r;
}

/* --help and --version are answered; what isn't a flag is refused, and nothing is done. */
static void test_daemon(void **state UNUSED)
{
    bool done = true;

    assert_works(daemon_line(&done, &err, "--n=1"));
    assert_false(done);
    for (size_t i = 0; i < 2; i++) {
        done = false;
        assert_works(daemon_line(&done, &err, i == 0 ? "--help" : "--version"));
        assert_true(done);
    }
    done = false;
    assert_fails(daemon_line(&done, &err, "word"), ERR_INVALID, "unexpected argument 'word'");
    assert_false(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, clean, clean),
        cmocka_unit_test_setup_teardown(test_forms, clean, clean),
        cmocka_unit_test_setup_teardown(test_env, clean, clean),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
