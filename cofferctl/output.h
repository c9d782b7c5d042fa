/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/output.h: what a verb found, for a human (table) or a program (json). The verb makes
 * JSON; the table shows the chosen columns of it. Names may be any Unicode that somebody else
 * chose: a table shows control and direction characters as '?', JSON is pure ASCII, so neither can
 * drive the terminal.
 */
#ifndef COFFER_COFFERCTL_OUTPUT_H
#define COFFER_COFFERCTL_OUTPUT_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"

#include <jansson.h>

enum output_format { OUTPUT_TABLE, OUTPUT_JSON };

struct output_column {
    const char *key; /* in the object */
    const char *title;
    bool size; /* a number of bytes: "4Gi" in a table */
};

/* An array of objects: one line each under a line of titles. ERR_INTERNAL when it can't be written
 * whole. */
int output_list(FILE *to, enum output_format format, const json_t *list,
                const struct output_column *columns, size_t n, struct error *err) MUST_CHECK;
/* One object: one "title: value" line for each column, or for each text in a list. */
int output_object(FILE *to, enum output_format format, const json_t *object,
                  const struct output_column *columns, size_t n, struct error *err) MUST_CHECK;

/* Appends text that somebody else chose, made safe for a terminal (one line). */
void output_text(struct strbuf *sb, const char *text);

#endif
