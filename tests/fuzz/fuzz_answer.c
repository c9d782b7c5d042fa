/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coffer-crypt's reply as its caller reads it: byte 0 is the exit code. A mapping that is accepted
 * is the same when it is written and read again.
 *
 * covers: crypt/answer.c crypt/mapping.c
 * but: mapping_find (looks one up)
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "crypt/answer.h"
#include "crypt/mapping.h"

static void must_be_the_same(const struct mapping *a, const struct mapping *b)
{
    must(strcmp(a->name, b->name) == 0 && strcmp(a->dm_uuid, b->dm_uuid) == 0);
    must(a->dev == b->dev && a->backing == b->backing && a->size == b->size);
    must(a->open_count == b->open_count && a->read_only == b->read_only && a->state == b->state);
    must(strcmp(a->why, b->why) == 0);
}

static void check_mapping(const struct mapping *m)
{
    AUTO_JSON json_t *obj = mapping_to_json(m);
    struct mapping again;
    struct error err = ERROR_INIT;

    must(obj != NULL && mapping_from_json(obj, &again, &err) == 0);
    must_be_the_same(m, &again);
}

static void read_mapping(json_t *reply)
{
    struct mapping m;
    struct error err = ERROR_INIT;

    mark(&m, sizeof(m));
    if (answer_mapping(reply, &m, &err) == 0) {
        check_mapping(&m);
        return;
    }
    must(err.code == ERR_INTERNAL);
    must_be_sentence(&err);
    must_be_marked(&m, sizeof(m));
}

static void read_mappings(json_t *reply)
{
    AUTO_MAPPING_LIST struct mapping_list l = { .items = NULL };
    struct error err = ERROR_INIT;

    if (answer_mappings(reply, &l, &err) < 0) {
        must(l.items == NULL);
        must_be_sentence(&err);
        return;
    }
    for (size_t i = 0; i < l.n; i++) {
        check_mapping(&l.items[i]);
        must(mapping_find(&l, l.items[i].name) != NULL);
    }
}

static void read_hex(json_t *reply)
{
    char text[65];
    struct error err = ERROR_INIT;

    mark(text, sizeof(text));
    if (answer_hex(reply, "digest", text, &err) == 0) {
        must(hex_lower_valid(text, 64));
        return;
    }
    must_be_sentence(&err);
    must_be_marked(text, sizeof(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *reply = NULL;
    struct error err = ERROR_INIT;

    if (size == 0)
        return 0;
    if (answer_read("open", (const char *)data + 1, size - 1, data[0] == '0' ? 0 : data[0], &reply,
                    &err) < 0) {
        must(reply == NULL);
        must_be_sentence(&err);
        return 0;
    }
    must(data[0] == '0' || data[0] == 0);
    read_mapping(reply);
    read_mappings(reply);
    read_hex(reply);
    return 0;
}
