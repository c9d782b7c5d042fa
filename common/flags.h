/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flags.h: a program's command line as one table: flag, environment name, type, default, help.
 * Parsing, --help and validation come from it. Order: default, environment, command line (last
 * wins; FLAG_STRINGS appends). "--name value", "--name=value"; booleans also "--name". Unknown or
 * malformed input is an error with one exact sentence (main exits 2). Secrets never come by flag:
 * only paths. Values are borrowed from argv and the environment. Called by main, before there are
 * threads.
 */
#ifndef COFFER_COMMON_FLAGS_H
#define COFFER_COMMON_FLAGS_H

#include "common/base.h"
#include "common/error.h"

enum flag_type { FLAG_STRING, FLAG_BOOL, FLAG_UINT, FLAG_STRINGS };

struct flag_strings { /* for FLAG_STRINGS: a repeatable flag; borrowed from argv */
    const char *items[32];
    size_t len;
};

struct flag {
    const char *name; /* without "--" */
    const char *env;  /* NULL: not settable by environment */
    enum flag_type type;
    void *target;         /* const char **, bool *, uint64_t *, struct flag_strings * */
    const char *fallback; /* default as text; NULL: leave the target as it is */
    const char *help;
    const char *choices; /* "text|json", or NULL; FLAG_STRING only */
};

/* Fills the targets; after a failure they may be half filled. *ret_first = index of the first
 * non-flag argument in argv. *ret_help: --help or --version was asked for, and nothing else is then
 * guaranteed. */
int flags_parse(const struct flag *table, size_t n, int argc, char **argv, int *ret_first,
                bool *ret_help, struct error *err) MUST_CHECK;

/* What a daemon is called, and what its --help begins with. */
struct flags_program {
    const char *name;
    const char *usage;
};
/* A daemon's whole command line: flags and nothing else. *ret_done: the first of --help and
 * --version was answered on stdout; the program ends well. */
int flags_daemon(const struct flags_program *program, const struct flag *table, size_t n, int argc,
                 char **argv, bool *ret_done, struct error *err) MUST_CHECK;
/* Says the error on stderr; returns main's exit code, 2. */
int flags_usage_error(const struct flags_program *program, const struct error *err);
void flags_help(const struct flag *table, size_t n, const char *usage, FILE *to);

#endif
