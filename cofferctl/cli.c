/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/cli.h"

#define FLAGS_MAX 32u

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

#define SYNOPSIS_MAX 128u

/* "volume mount ID PATH"; "doctor" */
static const char *synopsis(const struct verb *v, char ret[SYNOPSIS_MAX])
{
    const char *one = v->operand != NULL ? v->operand : "";
    const char *two = v->operand2 != NULL ? v->operand2 : "";
    (void)snprintf(ret, SYNOPSIS_MAX, "%s%s%s%s%s%s%s", v->group, v->name[0] != '\0' ? " " : "",
                   v->name, one[0] != '\0' ? " " : "", one, two[0] != '\0' ? " " : "", two);
    return ret;
}

static void print_verbs(FILE *to)
{
    char text[SYNOPSIS_MAX];
    (void)fprintf(to, "usage: cofferctl GROUP VERB [OPERANDS] [flags]\n(Coffer %s)\n",
                  COFFER_VERSION);
    for (size_t i = 0; verbs[i] != NULL; i++)
        (void)fprintf(to, "  %s\n        %s\n", synopsis(verbs[i], text), verbs[i]->help);
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
    char text[SYNOPSIS_MAX], usage[512];
    (void)snprintf(usage, sizeof(usage), "usage: cofferctl %s [flags]\n%s", synopsis(v, text),
                   v->help);
    flags_help(flags, n, usage, to);
}

#define OPERANDS_MAX 2u

struct operands {
    const char *items[OPERANDS_MAX];
    size_t n; /* given, also those that are too many */
};

/* Flags may stand before, between and after the operands; flags_parse stops at one. So: take it out
 * and parse again, until nothing is left. */
static int parse(const struct flag *flags, size_t n, int argc, char **argv, struct operands *ret,
                 bool *ret_help, struct error *err)
{
    struct operands found = { .n = 0 };
    for (int first = 0;; argc--, found.n++) {
        if (flags_parse(flags, n, argc, argv, &first, ret_help, err) < 0)
            return -1;
        if (*ret_help || first >= argc)
            break;
        if (found.n < OPERANDS_MAX)
            found.items[found.n] = argv[first];
        memmove(&argv[first], &argv[first + 1], (size_t)(argc - first - 1) * sizeof(*argv));
    }
    *ret = found;
    return 0;
}

static int check_operands(const struct verb *v, size_t n, struct error *err)
{
    size_t wanted = (v->operand != NULL ? 1u : 0u) + (v->operand2 != NULL ? 1u : 0u);
    char text[SYNOPSIS_MAX];
    if (n < wanted)
        return error_set(err, ERR_INVALID, "%s is missing: cofferctl %s",
                         n == 0 ? v->operand : v->operand2, synopsis(v, text));
    if (n > wanted)
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
    struct operands operands = { .n = 0 };
    size_t n = flags_of(v, &common, flags);
    bool help = false;
    if (parse(flags, n, argc, argv, &operands, &help, &err) < 0)
        return complain(err_out, &err, CLI_USAGE);
    if (help) {
        print_help(v, flags, n, out);
        return 0;
    }
    cli.operand = operands.items[0];
    cli.operand2 = operands.items[1];
    cli.config = common.config;
    cli.output = strcmp(common.output, "json") == 0 ? OUTPUT_JSON : OUTPUT_TABLE;
    if (check_operands(v, operands.n, &err) < 0 || (v->check != NULL && v->check(&cli, &err) < 0))
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
