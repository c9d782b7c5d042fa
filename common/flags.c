/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/flags.h"

#include "common/parse.h"

#include <inttypes.h>

/* Where a value came from, for the sentence: "flag '--x'" or "environment variable 'X'". */
struct origin {
    const char *kind;
    const char *dashes;
    const char *name;
};

static bool in_choices(const char *choices, const char *value)
{
    size_t len = strlen(value);

    if (strchr(value, '|') != NULL)
        return false;
    for (const char *p = choices;; p++) {
        size_t n = strcspn(p, "|");

        if (n == len && memcmp(p, value, len) == 0)
            return true;
        p += n;
        if (*p == '\0')
            return false;
    }
}

static int complain(const struct origin *o, const char *value, const char *rule, struct error *err)
{
    return error_set(err, ERR_INVALID, "%s '%s%s' must be %s, not '%s'", o->kind, o->dashes,
                     o->name, rule, value);
}

static int set_string(const struct flag *f, const struct origin *o, const char *value,
                      struct error *err)
{
    const char **target = f->target;

    if (f->choices != NULL && !in_choices(f->choices, value))
        return error_set(err, ERR_INVALID, "%s '%s%s' must be one of %s, not '%s'", o->kind,
                         o->dashes, o->name, f->choices, value);
    *target = value;
    return 0;
}

static int set_bool(const struct flag *f, const struct origin *o, const char *value,
                    struct error *err)
{
    bool *target = f->target;

    return parse_bool(value, target) < 0 ? complain(o, value, "true or false", err) : 0;
}

static int set_uint(const struct flag *f, const struct origin *o, const char *value,
                    struct error *err)
{
    uint64_t *target = f->target;

    return parse_u64(value, target) < 0 ? complain(o, value, "a whole number", err) : 0;
}

static int set_strings(const struct flag *f, const struct origin *o, const char *value,
                       struct error *err)
{
    struct flag_strings *target = f->target;

    if (target->len == ARRAY_SIZE(target->items))
        return error_set(err, ERR_INVALID, "%s '%s%s' may come at most %zu times", o->kind,
                         o->dashes, o->name, ARRAY_SIZE(target->items));
    target->items[target->len++] = value;
    return 0;
}

static const struct {
    int (*set)(const struct flag *f, const struct origin *o, const char *value, struct error *err);
    const char *hint; /* for --help */
} types[] = {
    [FLAG_STRING] = { set_string, " TEXT" },
    [FLAG_BOOL] = { set_bool, "" },
    [FLAG_UINT] = { set_uint, " N" },
    [FLAG_STRINGS] = { set_strings, " TEXT (repeatable)" },
};

static int set_default(const struct flag *f, struct error *err)
{
    const struct origin by_default = { "the default of flag", "--", f->name };
    const struct origin by_env = { "environment variable", "", f->env };
    const char *value = f->env != NULL ? getenv(f->env) : NULL;

    if (f->fallback != NULL && types[f->type].set(f, &by_default, f->fallback, err) < 0)
        return -1;
    return value != NULL ? types[f->type].set(f, &by_env, value, err) : 0;
}

static const struct flag *find(const struct flag *table, size_t n, const char *name, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
            return &table[i];
    return NULL;
}

static bool is_help(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0 || strcmp(arg, "--version") == 0;
}

/* The value of flag f at argv[*i], which may be the next argument: *i then points at that. */
static const char *value_of(const struct flag *f, int argc, char **argv, int *i)
{
    const char *equals = strchr(argv[*i], '=');
    const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
    bool ignored;

    if (equals != NULL)
        return equals + 1;
    if (f->type == FLAG_BOOL && (next == NULL || parse_bool(next, &ignored) < 0))
        return "true";
    if (next != NULL)
        (*i)++;
    return next;
}

static int parse_one(const struct flag *table, size_t n, int argc, char **argv, int *i,
                     struct error *err)
{
    const char *arg = argv[*i];
    size_t len = strcspn(arg, "=");
    const struct flag *f = arg[1] == '-' ? find(table, n, arg + 2, len - 2) : NULL;
    const char *value;
    struct origin by_flag = { "flag", "--", NULL };

    if (f == NULL)
        return error_set(err, ERR_INVALID, "unknown flag '%.*s' (see --help)",
                         len > 100 ? 100 : (int)len, arg);
    value = value_of(f, argc, argv, i);
    if (value == NULL)
        return error_set(err, ERR_INVALID, "flag '--%s' needs a value", f->name);
    by_flag.name = f->name;
    return types[f->type].set(f, &by_flag, value, err);
}

int flags_parse(const struct flag *table, size_t n, int argc, char **argv, int *ret_first,
                bool *ret_help, struct error *err)
{
    int i;

    for (size_t k = 0; k < n; k++)
        if (set_default(&table[k], err) < 0)
            return -1;
    for (i = 1; i < argc; i++) {
        const char *arg = argv[i];

        if (strcmp(arg, "--") == 0) {
            i++;
            break;
        }
        if (arg[0] != '-' || arg[1] == '\0')
            break;
        if (is_help(arg)) {
            *ret_help = true;
            return 0;
        }
        if (parse_one(table, n, argc, argv, &i, err) < 0)
            return -1;
    }
    *ret_help = false;
    *ret_first = i;
    return 0;
}

void flags_help(const struct flag *table, size_t n, const char *usage, FILE *to)
{
    (void)fprintf(to, "%s\n(Coffer " COFFER_VERSION ")\n", usage);
    for (size_t i = 0; i < n; i++) {
        const struct flag *f = &table[i];

        if (f->choices != NULL)
            (void)fprintf(to, "  --%s %s\n", f->name, f->choices);
        else
            (void)fprintf(to, "  --%s%s\n", f->name, types[f->type].hint);
        (void)fprintf(to, "        %s", f->help);
        if (f->fallback != NULL && f->fallback[0] != '\0')
            (void)fprintf(to, " [default: %s]", f->fallback);
        if (f->env != NULL)
            (void)fprintf(to, " [environment: %s]", f->env);
        (void)fputc('\n', to);
    }
}

static bool asks_for_version(int argc, char **argv)
{
    int i = 1;

    while (i < argc && !is_help(argv[i]))
        i++;
    return i < argc && strcmp(argv[i], "--version") == 0;
}

int flags_daemon(const struct flags_program *program, const struct flag *table, size_t n, int argc,
                 char **argv, bool *ret_done, struct error *err)
{
    int first = 0;
    bool help = false;

    if (flags_parse(table, n, argc, argv, &first, &help, err) < 0)
        return -1;
    if (help && asks_for_version(argc, argv))
        (void)printf("%s %s\n", program->name, COFFER_VERSION);
    else if (help)
        flags_help(table, n, program->usage, stdout);
    else if (first < argc)
        return error_set(err, ERR_INVALID, "unexpected argument '%s'", argv[first]);
    *ret_done = help;
    return 0;
}

int flags_usage_error(const struct flags_program *program, const struct error *err)
{
    (void)fprintf(stderr, "%s: %s\n", program->name, err->msg);
    return 2;
}
