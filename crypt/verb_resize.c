/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/fault.h"
#include "crypt/dm.h"
#include "volume/geometry.h"

int verb_resize(struct request *q, json_t *reply, struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;
    const uint64_t wanted = q->device_size - GEOMETRY_DATA_OFFSET;
    bool inactive = false;
    struct mapping m;

    if (session_begin(q, &s, err) < 0)
        return -1;
    if (dm_inspect(q->name, &m, &inactive, err) < 0 || mapping_must_fit(&m, q, err) < 0)
        return -1;
    if (m.size > wanted)
        return error_set(err, ERR_OUT_OF_RANGE,
                         "mapping '%s' has %llu bytes, its device has room for %llu: "
                         "volumes never shrink",
                         q->name, (unsigned long long)m.size, (unsigned long long)wanted);
    if (inactive && dm_clear_inactive(q->name, err) < 0) /* what a killed resize left */
        return -1;
    if (m.size == wanted)
        return reply_mapping(reply, &m, err);
    if (luks_resize(&s.luks, q->name, s.passphrase, err) < 0)
        return -1;
    FAULT_POINT("crypt:resize:done");
    if (dm_inspect(q->name, &m, NULL, err) < 0 || mapping_must_fit(&m, q, err) < 0)
        return -1;
    if (m.size != wanted)
        return error_set(err, ERR_INTERNAL,
                         "mapping '%s' has %llu bytes after its resize instead of %llu", q->name,
                         (unsigned long long)m.size, (unsigned long long)wanted);
    dm_drop_node(q->name);
    return reply_mapping(reply, &m, err);
}
