/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/restore.h"

#include "common/json.h"
#include "common/strbuf.h"
#include "volume/geometry.h"

#define GEN_MAX ((uint64_t)INT64_MAX - 1) /* what JSON can still write one more than */

/* ---- what is there ---- */

static uint64_t number_of(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_integer(v) && json_integer_value(v) > 0 ? (uint64_t)json_integer_value(v) : 0;
}

static int take_hints(const char *text, size_t len, struct restore_there *ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct error local = ERROR_INIT;

    if (json_parse(text, len, "record", &obj, &local) < 0)
        return error_is_memory(&local) ? error_pass(err, &local) : 0;
    const char *state = json_string_value(json_object_get(obj, "state"));
    ret->gen = number_of(obj, "gen");
    ret->version = number_of(obj, "v");
    if (state != NULL)
        (void)snprintf(ret->state, sizeof(ret->state), "%.15s", state);
    return 0;
}

int restore_read(const char *text, size_t len, const char *id, struct restore_there *ret,
                 struct error *err)
{
    const struct record_claim claim = { .id = id };
    struct error local = ERROR_INIT;

    if (record_decode(text, len, &ret->record, &local) == 0 &&
        record_matches(&ret->record, &claim, &local) == 0) {
        ret->found = RESTORE_RECORD;
        return 0;
    }
    if (error_is_memory(&local)) /* as unreadable it could be overwritten by an older one */
        return error_pass(err, &local);
    ret->found = RESTORE_UNREADABLE;
    (void)snprintf(ret->problem, sizeof(ret->problem), "%.299s", local.msg);
    return take_hints(text, len, ret, err);
}

/* ---- the rules, one function each ---- */

typedef int rule(const struct restore_there *there, const struct record *backup, struct error *err);

static int only_ready(const struct restore_there *there UNUSED, const struct record *backup,
                      struct error *err)
{
    if (backup->state == RECORD_READY)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the backup's state is '%s': only a 'ready' record is restored, because a "
                     "volume with any other could be formatted or deleted",
                     record_state_name(backup->state));
}

static int not_newer(const struct restore_there *there, const struct record *backup UNUSED,
                     struct error *err)
{
    if (there->found != RESTORE_UNREADABLE || there->version <= RECORD_VERSION)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the record there is of version %llu, which a newer Coffer wrote; this one "
                     "knows versions up to %d: use the newer program",
                     (unsigned long long)there->version, RECORD_VERSION);
}

/* Also of a record that is unreadable for another reason. */
static int not_lower(const struct restore_there *there, const struct record *backup UNUSED,
                     struct error *err)
{
    const char *name = there->found == RESTORE_RECORD       ? record_state_name(there->record.state)
                       : there->found == RESTORE_UNREADABLE ? there->state
                                                            : "";
    enum record_state state;

    /* a word that is no state says nothing; up to `ready` nothing is lowered */
    if (name[0] == '\0' || record_state_parse(name, &state) < 0 || state <= RECORD_READY)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     state == RECORD_ERASED
                         ? "the record there says '%s': the volume is being deleted, which is final"
                         : "the record there says '%s', which is not lowered to 'ready'",
                     name);
}

static int same_creation(const struct restore_there *there, const struct record *backup,
                         struct error *err)
{
    if (there->found != RESTORE_RECORD || strcmp(there->record.uuid, backup->uuid) == 0)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the record there is of another creation of this name (uuid %s, the backup's "
                     "is %s): if it is the one that is wrong, move it away first",
                     there->record.uuid, backup->uuid);
}

/* The record there may hold the only form of the key that opens the volume now. A recipient more or
 * fewer changes the MAC as well: which of the two it was, nobody can tell without the key. */
static int same_key(const struct restore_there *there, const struct record *backup,
                    struct error *err)
{
    const struct record *now = &there->record;

    if (there->found != RESTORE_RECORD || now->state != RECORD_READY ||
        strcmp(now->digest, backup->digest) != 0 || strcmp(now->mac, backup->mac) == 0)
        return 0;
    return error_set(
        err, ERR_PRECONDITION,
        "the record there has another storage key than the backup, or other recipients: the key "
        "was rotated since, and the backup's opens nothing any more, or the list was changed; if "
        "the record there is the one that is wrong, move it away first");
}

