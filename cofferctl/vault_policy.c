/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_policy.h"

#include "common/cleanup.h"
#include "common/fs.h"

#define BLOCK_START "path \""
#define CAPITALS    "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"

/* ---- placeholders ---- */

/* "@NAME@" at the start of text: the name's length; 0: there is none. */
static size_t placeholder_at(const char *text)
{
    size_t n = text[0] == '@' ? strspn(text + 1, CAPITALS) : 0;

    return n > 0 && text[1 + n] == '@' ? n : 0;
}

static const struct vault_placeholder *find(const struct vault_substitution *s, const char *name,
                                            size_t len)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strlen(s->items[i].name) == len && strncmp(s->items[i].name, name, len) == 0)
            return &s->items[i];
    }
    return NULL;
}

/* It stands between quotes, and "*", "+" and "{{" mean something there. */
static bool value_safe(const char *value)
{
    return value[0] != '\0' && value[strspn(value, "abcdefghijklmnopqrstuvwxyz"
                                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                   "0123456789_.-/")] == '\0';
}

static int check_values(const struct vault_substitution *s, struct error *err)
{
    for (size_t i = 0; i < s->n; i++) {
        const char *value = s->items[i].value;
        if (value != NULL && !value_safe(value))
            return error_set(err, ERR_INVALID,
                             "'%s' can't stand in a policy: only letters, digits, '_', '.', '-' "
                             "and '/' can",
                             value);
    }
    return 0;
}

/* ---- a piece of the text: up to the end of a block, or of a line outside of blocks ---- */

static size_t line_len(const char *text)
{
    size_t n = strcspn(text, "\n");
    return n + (text[n] == '\n');
}

/* From a block's first line to the line that is "}" alone. */
static size_t block_len(const char *text)
{
    size_t len = 0;

    while (text[len] != '\0') {
        const char *line = text + len;
        len += line_len(line);
        if (strncmp(line, "}\n", 2) == 0 || strcmp(line, "}") == 0)
            break;
    }
    return len;
}

/* Comment lines, and the block that follows without an empty line. *ret_block: where it starts,
 * or the piece's end. */
static size_t piece_len(const char *text, size_t *ret_block)
{
    size_t len = 0;

    while (text[len] == '#')
        len += line_len(text + len);
    *ret_block = len;
    if (strncmp(text + len, BLOCK_START, strlen(BLOCK_START)) == 0)
        return len + block_len(text + len);
    if (len == 0)
        len = line_len(text);
    *ret_block = len;
    return len;
}

static bool block_wanted(const char *block, size_t len, const struct vault_substitution *s)
{
    const char *path = block + strlen(BLOCK_START);
    size_t n = s->without == NULL ? 0 : strlen(s->without);

    if (len == 0)
        return true;
    if (n > 0 && strncmp(path, s->without, n) == 0 && path[n] == '"')
        return false;
    for (size_t i = 0; i < len; i++) {
        size_t name = placeholder_at(block + i);
        const struct vault_placeholder *p = name == 0 ? NULL : find(s, block + i + 1, name);
        if (p != NULL && p->value == NULL)
            return false;
    }
    return true;
}

static int add_filled(const char *text, size_t len, const struct vault_substitution *s,
                      struct strbuf *ret, struct error *err)
{
    for (size_t i = 0; i < len;) {
        size_t name = placeholder_at(text + i);
        if (name == 0) {
            strbuf_add(ret, text + i++, 1);
            continue;
        }
        const struct vault_placeholder *p = find(s, text + i + 1, name);
        if (p == NULL)
            return error_set(err, ERR_INVALID, "nobody knows the placeholder @%.*s@", (int)name,
                             text + i + 1);
        if (p->value != NULL)
            strbuf_adds(ret, p->value);
        else /* in a comment */
            strbuf_add(ret, text + i, name + 2);
        i += name + 2;
    }
    return 0;
}

int vault_policy_fill(const char *text, const struct vault_substitution *s, struct strbuf *ret,
                      struct error *err)
{
    AUTO_STRBUF struct strbuf filled = STRBUF_INIT(VAULT_POLICY_MAX);
    bool left_out = false;

    if (check_values(s, err) < 0)
        return -1;
    while (*text != '\0') {
        size_t block, len = piece_len(text, &block);
        bool wanted = block_wanted(text + block, len - block, s);
        bool gap = left_out && text[0] == '\n'; /* the empty line behind it goes as well */

        if (wanted && !gap && add_filled(text, len, s, &filled, err) < 0)
            return -1;
        left_out = !wanted;
        text += len;
    }
    strbuf_adds(ret, strbuf_text(&filled));
    if (strbuf_check(&filled, "a policy", err) < 0 || strbuf_check(ret, "a policy", err) < 0)
        return -1;
    return 0;
}

int vault_policy_read(const char *folder, const char *name, struct strbuf *ret, struct error *err)
{
    char file[64];
    AUTO_CLOSE int fd = -1;

    (void)snprintf(file, sizeof(file), "%s.hcl", name);
    if (fs_open_dir(folder, &fd, err) < 0)
        return -1;
    if (fs_read_at(fd, file, VAULT_POLICY_MAX, ret, err) < 0)
        return error_prefix(err, "policies in '%s'", folder);
    return 0;
}
