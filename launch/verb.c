/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/verb.h"

#include "common/parse.h"

static const struct verb verbs[] = {
    { "start", TAKES_ID, verb_start },
    { "stop", TAKES_ID | TAKES_GRACE, verb_stop },
    { "list", 0, launch_list },
};

static const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

static void read_fields(struct json_reader *r, const struct verb *verb, struct request *q)
{
    if ((verb->takes & TAKES_ID) != 0) {
        json_get_string(r, "id", q->id, sizeof(q->id));
        if (!hex_lower_valid(q->id, VM_ID_LEN))
            json_problem(r, "field 'id' must be %u lower-case hex digits", VM_ID_LEN);
    }
    if ((verb->takes & TAKES_GRACE) != 0) {
        json_get_u64(r, "grace_ms", &q->grace_ms);
        if (q->grace_ms > GRACE_MAX_MS)
            json_problem(r, "field 'grace_ms' must be at most %u", GRACE_MAX_MS);
    }
}

int launch_request_decode(const char *text, size_t len, const struct verb **ret_verb,
                          struct request *ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct request q = { .id = "" };
    char name[16];

    if (json_parse(text, len, "request", &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, "request");
    json_get_string(&r, "verb", name, sizeof(name));
    const struct verb *verb = r.problem[0] == '\0' ? verb_find(name) : NULL;
    if (verb == NULL)
        json_problem(&r, "field 'verb' must be start, stop or list");
    else
        read_fields(&r, verb, &q);
    if (json_reader_done(&r, err) < 0)
        return -1;
    *ret_verb = verb;
    *ret = q;
    return 0;
}

int reply_set(json_t *reply, const char *key, json_t *value, struct error *err)
{
    if (json_object_set_new(reply, key, value) < 0)
        return error_memory(err);
    return 0;
}