static int not_in_use_otherwise(const struct restore_there *there, const struct record *backup,
                                struct error *err)
{
    char dm_name[DM_NAME_LEN + 1], wanted[DM_UUID_MAX + 1], fields[200];
    struct record now = there->record;
    struct volume_id id;

    if (there->dm_uuid[0] == '\0')
        return 0;
    if (volume_id_parse(backup->id, &id, err) < 0)
        return -1;
    volume_id_dm_name(&id, dm_name);
    volume_dm_uuid(backup->uuid, dm_name, wanted);
    if (strcmp(there->dm_uuid, wanted) != 0)
        return error_set(err, ERR_PRECONDITION,
                         "the volume is in use with another record: its mapping has the dm uuid "
                         "'%s', this backup would have '%s'",
                         there->dm_uuid, wanted);
    if (there->found != RESTORE_RECORD)
        return 0;
    now.size = backup->size; /* an expand changes it */
    restore_difference(&now, backup, fields, sizeof(fields));
    if (fields[0] == '\0')
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the volume is in use with another record (it differs in %s): unstage it "
                     "first",
                     fields);
}

static int image_there(const struct restore_there *there, const struct record *backup,
                       struct error *err)
{
    uint64_t needed = backup->size + GEOMETRY_DATA_OFFSET;

    if (!there->has_image)
        return error_set(err, ERR_PRECONDITION,
                         "the volume's image is not there: bring it back first, a record alone is "
                         "no volume");
    if (there->image_bytes >= needed)
        return 0;
    return error_set(err, ERR_DATA_LOSS,
                     "the volume's image has %llu bytes, but the backup's volume needs %llu: bring "
                     "the whole image back first",
                     (unsigned long long)there->image_bytes, (unsigned long long)needed);
}

static int generation_left(const struct restore_there *there, const struct record *backup,
                           struct error *err)
{
    if (backup->gen < GEN_MAX && there->record.gen < GEN_MAX && there->gen < GEN_MAX)
        return 0;
    return error_set(err, ERR_DATA_LOSS,
                     "a generation is so high that no higher one can be "
                     "written: that record was forged, move it away first");
}

/* ---- the plan ---- */

static uint64_t highest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The image grew when the volume was expanded after the backup was made; no volume ever shrinks. */
static uint64_t size_of(const struct restore_there *there, const struct record *backup)
{
    uint64_t holds = (there->image_bytes - GEOMETRY_DATA_OFFSET) / GEOMETRY_ROUND * GEOMETRY_ROUND;

    return holds <= GEOMETRY_SIZE_MAX ? highest(holds, backup->size) : backup->size;
}

int restore_plan(const struct restore_there *there, const struct record *backup, struct record *ret,
                 struct error *err)
{
    static rule *const rules[] = { only_ready,    not_newer,      not_lower,
                                   same_creation, same_key,       not_in_use_otherwise,
                                   image_there,   generation_left };
    struct record r = *backup;

    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        if (rules[i](there, backup, err) < 0)
            return -1;
    }
    r.gen = highest(backup->gen, there->gen);
    if (there->found == RESTORE_RECORD)
        r.gen = highest(r.gen, there->record.gen);
    r.gen++;
    r.size = size_of(there, backup);
    *ret = r;
    return 0;
}

/* Whatever fields a record has: one that a later version adds is compared too. */
void restore_difference(const struct record *a, const struct record *b, char *ret, size_t size)
{
    AUTO_JSON json_t *one = record_to_json(a);
    AUTO_JSON json_t *other = record_to_json(b);
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(512);
    const char *key;
    json_t *value;

    json_object_foreach (one, key, value) {
        if (strcmp(key, "gen") != 0 && !json_equal(value, json_object_get(other, key)))
            strbuf_addf(&text, "%s%s", text.len > 0 ? ", " : "", key);
    }
    bool whole = one != NULL && other != NULL && !text.failed;
    (void)snprintf(ret, size, "%s", whole ? strbuf_text(&text) : "?");
}
