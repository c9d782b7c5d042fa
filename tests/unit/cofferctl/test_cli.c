/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's rules, over verbs of the test's own. */
#include "common/base.h"
#include "cofferctl/cli.h"

#include "common/strbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct {
    int runs;
    struct cli cli;
    bool fail;
} seen;

static const char *reason;
static bool yes;
/* Copies: what the flags and the operand pointed to is gone when call() returns. */
static char seen_reason[64], seen_operand[64], seen_operand2[64], seen_config[64];

static void keep(char to[64], const char *text)
{
    assert_int_equal(str_copy(to, 64, text != NULL ? text : ""), 0);
}

static int run(const struct cli *cli, struct error *err)
{
    seen.runs++;
    seen.cli = *cli;
    keep(seen_reason, reason);
    keep(seen_operand, cli->operand);
    keep(seen_operand2, cli->operand2);
    keep(seen_config, cli->config);
    return seen.fail ? error_set(err, ERR_ABORTED, "it is busy") : 0;
}

static int check(const struct cli *cli UNUSED, struct error *err)
{
    return reason[0] == '\0' ? error_set(err, ERR_INVALID, "--reason is needed") : 0;
}

static const struct flag open_flags[] = {
    { "reason", NULL, FLAG_STRING, &reason, "", "why", NULL },
    { "yes", NULL, FLAG_BOOL, &yes, "false", "don't ask", NULL },
};

static const struct verb thing_list = {
    .group = "thing", .name = "list", .help = "lists", .run = run
};
static const struct verb thing_open = {
    .group = "thing",
    .name = "open",
    .operand = "ID",
    .help = "opens",
    .flags = open_flags,
    .n_flags = ARRAY_SIZE(open_flags),
    .check = check,
    .run = run,
};
static const struct verb thing_move = {
    .group = "thing",
    .name = "move",
    .operand = "ID",
    .operand2 = "PATH",
    .help = "moves",
    .flags = open_flags,
    .n_flags = ARRAY_SIZE(open_flags),
    .run = run,
};
const struct verb *const verbs[] = { &thing_list, &thing_open, &thing_move, NULL };

struct outcome {
    int code;
    char out[4096], err[512];
};

/* args: words separated by single spaces. */
static struct outcome call(const char *args)
{
    struct outcome o = { .code = -1 };
    char words[256] = "", *argv[20] = { NULL }, *save = NULL;
    int argc = 1;
    char program[] = "cofferctl";
    argv[0] = program;
    assert_true(strlen(args) < sizeof(words));
    memcpy(words, args, strlen(args) + 1);
    for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    FILE *out = fmemopen(o.out, sizeof(o.out), "w"), *err = fmemopen(o.err, sizeof(o.err), "w");
    assert_non_null(out);
    assert_non_null(err);
    memset(&seen.cli, 0, sizeof(seen.cli));
    seen.runs = 0;
    o.code = cli_main(argc, argv, out, err);
    (void)fclose(out);
    (void)fclose(err);
    return o;
}

static void test_runs(void **state UNUSED)
{
    assert_int_equal(call("thing list").code, 0);
    assert_int_equal(seen.runs, 1);
    assert_null(seen.cli.operand);
    assert_int_equal(seen.cli.output, OUTPUT_TABLE);
    assert_string_equal(seen_config, "/etc/coffer/config.json");
    assert_int_equal(call("thing list --output json --config=/x").code, 0);
    assert_int_equal(seen.cli.output, OUTPUT_JSON);
    assert_string_equal(seen_config, "/x");
}

static void expect_open(const char *args)
{
    if (call(args).code != 0 || seen.runs != 1)
        fail_msg("'%s' did not run", args);
    assert_true(yes);
    assert_string_equal(seen_reason, "why");
    assert_string_equal(seen_operand, "v1");
    assert_int_equal(seen.cli.output, OUTPUT_JSON);
}

