/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/findings.h"

#include "common/strbuf.h"

#include <stdarg.h>

static const char *const verdicts[] = {
    [FOUND_OK] = "OK", [FOUND_WARN] = "WARN", [FOUND_FAIL] = "FAIL"
};

void findings_say(struct findings *f, enum verdict v, const char *fix, const char *fmt, ...)
{
    char text[700];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    /* what a disk or a peer said may be no text at all, which jansson refuses */
    json_t *row = json_pack("{s:s, s:s, s:s, s:s}", "check", f->check, "state", verdicts[v],
                            "found", text, "fix", fix);
    if (row == NULL)
        row = json_pack("{s:s, s:s, s:s, s:s}", "check", f->check, "state", verdicts[v], "found",
                        "what was found can't be shown as text", "fix", fix);
    (void)json_array_append_new(f->rows, row);
    if (v > f->worst)
        f->worst = v;
}

static void print_row(FILE *to, const json_t *row)
{
    AUTO_STRBUF struct strbuf line = STRBUF_INIT(8192);
    const char *fix = json_string_value(json_object_get(row, "fix"));
    strbuf_addf(&line, "%-4s  %-13s  ", json_string_value(json_object_get(row, "state")),
                json_string_value(json_object_get(row, "check")));
    output_text(&line, json_string_value(json_object_get(row, "found")));
    (void)fprintf(to, "%s\n", strbuf_text(&line));
    if (fix == NULL || fix[0] == '\0')
        return;
    strbuf_clear(&line);
    output_text(&line, fix);
    (void)fprintf(to, "%21s-> %s\n", "", strbuf_text(&line));
}

int findings_print(FILE *to, enum output_format format, const json_t *rows, struct error *err)
{
    const json_t *row;
    size_t i;
    if (format == OUTPUT_JSON)
        return output_list(to, format, rows, NULL, 0, err);
    json_array_foreach (rows, i, row)
        print_row(to, row);
    if (fflush(to) != 0)
        return error_set(err, ERR_INTERNAL, "the page can't be written");
    return 0;
}

static unsigned count(const json_t *rows, enum verdict v)
{
    const json_t *row;
    unsigned n = 0;
    size_t i;
    json_array_foreach (rows, i, row) {
        const char *state = json_string_value(json_object_get(row, "state"));
        n += state != NULL && strcmp(state, verdicts[v]) == 0;
    }
    return n;
}

int findings_judge(const json_t *rows, struct error *err)
{
    unsigned failed = count(rows, FOUND_FAIL);

    if (failed == 0)
        return 0;
    return error_set(err, ERR_PRECONDITION, "%u failed, %u to look at, %u are fine", failed,
                     count(rows, FOUND_WARN), count(rows, FOUND_OK));
}
