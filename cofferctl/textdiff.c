/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/textdiff.h"

#include "common/cleanup.h"

struct line {
    const char *text;
    size_t len;
};

struct lines {
    struct line items[TEXTDIFF_LINES_MAX];
    size_t n;
    bool whole; /* all of the text's */
};

static void split(const char *text, struct lines *ret)
{
    ret->n = 0;
    while (*text != '\0' && ret->n < TEXTDIFF_LINES_MAX) {
        size_t len = strcspn(text, "\n");
        ret->items[ret->n++] = (struct line){ text, len };
        text += len + (text[len] == '\n');
    }
    ret->whole = *text == '\0';
}

static bool same(const struct line *a, const struct line *b)
{
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static void add(struct strbuf *sb, char sign, const struct line *line)
{
    strbuf_addf(sb, "%c%.*s\n", sign, (int)line->len, line->text);
}

/* table[i * width + j]: the longest common part of a's lines from i and b's from j. */
static void fill(const struct lines *a, const struct lines *b, uint16_t *table)
{
    size_t width = b->n + 1;

    for (size_t i = a->n; i-- > 0;) {
        for (size_t j = b->n; j-- > 0;) {
            uint16_t down = table[(i + 1) * width + j], right = table[i * width + j + 1];

            if (same(&a->items[i], &b->items[j]))
                table[i * width + j] = (uint16_t)(table[(i + 1) * width + j + 1] + 1);
            else
                table[i * width + j] = down > right ? down : right;
        }
    }
}

static void walk(const struct lines *a, const struct lines *b, const uint16_t *table,
                 struct strbuf *ret)
{
    size_t width = b->n + 1, i = 0, j = 0;

    while (i < a->n || j < b->n) {
        if (i < a->n && j < b->n && same(&a->items[i], &b->items[j])) {
            i++;
            j++;
        } else if (j == b->n ||
                   (i < a->n && table[(i + 1) * width + j] >= table[i * width + j + 1]))
            add(ret, '-', &a->items[i++]);
        else
            add(ret, '+', &b->items[j++]);
    }
}

static void replace(const char *before, const char *after, struct strbuf *ret)
{
    strbuf_addf(ret, "-(%zu bytes)\n+(%zu bytes)\n", strlen(before), strlen(after));
}

void textdiff(const char *before, const char *after, struct strbuf *ret)
{
    AUTO_FREE struct lines *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
    AUTO_FREE uint16_t *table = NULL;

    if (a != NULL && b != NULL) {
        split(before, a);
        split(after, b);
        if (a->whole && b->whole)
            table = calloc((a->n + 1) * (b->n + 1), sizeof(*table));
    }
    if (table == NULL) {
        replace(before, after, ret);
        return;
    }
    fill(a, b, table);
    walk(a, b, table, ret);
}