/* Before, between and after the flags; the value of a flag is never taken for the operand. */
static void test_operand_anywhere(void **state UNUSED)
{
    expect_open("thing open v1 --yes --reason why --output json");
    expect_open("thing open --yes v1 --reason why --output json");
    expect_open("thing open --yes --reason why --output json v1");
    expect_open("thing open --reason=why --output json --yes -- v1");
    expect_open("thing open --yes true v1 --reason why --output json");
}

static void test_two_operands(void **state UNUSED)
{
    static const char *const calls[] = { "thing move v1 /p --yes", "thing move --yes -- v1 /p",
                                         "thing move v1 --reason why /p" };
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        assert_int_equal(call(calls[i]).code, 0);
        assert_string_equal(seen_operand, "v1");
        assert_string_equal(seen_operand2, "/p");
    }
    assert_string_equal(call("thing move").err,
                        "cofferctl: ID is missing: cofferctl thing move ID PATH\n");
    assert_string_equal(call("thing move v1 --yes").err,
                        "cofferctl: PATH is missing: cofferctl thing move ID PATH\n");
    assert_string_equal(call("thing move a b c").err,
                        "cofferctl: there are too many arguments for 'cofferctl thing move'\n");
    assert_non_null(strstr(call("--help").out, "  thing move ID PATH\n        moves\n"));
    assert_non_null(strstr(call("thing move --help").out, "usage: cofferctl thing move ID PATH ["));
}

struct refusal {
    const char *args, *sentence;
};

static void test_usage_errors(void **state UNUSED)
{
    static const struct refusal refusals[] = {
        { "", "a command is missing (see cofferctl --help)" },
        { "thing", "unknown command 'thing' (see cofferctl --help)" },
        { "list", "unknown command 'list' (see cofferctl --help)" },
        { "thing lis", "unknown command 'thing lis' (see cofferctl --help)" },
        { "--output json", "unknown command '--output json' (see cofferctl --help)" },
        { "thing list v1", "there are too many arguments for 'cofferctl thing list'" },
        { "thing open --reason why", "ID is missing: cofferctl thing open ID" },
        { "thing open v1 v2 --reason why",
          "there are too many arguments for 'cofferctl thing open'" },
        { "thing open v1", "--reason is needed" },
        { "thing list --yes", "unknown flag '--yes' (see --help)" },
        { "thing list -x", "unknown flag '-x' (see --help)" },
        { "thing list --output", "flag '--output' needs a value" },
        { "thing list --output yaml", "flag '--output' must be one of json|table, not 'yaml'" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        char want[256];
        const struct outcome o = call(refusals[i].args);
        assert_true(snprintf(want, sizeof(want), "cofferctl: %s\n", refusals[i].sentence) > 0);
        assert_string_equal(o.err, want);
        assert_int_equal(o.code, CLI_USAGE);
        assert_string_equal(o.out, "");
        assert_int_equal(seen.runs, 0);
    }
}

static void test_failure(void **state UNUSED)
{
    seen.fail = true;
    const struct outcome o = call("thing list");
    seen.fail = false;
    assert_int_equal(o.code, CLI_FAILED);
    assert_string_equal(o.err, "cofferctl: it is busy\n");
}

static void test_help(void **state UNUSED)
{
    struct outcome o = call("--help");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.out, "  thing open ID\n        opens\n"));
    o = call("thing open --help");
    assert_int_equal(o.code, 0);
    assert_int_equal(seen.runs, 0);
    assert_non_null(strstr(o.out, "usage: cofferctl thing open ID [flags]\nopens\n"));
    assert_non_null(strstr(o.out, "--reason"));
    assert_non_null(strstr(o.out, "--config"));
    o = call("--version");
    assert_int_equal(o.code, 0);
    assert_string_equal(o.out, "cofferctl " COFFER_VERSION "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),         cmocka_unit_test(test_operand_anywhere),
        cmocka_unit_test(test_usage_errors), cmocka_unit_test(test_failure),
        cmocka_unit_test(test_help),         cmocka_unit_test(test_two_operands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
