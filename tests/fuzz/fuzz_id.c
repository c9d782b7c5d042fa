/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volume ids and dm uuids, which come from clients and from the kernel's list: the exact form or a
 * refusal.
 *
 * covers: volume/id.c
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "volume/id.h"

static void check_id(const struct volume_id *id, const char *text)
{
    char again[VOLUME_ID_MAX + 1], name[DM_NAME_LEN + 1];

    volume_id_format(id, again);
    must(strcmp(again, text) == 0);
    volume_id_dm_name(id, name);
    must(strlen(name) == DM_NAME_LEN);
}

static void check_dm(const char *text)
{
    static const char name[] = "coffer-0123456789abcdef0123456789abcdef-3f0c12ab";
    char uuid[37], again[DM_UUID_MAX + 1];

    mark(uuid, sizeof(uuid));
    if (volume_uuid_from_dm(text, name, uuid) < 0) {
        must_be_marked(uuid, sizeof(uuid));
        return;
    }
    must(uuid_valid(uuid));
    volume_dm_uuid(uuid, name, again);
    must(strcmp(again, text) == 0);
}

/* Whatever the CSI name is, the id made of it is one that parses. */
static void check_name(const char *name)
{
    struct volume_id id, again;
    char text[VOLUME_ID_MAX + 1];
    struct error err = ERROR_INIT;

    volume_id_from_name("fast", "3f0c12ab", name, &id);
    volume_id_format(&id, text);
    must(volume_id_parse(text, &again, &err) == 0 && strcmp(again.hash, id.hash) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);
    struct error err = ERROR_INIT;
    struct volume_id id;

    must(text != NULL);
    mark(&id, sizeof(id));
    if (volume_id_parse(text, &id, &err) == 0) {
        check_id(&id, text);
    } else {
        must(err.code == ERR_NOT_FOUND);
        must_be_sentence(&err);
        must_be_marked(&id, sizeof(id));
    }
    check_dm(text);
    check_name(text);
    must(!tenant_valid(text) || strlen(text) <= 63);
    must(kms_name_valid(text) == tenant_valid(text));
    return 0;
}
