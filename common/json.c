/* SPDX-License-Identifier: Apache-2.0 */
#define JSON_ITSELF
#include "common/base.h"
#include "common/json.h"

#include "common/cleanup.h"
#include "common/wipe.h"

#include <stdarg.h>

#define DEPTH_MAX 32
#define KEY_SHOWN 64 /* bytes of a foreign key in a message */

/*
 * jansson's lexer goes on when it can't grow its token: the text then lacks characters, and parsing
 * "works" (seen with 2.14). Its allocations are therefore watched, by thread. What it gives back is
 * wiped: Vault's answers hold keys.
 */
static _Thread_local bool out_of_memory;

static void *watched_malloc(size_t size)
{
    void *p = malloc(size);

    if (p == NULL)
        out_of_memory = true;
    return p;
}

/* Before main, so that no thread sees the change. */
static __attribute__((constructor)) void watch_allocations(void)
{
    json_set_alloc_funcs(watched_malloc, wipe_free);
}

void json_watch(void)
{
    out_of_memory = false;
}

bool json_no_memory(void)
{
    return out_of_memory;
}

char *json_text(const json_t *value, size_t flags)
{
    bool before = out_of_memory;
    char *text;

    out_of_memory = false;
    text = json_dumps(value, flags);
    if (out_of_memory) {
        wipe_free(text);
        text = NULL;
    }
    out_of_memory |= before;
    return text;
}

json_t *json_own(const char *text)
{
    bool before = out_of_memory;
    json_t *value;

    out_of_memory = false;
    value = json_loads(text, JSON_DECODE_ANY, NULL);
    if (out_of_memory) {
        json_decref(value);
        value = NULL;
    }
    out_of_memory |= before;
    return value;
}

/* jansson's parser recurses; its own limit (2048) is deep for a thread's stack. */
static bool too_deep(const char *text, size_t len)
{
    size_t depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']') && depth > 0)
            depth--;
        if (depth > DEPTH_MAX)
            return true;
    }
    return false;
}

/* Our own words: jansson's text quotes the input, which may hold what no message may. */
static const struct {
    enum json_error_code code;
    const char *text;
} problems[] = {
    { json_error_duplicate_key, "a key comes twice" },
    { json_error_invalid_utf8, "it is not UTF-8" },
    { json_error_null_byte_in_key, "it holds a NUL" },
    { json_error_null_character, "it holds a NUL" },
    { json_error_premature_end_of_input, "it ends too early" },
    { json_error_end_of_input_expected, "text follows its end" },
    { json_error_numeric_overflow, "a number is too big" },
};

static const char *parse_problem(const json_error_t *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(problems); i++)
        if (problems[i].code == json_error_code(e))
            return problems[i].text;
    return "the syntax is wrong";
}

int json_parse(const char *text, size_t len, const char *what, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *value = NULL;
    json_error_t e = { .line = 0 };

    if (too_deep(text, len))
        return error_set(err, ERR_INVALID, "%s is not valid JSON: nested deeper than %d", what,
                         DEPTH_MAX);
    out_of_memory = false;
    value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (out_of_memory)
        return error_memory(err);
    if (value == NULL)
        return error_set(err, ERR_INVALID, "%s is not valid JSON: %s (line %d, column %d)", what,
                         parse_problem(&e), e.line, e.column);
    *ret = TAKE_PTR(value);
    return 0;
}

struct json_reader json_reader_of(json_t *obj, const char *what)
{
    struct json_reader r = { .obj = obj, .what = what };

    if (!json_is_object(obj))
        json_problem(&r, "it must be an object");
    return r;
}

void json_problem(struct json_reader *r, const char *fmt, ...)
{
    va_list args;

    if (r->problem[0] != '\0')
        return;
    va_start(args, fmt);
    (void)vsnprintf(r->problem, sizeof(r->problem), fmt, args);
    va_end(args);
}

void json_problem_memory(struct json_reader *r)
{
    if (r->problem[0] == '\0')
        r->no_memory = true;
    json_problem(r, "out of memory");
}

void json_problem_error(struct json_reader *r, const struct error *why)
{
    if (error_is_memory(why))
        json_problem_memory(r);
    else
        json_problem(r, "%s", why->msg);
}

static bool was_seen(const struct json_reader *r, const char *key)
{
    for (size_t i = 0; i < r->n_seen; i++)
        if (strcmp(r->seen[i], key) == 0)
            return true;
    return false;
}

