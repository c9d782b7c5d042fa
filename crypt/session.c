/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/blockdev.h"
#include "common/fault.h"
#include "common/fs.h"
#include "common/leak.h"
#include "common/secret.h"
#include "crypt/dm.h"
#include "crypt/keys.h"

void session_release(struct session *s)
{
    luks_release(&s->luks);
    secret_free(s->sk);
    secret_free(s->passphrase);
    *s = (struct session)SESSION_INIT;
}

int session_take_key(const struct request *q, struct secret **sk, struct session *s,
                     struct error *err)
{
    s->sk = TAKE_PTR(*sk);
    LEAK("crypt:storage-key", secret_data(s->sk), secret_len(s->sk));
    if (key_passphrase(s->sk, q->record.uuid, &s->passphrase, err) < 0)
        return -1;
    LEAK("crypt:passphrase", secret_data(s->passphrase), secret_len(s->passphrase));
    return 0;
}

int session_read_key(const struct request *q, int fd, struct session *s, struct error *err)
{
    AUTO_SECRET struct secret *sk = NULL;

    if (key_read_frame(fd, q->deadline, &sk, err) < 0)
        return -1;
    return session_take_key(q, &sk, s, err);
}

int session_begin_by(const struct request *q, session_source source, struct session *ret,
                     struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;

    if (q->record.state != RECORD_READY)
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' can't be opened: its record says '%s', not 'ready'",
                         q->record.id, record_state_name(q->record.state));
    if (luks_load(FD_DEVICE, q->record.uuid, q->record.digest, &s.luks, err) < 0)
        return -1;
    FAULT_POINT("crypt:session:header");
    if (source(q, &s, err) < 0 || key_verify_record(s.sk, &q->record, err) < 0)
        return -1;
    FAULT_POINT("crypt:session:verified");
    *ret = s;
    s = (struct session)SESSION_INIT;
    return 0;
}

static int from_key_pipe(const struct request *q, struct session *s, struct error *err)
{
    return session_read_key(q, FD_KEY, s, err);
}

int session_begin(const struct request *q, struct session *ret, struct error *err)
{
    return session_begin_by(q, from_key_pipe, ret, err);
}

int session_give_passphrase(struct session *s, struct error *err)
{
    const char *what = "where the passphrase goes (descriptor 6)";

    if (luks_verify(&s->luks, s->passphrase, err) < 0 ||
        fs_write_all(FD_OUT, secret_data(s->passphrase), secret_len(s->passphrase), what, err) < 0)
        return -1;
    return fs_write_all(FD_OUT, "\n", 1, what, err);
}

/* --- the live mapping --- */

/* Discards show which blocks are in use, so they pass exactly when the record (under its MAC) says
 * so; a mapping without them would keep the pool's space for ever. */
static int must_fit_discards(const struct mapping *m, const struct request *q, struct error *err)
{
    if (m->discards == q->record.discard)
        return 0;
    return error_set(err, ERR_PRECONDITION, "mapping '%s' %s discards on, its record says it %s",
                     m->name, m->discards ? "passes" : "doesn't pass",
                     q->record.discard ? "must" : "must not");
}

int mapping_must_fit(const struct mapping *m, const struct request *q, struct error *err)
{
    char uuid[DM_UUID_MAX + 1], below[DEV_TEXT_SIZE], wanted[DEV_TEXT_SIZE];

    if (m->state == MAPPING_ZOMBIE)
        return error_set(err, ERR_UNAVAILABLE, "mapping '%s' is dead: %s", m->name, m->why);
    volume_dm_uuid(q->record.uuid, m->name, uuid);
    if (strcmp(m->dm_uuid, uuid) != 0)
        return error_set(err, ERR_PRECONDITION, "mapping '%s' has the dm uuid '%s' instead of '%s'",
                         m->name, m->dm_uuid, uuid);
    if (m->state != MAPPING_OK)
        return error_set(err, ERR_PRECONDITION, "mapping '%s' isn't what Coffer makes: %s", m->name,
                         m->why);
    if (must_fit_discards(m, q, err) < 0)
        return -1;
    if (q->device == 0 || m->backing == q->device)
        return 0;
    blockdev_text(m->backing, below);
    blockdev_text(q->device, wanted);
    return error_set(err, ERR_PRECONDITION, "mapping '%s' lies over device %s instead of %s",
                     m->name, below, wanted);
}

static int must_fit_mode(const struct mapping *m, const struct request *q, struct error *err)
{
    if (mapping_must_fit(m, q, err) < 0)
        return -1;
    if (m->read_only != q->read_only)
        return error_set(err, ERR_PRECONDITION, "mapping '%s' is there %s, wanted is %s", m->name,
                         m->read_only ? "read-only" : "writable",
                         q->read_only ? "read-only" : "writable");
    return 0;
}

static int reap(const struct mapping *m, struct error *err)
{
    if (m->open_count > 0)
        return error_set(err, ERR_ABORTED, "mapping '%s' is dead (%s), but still open (%d)",
                         m->name, m->why, m->open_count);
    return dm_remove(m->name, false, err);
}

/* The mapping that exists already: 1 the right one (*ret), 0 none (or a zombie that is gone now),
 * -1. */
static int find_existing(const struct request *q, struct mapping *ret, struct error *err)
{
    struct error local = ERROR_INIT;
    struct mapping m;
    bool inactive = false;

    if (dm_refuse_other_names(q->name, q->record.uuid, err) < 0)
        return -1;
    if (dm_inspect(q->name, &m, &inactive, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    if (m.state == MAPPING_ZOMBIE)
        return reap(&m, err);
    if (must_fit_mode(&m, q, err) < 0 || (inactive && dm_clear_inactive(q->name, err) < 0))
        return -1;
    *ret = m;
    return 1;
}

/* What was just made isn't what was asked for, or nobody can say: nothing may use it. */
static int tear_down(const char *name, struct error *err)
{
    struct error local = ERROR_INIT;

    if (dm_remove(name, false, &local) == 0)
        return error_prefix(err, "the new mapping was taken down again");
    return error_prefix(err, "the new mapping must not be used and could not be removed (%s)",
                        local.msg);
}

static int read_back(const struct request *q, struct mapping *ret, struct error *err)
{
    struct mapping m;
    int r = dm_inspect(q->name, &m, NULL, err);

    if (r == 0 &&
        (FAULT_FAIL("crypt:open:readback") ? error_set(err, ERR_PRECONDITION, "injected fault")
                                           : must_fit_mode(&m, q, err)) < 0)
        r = error_recode(err, ERR_DATA_LOSS);
    if (r < 0)
        return tear_down(q->name, err);
    *ret = m;
    return 0;
}

int session_activate(const struct request *q, struct session *s, struct mapping *ret,
                     struct error *err)
{
    int found = find_existing(q, ret, err);

    if (found != 0)
        return found < 0 ? -1 : 0;
    FAULT_POINT("crypt:open:checked");
    if (luks_activate(&s->luks, q->name, s->passphrase, q->read_only, q->record.discard, err) < 0)
        return -1;
    FAULT_POINT("crypt:open:activated");
    if (read_back(q, ret, err) < 0)
        return -1;
    dm_drop_node(q->name);
    FAULT_POINT("crypt:open:done");
    return 0;
}
