/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/findings.h: what a check found: one line each, OK, WARN or FAIL, what was found and
 * what to type. `doctor` and `vault check` print the same page and end with the same exit codes:
 * a failure only when a line says FAIL. One thread.
 */
#ifndef COFFER_COFFERCTL_FINDINGS_H
#define COFFER_COFFERCTL_FINDINGS_H

#include "cofferctl/output.h"
#include "common/base.h"
#include "common/error.h"

#include <jansson.h>

enum verdict { FOUND_OK, FOUND_WARN, FOUND_FAIL };

struct findings {
    json_t *rows;      /* an array; borrowed */
    const char *check; /* whose lines they are */
    enum verdict worst;
};

/* fix: what to type or do; "" when there is nothing to do. */
void findings_say(struct findings *f, enum verdict v, const char *fix, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

int findings_print(FILE *to, enum output_format format, const json_t *rows,
                   struct error *err) MUST_CHECK;
/* 0, or -1 with a summary when a line says FAIL. */
int findings_judge(const json_t *rows, struct error *err) MUST_CHECK;

#endif
