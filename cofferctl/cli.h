/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/cli.h: the command line: "cofferctl GROUP VERB [OPERANDS] [flags]" (a group with one
 * verb only, such as doctor, is that verb). A verb is one row in verbs.c and one struct in the file
 * of its group. Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 it failed, 2
 * the command line is wrong. One thread.
 */
#ifndef COFFER_COFFERCTL_CLI_H
#define COFFER_COFFERCTL_CLI_H

#include "cofferctl/output.h"
#include "common/base.h"
#include "common/error.h"
#include "common/flags.h"

#define CLI_FAILED 1
#define CLI_USAGE  2

struct cli {            /* what every verb gets */
    const char *config; /* path; --config is common to all verbs */
    enum output_format output;
    const char *operand, *operand2; /* NULL when the verb takes none */
    FILE *out, *notes;              /* stdout; stderr */
};

struct verb {
    const char *group, *name;       /* name "": the group is the verb */
    const char *operand, *operand2; /* their names in the usage line; NULL: none */
    const char *help;
    const struct flag *flags; /* its own, beside the common ones */
    size_t n_flags;
    int (*check)(const struct cli *cli,
                 struct error *err); /* of its flags; failure is a usage error. May be NULL */
    int (*run)(const struct cli *cli, struct error *err);
};

extern const struct verb *const verbs[]; /* ends with NULL */

/* argv is reordered. Never exits by itself. */
int cli_main(int argc, char **argv, FILE *out, FILE *err_out);

#endif
