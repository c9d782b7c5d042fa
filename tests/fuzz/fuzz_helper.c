/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coffer-crypt's request: the first line is the verb, the rest what comes on stdin. What is
 * accepted names a mapping that belongs to its record.
 *
 * covers: crypt/request.c crypt/verb.c:verb_find
 * but: check_device reply_mapping reply_mac (look at a block device; write answers)
 */
#include "tests/fuzz/target.h"

#include "crypt/verb.h"

static void check(const struct verb *verb, const struct request *q)
{
    struct volume_id id;
    struct error err = ERROR_INIT;
    char name[DM_NAME_LEN + 1];

    if ((verb->takes & TAKES_RECORD) == 0)
        return;
    must(volume_id_parse(q->record.id, &id, &err) == 0);
    volume_id_dm_name(&id, name);
    must(strcmp(name, q->name) == 0 && uuid_valid(q->record.uuid));
    must((verb->takes & TAKES_DEVICE_FD) == 0 || q->device_size > 0);
}

static const struct verb *find(const uint8_t *data, size_t size, size_t *ret_at)
{
    const uint8_t *end = memchr(data, '\n', size < 32 ? size : 32);
    char name[33];

    if (end == NULL)
        return NULL;
    memcpy(name, data, (size_t)(end - data));
    name[end - data] = '\0';
    *ret_at = (size_t)(end - data) + 1;
    return verb_find(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct request q;
    struct error err = ERROR_INIT;
    size_t at = 0;
    const struct verb *verb = size > 0 ? find(data, size, &at) : NULL;

    if (verb == NULL)
        return 0;
    mark(&q, sizeof(q));
    if (request_decode(verb, (const char *)data + at, size - at, &q, &err) == 0) {
        check(verb, &q);
        return 0;
    }
    must_be_sentence(&err);
    must_be_marked(&q, sizeof(q));
    return 0;
}
