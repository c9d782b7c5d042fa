/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/mapping.h"

#include "common/blockdev.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "common/strbuf.h"

static const char *const state_names[] = {
    [MAPPING_OK] = "ok",
    [MAPPING_ZOMBIE] = "zombie",
    [MAPPING_WRONG] = "wrong",
};

const char *mapping_state_name(enum mapping_state state)
{
    return state_names[state];
}

static int state_parse(const char *text, enum mapping_state *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(state_names); i++) {
        if (strcmp(text, state_names[i]) == 0) {
            *ret = (enum mapping_state)i;
            return 0;
        }
    }
    return -1;
}

json_t *mapping_to_json(const struct mapping *m)
{
    char dev[DEV_TEXT_SIZE], backing[DEV_TEXT_SIZE];

    blockdev_text(m->dev, dev);
    blockdev_text(m->backing, backing);
    return json_pack("{ss ss ss ss sI si sb sb ss ss}", "name", m->name, "uuid", m->dm_uuid, "dev",
                     dev, "backing", backing, "size", (json_int_t)m->size, "open", m->open_count,
                     "read_only", m->read_only, "discards", m->discards, "state",
                     mapping_state_name(m->state), "why", m->why);
}

static void get_dev(struct json_reader *r, const char *key, dev_t *ret)
{
    char text[DEV_TEXT_SIZE] = "";

    json_get_string(r, key, text, sizeof(text));
    if (parse_dev(text, ret) < 0)
        json_problem(r, "field '%s' must be major:minor", key);
}

int mapping_from_json(json_t *obj, struct mapping *ret, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "mapping");
    struct mapping m = { .name = "" };
    char state[16] = "";
    uint64_t open_count = 0;

    json_get_string(&r, "name", m.name, sizeof(m.name));
    json_get_string(&r, "uuid", m.dm_uuid, sizeof(m.dm_uuid));
    get_dev(&r, "dev", &m.dev);
    get_dev(&r, "backing", &m.backing);
    json_get_u64(&r, "size", &m.size);
    json_get_u64(&r, "open", &open_count);
    json_get_bool(&r, "read_only", &m.read_only);
    json_get_bool(&r, "discards", &m.discards);
    json_get_string(&r, "state", state, sizeof(state));
    json_get_string(&r, "why", m.why, sizeof(m.why));
    if (state_parse(state, &m.state) < 0)
        json_problem(&r, "field 'state' must be ok, zombie or wrong");
    if (open_count > INT32_MAX)
        json_problem(&r, "field 'open' is too large");
    if (json_reader_done(&r, err) < 0)
        return -1;
    m.open_count = (int)open_count;
    *ret = m;
    return 0;
}

int mapping_list_from_json(json_t *array, struct mapping_list *ret, struct error *err)
{
    size_t n = json_array_size(array);
    AUTO_FREE struct mapping *items = calloc(n > 0 ? n : 1, sizeof(*items));

    if (items == NULL)
        return error_memory(err);
    for (size_t i = 0; i < n; i++) {
        if (mapping_from_json(json_array_get(array, i), &items[i], err) < 0)
            return -1;
    }
    *ret = (struct mapping_list){ .items = TAKE_PTR(items), .n = n };
    return 0;
}

void mapping_list_release(struct mapping_list *l)
{
    free(l->items);
    *l = (struct mapping_list){ .items = NULL, .n = 0 };
}

const struct mapping *mapping_find(const struct mapping_list *l, const char *dm_name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->items[i].name, dm_name) == 0)
            return &l->items[i];
    }
    return NULL;
}
