/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/cli.h"

#define FLAGS_MAX 16u

struct common_flags {
    const char *config, *output;
};

static const struct verb *find_verb(const char *group, const char *name)
{
    for (size_t i = 0; verbs[i] != NULL; i++) {
        if (strcmp(verbs[i]->group, group) == 0 && strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    }
    return NULL;
}

/* "volume show ID"; "doctor" */
static const char *usage_of(const struct verb *v, char ret[128])
{
    (void)snprintf(ret, 128, "%s%s%s%s%s", v->group, v->name[0] != '\0' ? " " : "", v->name,
                   v->operand != NULL ? " " : "", v->operand != NULL ? v->operand : "");
    return ret;
}

static void print_verbs(FILE *to)
{
    (void)fprintf(to, "usage: cofferctl GROUP VERB [OPERAND] [flags]\n(Coffer %s)\n",
                  COFFER_VERSION);
    for (size_t i = 0; verbs[i] != NULL; i++) {
        char words[128];
        (void)fprintf(to, "  %s\n        %s\n", usage_of(verbs[i], words), verbs[i]->help);
    }
    (void)fprintf(to, "\"cofferctl GROUP VERB --help\" shows a verb's flags.\n");
}

/* Its own flags, then the common ones. */
static size_t flags_of(const struct verb *v, struct common_flags *c, struct flag all[FLAGS_MAX])
{
    const struct flag common[] = {
        { "config", "COFFER_CONFIG", FLAG_STRING, &c->config, "/etc/coffer/config.json",
          "file of pools and key services", NULL },
        { "output", NULL, FLAG_STRING, &c->output, "table", "how to print the result",
          "json|table" },
    };
    if (v->n_flags + ARRAY_SIZE(common) > FLAGS_MAX)
        abort();
    if (v->n_flags > 0)
        memcpy(all, v->flags, v->n_flags * sizeof(*all));
    memcpy(all + v->n_flags, common, sizeof(common));
    return v->n_flags + ARRAY_SIZE(common);
}

static void print_help(const struct verb *v, const struct flag *flags, size_t n, FILE *to)
{
    char usage[512], words[128];
    (void)snprintf(usage, sizeof(usage), "usage: cofferctl %s [flags]\n%s", usage_of(v, words),
                   v->help);
    flags_help(flags, n, usage, to);
}

/* Flags may stand before and after the operand; flags_parse stops at it. So: take the operand out
 * and parse again, until nothing is left. */
static int parse(const struct flag *flags, size_t n, int argc, char **argv,
                 const char **ret_operand, size_t *ret_operands, bool *ret_help, struct error *err)
{
    const char *operand = NULL;
    size_t operands = 0;
    for (int first = 0;; argc--, operands++) {
        if (flags_parse(flags, n, argc, argv, &first, ret_help, err) < 0)
            return -1;
        if (*ret_help || first >= argc)
            break;
        if (operands == 0)
            operand = argv[first];
        memmove(&argv[first], &argv[first + 1], (size_t)(argc - first - 1) * sizeof(*argv));
    }
    *ret_operand = operand;
    *ret_operands = operands;
    return 0;
}

static int check_operands(const struct verb *v, size_t n, struct error *err)
{
    if (v->operand != NULL && n == 0)
        return error_set(err, ERR_INVALID, "%s is missing: cofferctl %s %s %s", v->operand,
                         v->group, v->name, v->operand);
    if (n > (v->operand != NULL ? 1u : 0u))
        return error_set(err, ERR_INVALID, "there are too many arguments for 'cofferctl %s%s%s'",
                         v->group, v->name[0] != '\0' ? " " : "", v->name);
    return 0;
}

static int complain(FILE *to, const struct error *err, int code)
{
    (void)fprintf(to, "cofferctl: %s\n", err->msg);
    return code;
}

static int run_verb(const struct verb *v, int argc, char **argv, FILE *out, FILE *err_out)
{
    struct common_flags common = { .config = NULL };
    struct flag flags[FLAGS_MAX];
    struct cli cli = { .out = out, .notes = err_out };
    struct error err = ERROR_INIT;
    size_t n = flags_of(v, &common, flags), operands = 0;
    bool help = false;
    if (parse(flags, n, argc, argv, &cli.operand, &operands, &help, &err) < 0)
        return complain(err_out, &err, CLI_USAGE);
    if (help) {
        print_help(v, flags, n, out);
        return 0;
    }
    cli.config = common.config;
    cli.output = strcmp(common.output, "json") == 0 ? OUTPUT_JSON : OUTPUT_TABLE;
    if (check_operands(v, operands, &err) < 0 || (v->check != NULL && v->check(&cli, &err) < 0))
        return complain(err_out, &err, CLI_USAGE);
    if (v->run(&cli, &err) < 0)
        return complain(err_out, &err, CLI_FAILED);
    return 0;
}

static bool is(const char *arg, const char *a, const char *b)
{
    return strcmp(arg, a) == 0 || strcmp(arg, b) == 0;
}

int cli_main(int argc, char **argv, FILE *out, FILE *err_out)
{
    struct error err = ERROR_INIT;
    const char *group = argc > 1 ? argv[1] : "", *name = argc > 2 ? argv[2] : "";
    if (argc == 2 && strcmp(group, "--version") == 0) {
        (void)fprintf(out, "cofferctl %s\n", COFFER_VERSION);
        return 0;
    }
    const struct verb *alone = find_verb(group, ""); /* a group that is its own verb */
    if (alone != NULL)
        return run_verb(alone, argc - 1, argv + 1, out, err_out);
    if (is(group, "--help", "-h") || is(name, "--help", "-h")) {
        print_verbs(out);
        return 0;
    }
    const struct verb *v = find_verb(group, name);
    if (v != NULL)
        return run_verb(v, argc - 2, argv + 2, out, err_out);
    if (argc < 2)
        (void)error_set(&err, ERR_INVALID, "a command is missing (see cofferctl --help)");
    else
        (void)error_set(&err, ERR_INVALID, "unknown command '%s%s%s' (see cofferctl --help)", group,
                        name[0] != '\0' ? " " : "", name);
    return complain(err_out, &err, CLI_USAGE);
}
