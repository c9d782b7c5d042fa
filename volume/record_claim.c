/* SPDX-License-Identifier: Apache-2.0 */
/* What a record is held against, and what a list shows of it: record.h. */
#include "common/base.h"
#include "volume/record.h"

int record_matches(const struct record *r, const struct record_claim *claim, struct error *err)
{
    const struct {
        const char *name, *stored, *claimed;
    } fields[] = {
        { "id", r->id, claim->id },
        { "tenant", r->tenant, claim->tenant },
        { "uuid", r->uuid, claim->uuid },
        { "kms", r->kms, claim->kms },
        { "keySource", r->key_source, claim->key_source },
        { "discard", r->discard ? "true" : "false", claim->discard },
        { "tenantIdentity", record_identity(r->pod), claim->identity },
    };

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
        if (fields[i].claimed != NULL && strcmp(fields[i].stored, fields[i].claimed) != 0)
            return error_set(err, ERR_DATA_LOSS,
                             "record: field '%s' is '%s', which is not what the request says",
                             fields[i].name, fields[i].stored);
    return 0;
}

struct record_summary record_summary_of(const struct record *r)
{
    return (struct record_summary){ .size = r->size,
                                    .state = r->state,
                                    .discard = r->discard,
                                    .pod = r->pod,
                                    .uuid = r->uuid,
                                    .tenant = r->tenant,
                                    .kms = r->kms,
                                    .key_source = r->key_source };
}
