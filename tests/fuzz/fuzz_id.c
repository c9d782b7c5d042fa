/* SPDX-License-Identifier: Apache-2.0 */
/* Volume ids and dm uuids, which come from clients and from the kernel's list: the exact form or a
 * refusal. */
#include "common/base.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "volume/id.h"
#include "tests/fuzz/target.h"

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

    if (volume_uuid_from_dm(text, name, uuid) < 0)
        return;
    must(uuid_valid(uuid));
    volume_dm_uuid(uuid, name, again);
    must(strcmp(again, text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);
    struct error err = ERROR_INIT;
    struct volume_id id;

    must(text != NULL);
    if (volume_id_parse(text, &id, &err) == 0)
        check_id(&id, text);
    else
        must(err.code == ERR_NOT_FOUND && utf8_valid(err.msg, strlen(err.msg)));
    check_dm(text);
    return 0;
}