/* Marks the key and returns its value; NULL when absent (or null, when `optional`). */
static json_t *lookup(struct json_reader *r, const char *key, bool optional)
{
    json_t *v = json_object_get(r->obj, key);

    if (!was_seen(r, key)) {
        if (r->n_seen == ARRAY_SIZE(r->seen))
            json_problem(r, "too many fields are asked for");
        else
            r->seen[r->n_seen++] = key;
    }
    if (optional)
        return json_is_null(v) ? NULL : v;
    if (v == NULL)
        json_problem(r, "field '%s' is missing", key);
    return v;
}

static bool get_string(struct json_reader *r, const char *key, char *ret, size_t size,
                       bool optional)
{
    const json_t *v = lookup(r, key, optional);
    size_t len;

    if (v == NULL)
        return false;
    if (!json_is_string(v)) {
        json_problem(r, "field '%s' must be a text", key);
        return false;
    }
    len = json_string_length(v);
    if (len >= size) {
        json_problem(r, "field '%s' is longer than %zu bytes", key, size - 1);
        return false;
    }
    memcpy(ret, json_string_value(v), len + 1);
    return true;
}

void json_get_string(struct json_reader *r, const char *key, char *ret, size_t size)
{
    (void)get_string(r, key, ret, size, false);
}

bool json_get_string_opt(struct json_reader *r, const char *key, char *ret, size_t size)
{
    return get_string(r, key, ret, size, true);
}

static bool get_u64(struct json_reader *r, const char *key, uint64_t *ret, bool optional)
{
    const json_t *v = lookup(r, key, optional);

    if (v == NULL)
        return false;
    if (!json_is_integer(v)) {
        json_problem(r, "field '%s' must be a number", key);
        return false;
    }
    if (json_integer_value(v) < 0) {
        json_problem(r, "field '%s' must not be negative", key);
        return false;
    }
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

void json_get_u64(struct json_reader *r, const char *key, uint64_t *ret)
{
    (void)get_u64(r, key, ret, false);
}

bool json_get_u64_opt(struct json_reader *r, const char *key, uint64_t *ret)
{
    return get_u64(r, key, ret, true);
}

bool json_get_number_opt(struct json_reader *r, const char *key, double *ret)
{
    const json_t *v = lookup(r, key, true);

    if (v == NULL)
        return false;
    if (!json_is_number(v)) {
        json_problem(r, "field '%s' must be a number", key);
        return false;
    }
    *ret = json_number_value(v);
    return true;
}

static bool get_bool(struct json_reader *r, const char *key, bool *ret, bool optional)
{
    const json_t *v = lookup(r, key, optional);

    if (v == NULL)
        return false;
    if (!json_is_boolean(v)) {
        json_problem(r, "field '%s' must be true or false", key);
        return false;
    }
    *ret = json_is_true(v);
    return true;
}

void json_get_bool(struct json_reader *r, const char *key, bool *ret)
{
    (void)get_bool(r, key, ret, false);
}

bool json_get_bool_opt(struct json_reader *r, const char *key, bool *ret)
{
    return get_bool(r, key, ret, true);
}

static json_t *get_container(struct json_reader *r, const char *key, json_type type, bool optional)
{
    json_t *v = lookup(r, key, optional);

    if (v == NULL || json_typeof(v) == type)
        return v;
    json_problem(r, "field '%s' must be %s", key, type == JSON_OBJECT ? "an object" : "an array");
    return NULL;
}

json_t *json_get_object(struct json_reader *r, const char *key)
{
    return get_container(r, key, JSON_OBJECT, false);
}

json_t *json_get_object_opt(struct json_reader *r, const char *key)
{
    return get_container(r, key, JSON_OBJECT, true);
}

json_t *json_get_array(struct json_reader *r, const char *key)
{
    return get_container(r, key, JSON_ARRAY, false);
}

json_t *json_get_any_opt(struct json_reader *r, const char *key)
{
    return lookup(r, key, true);
}

/* A foreign key, cut between two characters. */
static void unknown_field(struct json_reader *r, const char *key)
{
    size_t len = strlen(key), shown = len;

    if (len > KEY_SHOWN) {
        shown = KEY_SHOWN;
        while (shown > 0 && ((unsigned char)key[shown] & 0xc0) == 0x80)
            shown--;
    }
    json_problem(r, "unknown field '%.*s%s'", (int)shown, key, shown < len ? "..." : "");
}

int json_reader_done(struct json_reader *r, struct error *err)
{
    const char *key;
    json_t *value;

    if (r->problem[0] == '\0')
        json_object_foreach (r->obj, key, value)
            if (!was_seen(r, key))
                unknown_field(r, key);
    if (r->problem[0] == '\0')
        return 0;
    if (r->no_memory)
        return error_memory(err);
    return error_set(err, ERR_INVALID, "%s: %s", r->what, r->problem);
}
