/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command line, one argument per line of the input.
 *
 * covers: common/flags.c
 * but: flags_help asks_for_version flags_daemon flags_usage_error (print)
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/flags.h"

#define ARGS_MAX 100

static int split(char *text, char *argv[ARGS_MAX + 1])
{
    static char name[] = "prog";
    char *rest = text, *line;
    int n = 0;

    argv[n++] = name;
    while (n < ARGS_MAX && (line = strsep(&rest, "\n")) != NULL)
        argv[n++] = line;
    argv[n] = NULL;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = NULL, *choice = NULL;
    struct flag_strings list = { .len = 0 };
    uint64_t n = 0;
    bool yes = false, help = false;
    const struct flag table[] = {
        { "text", NULL, FLAG_STRING, &text, "x", "a text", NULL },
        { "choice", NULL, FLAG_STRING, &choice, "one", "a choice", "one|two" },
        { "n", NULL, FLAG_UINT, &n, NULL, "a number", NULL },
        { "yes", NULL, FLAG_BOOL, &yes, "false", "a switch", NULL },
        { "list", NULL, FLAG_STRINGS, &list, NULL, "things", NULL },
    };
    AUTO_FREE char *copy = strndup((const char *)data, size);
    char *argv[ARGS_MAX + 1];
    struct error err = ERROR_INIT;
    int first = -1;

    must(copy != NULL);
    int argc = split(copy, argv);

    if (flags_parse(table, ARRAY_SIZE(table), argc, argv, &first, &help, &err) < 0) {
        must(err.code == ERR_INVALID && first == -1);
        must_be_sentence(&err);
        return 0;
    }
    if (help)
        return 0;
    must(first >= 1 && first <= argc);
    must(strcmp(choice, "one") == 0 || strcmp(choice, "two") == 0);
    must(text != NULL && list.len <= ARRAY_SIZE(list.items));
    return 0;
}
