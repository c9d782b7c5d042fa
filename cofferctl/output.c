/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/output.h"

#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"
#include "common/strbuf.h"

#include <errno.h>
#include <inttypes.h>

#define CELL_MAX 1024u

/* ---- one cell ---- */

void output_text(struct strbuf *sb, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t unsafe = utf8_unsafe_len(text, left), n = unsafe > 0 ? unsafe : 1;
        strbuf_add(sb, unsafe > 0 ? "?" : text, 1);
        text += n;
        left -= n;
    }
}

/* The largest unit that leaves a whole number. */
static void add_size(struct strbuf *sb, uint64_t bytes)
{
    static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti" };
    size_t unit = 0;
    while (bytes > 0 && bytes % 1024 == 0 && unit + 1 < ARRAY_SIZE(units)) {
        bytes /= 1024;
        unit++;
    }
    strbuf_addf(sb, "%" PRIu64 "%s", bytes, units[unit]);
}

static void add_cell(struct strbuf *sb, const json_t *object, const struct output_column *column)
{
    const json_t *v = json_object_get(object, column->key);
    size_t before = sb->len;
    if (json_is_string(v))
        output_text(sb, json_string_value(v));
    else if (json_is_boolean(v))
        strbuf_adds(sb, json_is_true(v) ? "yes" : "no");
    else if (json_is_real(v))
        strbuf_addf(sb, "%g", json_real_value(v));
    else if (json_is_integer(v) && column->size)
        add_size(sb, (uint64_t)json_integer_value(v));
    else if (json_is_integer(v))
        strbuf_addf(sb, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    if (sb->len == before)
        strbuf_adds(sb, "-");
}

/* ---- tables ---- */

/* Columns on the screen, near enough: one for each UTF-8 character. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++)
        n += (*p & 0xc0) != 0x80;
    return n;
}

static void widen(size_t *width, const char *text)
{
    size_t n = width_of(text);
    if (n > *width)
        *width = n;
}

static void print_padded(FILE *to, const char *text, size_t width, bool last)
{
    (void)fputs(text, to);
    for (size_t n = width_of(text); !last && n < width + 2; n++)
        (void)fputc(' ', to);
    if (last)
        (void)fputc('\n', to);
}

static void print_row(FILE *to, const json_t *object, const struct output_column *columns,
                      const size_t *widths, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        AUTO_STRBUF struct strbuf cell = STRBUF_INIT(CELL_MAX);
        if (object == NULL)
            strbuf_adds(&cell, columns[i].title);
        else
            add_cell(&cell, object, &columns[i]);
        print_padded(to, strbuf_text(&cell), widths[i], i + 1 == n);
    }
}

static void measure(const json_t *list, const struct output_column *columns, size_t *widths,
                    size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *object;
        size_t row;
        widen(&widths[i], columns[i].title);
        json_array_foreach (list, row, object) {
            AUTO_STRBUF struct strbuf cell = STRBUF_INIT(CELL_MAX);
            add_cell(&cell, object, &columns[i]);
            widen(&widths[i], strbuf_text(&cell));
        }
    }
}

static int print_table(FILE *to, const json_t *list, const struct output_column *columns, size_t n,
                       struct error *err)
{
    AUTO_FREE size_t *widths = calloc(n + 1, sizeof(*widths));
    const json_t *object;
    size_t row;
    if (widths == NULL)
        return error_memory(err);
    measure(list, columns, widths, n);
    print_row(to, NULL, columns, widths, n);
    json_array_foreach (list, row, object)
        print_row(to, object, columns, widths, n);
    return 0;
}

static int print_json(FILE *to, const json_t *json, struct error *err)
{
    AUTO_FREE char *text = json_text(json, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    if (text == NULL)
        return error_memory(err);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == 0x7f) /* jansson leaves DEL as it is */
            (void)fputs("\\u007f", to);
        else
            (void)fputc(*p, to);
    }
    (void)fputc('\n', to);
    return 0;
}

/* stdout may be a full disk or a closed pipe: half an answer must not look like a whole one. */
static int finish(FILE *to, struct error *err)
{
    if (fflush(to) != 0 || ferror(to) != 0)
        return error_errno(err, errno, "write the output");
    return 0;
}

int output_list(FILE *to, enum output_format format, const json_t *list,
                const struct output_column *columns, size_t n, struct error *err)
{
    int r =
        format == OUTPUT_JSON ? print_json(to, list, err) : print_table(to, list, columns, n, err);
    return r < 0 ? -1 : finish(to, err);
}

/* A list takes a line for each text, or for the "text" of each object in it. */
static void print_line(FILE *to, const json_t *object, const struct output_column *column,
                       size_t width)
{
    const json_t *list = json_object_get(object, column->key), *item;
    size_t index;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        AUTO_STRBUF struct strbuf cell = STRBUF_INIT(CELL_MAX);
        add_cell(&cell, object, column);
        print_padded(to, column->title, width, false);
        print_padded(to, strbuf_text(&cell), 0, true);
        return;
    }
    json_array_foreach (list, index, item) {
        AUTO_STRBUF struct strbuf cell = STRBUF_INIT(CELL_MAX);
        const json_t *text = json_is_object(item) ? json_object_get(item, "text") : item;
        output_text(&cell, json_is_string(text) ? json_string_value(text) : "");
        print_padded(to, index == 0 ? column->title : "", width, false);
        print_padded(to, strbuf_text(&cell), 0, true);
    }
}

int output_object(FILE *to, enum output_format format, const json_t *object,
                  const struct output_column *columns, size_t n, struct error *err)
{
    size_t width = 0;
    if (format == OUTPUT_JSON)
        return print_json(to, object, err) < 0 ? -1 : finish(to, err);
    for (size_t i = 0; i < n; i++)
        widen(&width, columns[i].title);
    for (size_t i = 0; i < n; i++)
        print_line(to, object, &columns[i], width);
    return finish(to, err);
}
