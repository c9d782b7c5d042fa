/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/fault.h"
#include "common/strbuf.h"
#include "crypt/dm.h"
#include "crypt/header.h"
#include "crypt/keys.h"

#include <errno.h>
#include <unistd.h>

/* A mapping that an earlier, killed format left: nothing was ever mounted from it, so it may go. */
static int drop_mapping(const struct request *q, struct error *err)
{
    struct error local = ERROR_INIT;
    struct mapping m;

    if (dm_refuse_other_names(q->name, q->record.uuid, err) < 0)
        return -1;
    if (dm_inspect(q->name, &m, NULL, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    if (m.state == MAPPING_OK && mapping_must_fit(&m, q, err) < 0)
        return -1;
    if (m.state == MAPPING_WRONG)
        return error_set(err, ERR_PRECONDITION, "mapping '%s' isn't what Coffer makes: %s", m.name,
                         m.why);
    if (m.open_count > 0)
        return error_set(err, ERR_ABORTED, "mapping '%s' is open (%d): its volume is not formatted",
                         m.name, m.open_count);
    return dm_remove(q->name, false, err);
}

static int write_luks(const struct request *q, struct session *s, struct error *err)
{
    char path[FD_PATH_MAX];

    if (session_read_key(q, FD_KEY, s, err) < 0)
        return -1;
    FAULT_POINT("crypt:format:begin");
    fd_path(FD_DEVICE, path);
    if (luks_format(path, q->record.uuid, s->passphrase, err) < 0)
        return -1;
    if (fsync(FD_DEVICE) < 0)
        return error_errno(err, errno, "flush the new header");
    FAULT_POINT("crypt:format:flushed");
    return 0;
}

/* The record's proof of this header: read from the disk, as every later open will. */
static int prove(struct request *q, struct session *s, struct error *err)
{
    if (luks_load(FD_DEVICE, q->record.uuid, NULL, &s->luks, err) < 0)
        return -1;
    if (str_copy(q->record.digest, sizeof(q->record.digest), s->luks.facts.digest) < 0)
        return error_set(err, ERR_INTERNAL, "a digest that is too long");
    return key_record_mac(s->sk, &q->record, q->record.mac, err);
}

int verb_format(struct request *q, json_t *reply, struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;
    struct mapping m;

    if (drop_mapping(q, err) < 0 ||
        header_may_format(FD_DEVICE, q->record.uuid, q->stored_state, err) < 0 ||
        write_luks(q, &s, err) < 0 || prove(q, &s, err) < 0 || session_activate(q, &s, &m, err) < 0)
        return -1;
    if (json_object_set_new(reply, "digest", json_string(q->record.digest)) < 0 ||
        json_object_set_new(reply, "mac", json_string(q->record.mac)) < 0)
        return error_memory(err);
    return reply_mapping(reply, &m, err);
}
