/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "crypt/dm.h"
#include "crypt/mapping.h"

static int add(json_t *array, const char *name, struct error *err)
{
    struct error local = ERROR_INIT;
    struct mapping m;

    if (dm_inspect(name, &m, NULL, &local) < 0) /* it may have gone since the list was made */
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    if (json_array_append_new(array, mapping_to_json(&m)) < 0)
        return error_memory(err);
    return 0;
}

int verb_list(struct request *q, json_t *reply, struct error *err)
{
    AUTO_DM_NAMES struct dm_names_list l = { .names = NULL, .n = 0 };
    json_t *array = json_array();

    if (json_object_set_new(reply, "mappings", array) < 0)
        return error_memory(err);
    if (dm_list_ours(&l, err) < 0)
        return -1;
    for (size_t i = 0; i < l.n; i++) {
        if (add(array, l.names[i], err) < 0)
            return -1;
    }
    return 0;
}
