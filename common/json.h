/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h: strict JSON on jansson: duplicate keys, trailing text, NUL and too deep nesting are
 * refused. An object reader counts what was read, so that "unknown field" is an error for free:
 *   struct json_reader r = json_reader_of(obj, "record");
 *   json_get_string(&r, "id", id, sizeof(id)); json_get_u64(&r, "size", &size);
 *   return json_reader_done(&r, err);
 * The first problem sticks; json_reader_done reports it ("record: field 'size' must be a number").
 * Until it has answered 0 the outputs mean nothing. These messages quote no value. The keys asked
 * for are string constants, 40 of them at most. A value or reader is one thread's; any number of
 * threads may parse. All memory of jansson's is wiped when it is given back.
 */
#ifndef COFFER_COMMON_JSON_H
#define COFFER_COMMON_JSON_H

#include "common/base.h"
#include "common/error.h"

#include <jansson.h>

#ifndef JSON_ITSELF
#define json_dumps(value, flags)            banned_json_dumps_use_json_text
#define json_loads(text, flags, error)      banned_json_loads_use_json_own
#define json_loadb(text, len, flags, error) banned_json_loadb_use_json_parse
#endif

static inline void cleanup_json(json_t **p)
{
    json_decref(*p);
}
#define AUTO_JSON __attribute__((cleanup(cleanup_json)))

int json_parse(const char *text, size_t len, const char *what, json_t **ret,
               struct error *err) MUST_CHECK;

/* What jansson's json_dumps and json_loads would answer, but NULL whenever an allocation failed:
 * they may go on with a text that lacks characters. json_own reads what we wrote ourselves. */
char *json_text(const json_t *value, size_t flags); /* the caller frees */
json_t *json_own(const char *text);
/* Whether an allocation of jansson's failed in this thread since json_watch. */
void json_watch(void);
bool json_no_memory(void);

struct json_reader {
    json_t *obj; /* borrowed */
    const char *what;
    const char *seen[40];
    size_t n_seen;
    char problem[200]; /* "" while fine */
    bool no_memory;    /* the problem is error_memory's */
};

struct json_reader json_reader_of(json_t *obj, const char *what);
/* Required unless the name says _opt; the _opt forms return false and leave the output when the
 * field is absent or null. */
void json_get_string(struct json_reader *r, const char *key, char *ret, size_t size);
bool json_get_string_opt(struct json_reader *r, const char *key, char *ret, size_t size);
void json_get_u64(struct json_reader *r, const char *key, uint64_t *ret); /* integer >= 0 */
bool json_get_u64_opt(struct json_reader *r, const char *key, uint64_t *ret);
bool json_get_number_opt(struct json_reader *r, const char *key, double *ret); /* also 1.5 */
void json_get_bool(struct json_reader *r, const char *key, bool *ret);
bool json_get_bool_opt(struct json_reader *r, const char *key, bool *ret);
json_t *json_get_object(struct json_reader *r, const char *key); /* borrowed; NULL = problem set */
json_t *json_get_object_opt(struct json_reader *r, const char *key);
json_t *json_get_array(struct json_reader *r, const char *key);
json_t *json_get_any_opt(struct json_reader *r, const char *key); /* marks as seen, any type */
void json_problem(struct json_reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void json_problem_memory(struct json_reader *r);
void json_problem_error(struct json_reader *r, const struct error *why); /* of a value inside */
/* -1 with ERR_INVALID (or error_memory's) when something was wrong or a field was not asked for. */
int json_reader_done(struct json_reader *r, struct error *err) MUST_CHECK;

#endif
