/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/record.h"

#include "common/cleanup.h"
#include "common/parse.h"
#include "volume/commitment.h"
#include "volume/fskind.h"
#include "volume/geometry.h"

#include <time.h>

#define CREATED_FORM "####-##-##T##:##:##Z"

static const struct state_row {
    const char *name;
    bool known;       /* this version can work with it */
    bool may_key;     /* a wrapped key may be there, */
    bool needs_key;   /* must be */
    bool may_proof;   /* digest and mac may be there, */
    bool needs_proof; /* must be */
} states[] = {
    [RECORD_MINTING] = { "minting", true, false, false, false, false },
    [RECORD_NEW] = { "new", true, true, true, false, false },
    [RECORD_FORMATTING] = { "formatting", true, true, true, false, false },
    [RECORD_READY] = { "ready", true, true, true, true, true },
    [RECORD_CLONING] = { .name = "cloning" },
    [RECORD_REKEYING] = { .name = "rekeying" },
    [RECORD_REVOKED] = { .name = "revoked" },
    [RECORD_ERASED] = { "erased", true, true, false, true, false }, /* from any state */
};

static const char *const key_kinds[] = { "transit", "kv", "file", KEY_KIND_CLIENT };

const char *record_state_name(enum record_state state)
{
    unsigned int i = (unsigned int)state;

    return i < ARRAY_SIZE(states) ? states[i].name : "unknown";
}

int record_state_parse(const char *name, enum record_state *ret)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(states); i++)
        if (strcmp(states[i].name, name) == 0) {
            *ret = (enum record_state)i;
            return 0;
        }
    return -1;
}

const char *record_identity(bool pod)
{
    return pod ? IDENTITY_POD : IDENTITY_NODE;
}

bool record_is_client(const struct record *r)
{
    return strcmp(r->key_source, KEY_SOURCE_CLIENT) == 0;
}

/* --- decode --- */

static void read_version(struct json_reader *r)
{
    uint64_t v = 0;

    json_get_u64(r, "v", &v);
    if (v > RECORD_VERSION)
        json_problem(r, "its version is %llu, this program knows records up to version %d",
                     (unsigned long long)v, RECORD_VERSION);
    if (v == 0)
        json_problem(r, "field 'v' must be 1 or more");
}

static void read_identity(struct json_reader *r, struct record *rec)
{
    struct volume_id id;

    json_get_string(r, "id", rec->id, sizeof(rec->id));
    if (volume_id_parse(rec->id, &id, NULL) < 0)
        json_problem(r, "field 'id' must be a volume's id");
    json_get_string(r, "name", rec->name, sizeof(rec->name));
    if (rec->name[0] == '\0')
        json_problem(r, "field 'name' must not be empty");
    json_get_string(r, "uuid", rec->uuid, sizeof(rec->uuid));
    if (!uuid_valid(rec->uuid))
        json_problem(r, "field 'uuid' must be a lower-case uuid");
    json_get_string(r, "tenant", rec->tenant, sizeof(rec->tenant));
    if (!tenant_valid(rec->tenant))
        json_problem(r, "field 'tenant' must be 1 to 63 of a-z, 0-9 and '-'");
}

static void read_size(struct json_reader *r, struct record *rec)
{
    json_get_u64(r, "size", &rec->size);
    if (rec->size < GEOMETRY_SIZE_MIN || rec->size > GEOMETRY_SIZE_MAX ||
        rec->size % GEOMETRY_ROUND != 0)
        json_problem(r, "field 'size' must be a multiple of 1 MiB from 16 MiB to 64 TiB");
}

static void read_state(struct json_reader *r, struct record *rec)
{
    char text[16] = "";

    json_get_string(r, "state", text, sizeof(text));
    if (record_state_parse(text, &rec->state) < 0)
        json_problem(r, "field 'state' must be the name of a state");
    else if (!states[rec->state].known)
        json_problem(r, "its state is '%s', which this version of Coffer can't work with", text);
}

/* A problem of an object inside the record becomes the record's. */
static void close_inner(struct json_reader *r, struct json_reader *inner)
{
    struct error local = ERROR_INIT;

    if (json_reader_done(inner, &local) < 0)
        json_problem_error(r, &local);
}

static void expect_u64(struct json_reader *r, const char *key, uint64_t wanted)
{
    uint64_t found = 0;

    json_get_u64(r, key, &found);
    if (found != wanted)
        json_problem(r, "field '%s' must be %llu", key, (unsigned long long)wanted);
}

static void read_crypt(struct json_reader *r)
{
    json_t *obj = json_get_object(r, "crypt");
    char cipher[32] = "";

    if (obj == NULL)
        return;
    struct json_reader c = json_reader_of(obj, "field 'crypt'");

    json_get_string(&c, "cipher", cipher, sizeof(cipher));
    if (strcmp(cipher, GEOMETRY_CIPHER) != 0)
        json_problem(&c, "field 'cipher' must be '%s'", GEOMETRY_CIPHER);
    expect_u64(&c, "key_bits", GEOMETRY_KEY_BITS);
    expect_u64(&c, "sector", GEOMETRY_SECTOR);
    expect_u64(&c, "data_offset", GEOMETRY_DATA_OFFSET);
    close_inner(r, &c);
}

static bool kind_known(const char *kind)
{
    for (size_t i = 0; i < ARRAY_SIZE(key_kinds); i++)
        if (strcmp(key_kinds[i], kind) == 0)
            return true;
    return false;
}

static bool printable(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= 0x20 || *text > 0x7e)
            return false;
    return true;
}

/* keySource was read before. */
static void check_client_key(struct json_reader *k, const struct record *rec)
{
    bool client = strcmp(rec->key.kind, KEY_KIND_CLIENT) == 0;

    if (client != record_is_client(rec))
        json_problem(k, "field 'kind' must be client with keySource client, and only then");
    if (client && (!commitment_written(rec->key.ciphertext) || rec->key.version != 1))
        json_problem(k,
                     "field 'ciphertext' must be " COMMITMENT_PREFIX
                     " and %u lower-case hex digits "
                     "with key_version 1",
                     COMMITMENT_LEN);
}

static void read_key(struct json_reader *r, struct record *rec)
{
    const json_t *present = json_object_get(r->obj, "key");
    json_t *obj = json_get_object_opt(r, "key");

    if (present == NULL)
        json_problem(r, "field 'key' is missing");
    if (obj == NULL)
        return;
    struct json_reader k = json_reader_of(obj, "field 'key'");

    json_get_string(&k, "kind", rec->key.kind, sizeof(rec->key.kind));
    if (!kind_known(rec->key.kind))
        json_problem(&k, "field 'kind' must be transit, kv, file or client");
    json_get_string(&k, "ciphertext", rec->key.ciphertext, sizeof(rec->key.ciphertext));
    if (rec->key.ciphertext[0] == '\0' || !printable(rec->key.ciphertext))
        json_problem(&k, "field 'ciphertext' must be printable ASCII, not empty");
    json_get_u64(&k, "key_version", &rec->key.version);
    check_client_key(&k, rec);
    close_inner(r, &k);
}

static void read_how(struct json_reader *r, struct record *rec)
{
    json_get_string(r, "fs", rec->fs, sizeof(rec->fs));
    if (fs_kind_find(rec->fs) == NULL)
        json_problem(r, "field 'fs' must be ext4, xfs, btrfs or none");
    json_get_string(r, "kms", rec->kms, sizeof(rec->kms));
    if (!kms_name_valid(rec->kms))
        json_problem(r, "field 'kms' must be 1 to 63 of a-z, 0-9 and '-'");
    json_get_string(r, "keySource", rec->key_source, sizeof(rec->key_source));
    if (strcmp(rec->key_source, KEY_SOURCE_VAULT) != 0 && !record_is_client(rec))
        json_problem(r, "field 'keySource' must be vault or client");
}

static void read_proof(struct json_reader *r, const char *key, char ret[65])
{
    json_get_string(r, key, ret, 65);
    if (ret[0] != '\0' && !hex_lower_valid(ret, 64))
        json_problem(r, "field '%s' must be empty or 64 lower-case hex digits", key);
}

static bool created_valid(const char *text)
{
    static const char form[] = CREATED_FORM;

    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';

        if (form[i] == '#' ? !digit : text[i] != form[i])
            return false;
    }
    return true;
}

/* Fields whose other values belong to later versions. */
static void read_reserved(struct json_reader *r, struct record *rec)
{
    json_get_bool(r, "sealed", &rec->sealed);
    if (rec->sealed)
        json_problem(r, "field 'sealed' is true, which this version of Coffer can't work with");
    if (json_object_get(r->obj, "source") == NULL)
        json_problem(r, "field 'source' is missing");
    if (json_get_any_opt(r, "source") != NULL)
        json_problem(r, "field 'source' must be null in this version of Coffer");
}

static void recipients_problem(struct json_reader *r, const struct error *err)
{
    if (error_is_memory(err))
        json_problem_memory(r);
    else
        json_problem(r, "field 'recipients': %s", err->msg);
}

static void read_recipients(struct json_reader *r, struct record *rec)
{
    const json_t *array = json_get_array(r, "recipients");
    struct error local = ERROR_INIT;
    struct recipient_list list;

    if (array != NULL && (recipients_from_json(array, &list, &local) < 0 ||
                          recipients_encode(&list, rec->recipients, &local) < 0))
        recipients_problem(r, &local);
}

/* Written only when it is true: one volume has one form of its record, and one MAC. */
static void read_discard(struct json_reader *r, struct record *rec)
{
    const json_t *v = json_object_get(r->obj, "discard");

    (void)json_get_any_opt(r, "discard");
    if (v != NULL && !json_is_true(v))
        json_problem(r, "field 'discard' must be true, or not there");
    rec->discard = v != NULL;
}

/* Likewise. */
static void read_identity_of_user(struct json_reader *r, struct record *rec)
{
    const json_t *v = json_object_get(r->obj, "tenantIdentity");

    (void)json_get_any_opt(r, "tenantIdentity");
    if (v != NULL && (!json_is_string(v) || strcmp(json_string_value(v), IDENTITY_POD) != 0))
        json_problem(r, "field 'tenantIdentity' must be pod, or not there");
    rec->pod = v != NULL;
}

/* Likewise. */
static void read_stale_slots(struct json_reader *r, struct record *rec)
{
    const json_t *v = json_object_get(r->obj, "staleSlots");

    (void)json_get_any_opt(r, "staleSlots");
    if (v != NULL && !json_is_true(v))
        json_problem(r, "field 'staleSlots' must be true, or not there");
    rec->stale_slots = v != NULL;
}

int record_from_json(json_t *obj, struct record *ret, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "record");
    struct record rec = { .gen = 0 };

    read_version(&r);
    json_get_u64(&r, "gen", &rec.gen);
    read_identity(&r, &rec);
    read_size(&r, &rec);
    read_state(&r, &rec);
    read_crypt(&r);
    read_how(&r, &rec);
    read_key(&r, &rec);
    read_proof(&r, "digest", rec.digest);
    read_proof(&r, "mac", rec.mac);
    read_reserved(&r, &rec);
    read_recipients(&r, &rec);
    read_discard(&r, &rec);
    read_identity_of_user(&r, &rec);
    read_stale_slots(&r, &rec);
    json_get_string(&r, "created", rec.created, sizeof(rec.created));
    if (!created_valid(rec.created))
        json_problem(&r, "field 'created' must be like 2026-11-22T01:02:03Z");
    if (json_reader_done(&r, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    *ret = rec;
    return 0;
}

/* A record set back from `ready` keeps its digest and mac: it must not pass for one that may be
 * formatted. */
static int check_fits_state(const struct record *r, struct error *err)
{
    const struct state_row *s = &states[r->state];
    const struct {
        const char *name;
        bool present, may, needs;
    } parts[] = {
        { "key", r->key.ciphertext[0] != '\0', s->may_key, s->needs_key },
        { "digest", r->digest[0] != '\0', s->may_proof, s->needs_proof },
        { "mac", r->mac[0] != '\0', s->may_proof, s->needs_proof },
    };

    if (r->stale_slots && !s->may_proof)
        return error_set(err, ERR_DATA_LOSS,
                         "record: field 'staleSlots' must not be set in state '%s'", s->name);
    if (record_is_client(r) && r->pod)
        return error_set(err, ERR_DATA_LOSS,
                         "record: field 'tenantIdentity' must not be set with keySource client");
    if (r->recipients[0] != '\0' && !s->may_proof && !record_is_client(r))
        return error_set(err, ERR_DATA_LOSS,
                         "record: field 'recipients' must be empty in state '%s'", s->name);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        if (parts[i].needs && !parts[i].present)
            return error_set(err, ERR_DATA_LOSS, "record: field '%s' must be set in state '%s'",
                             parts[i].name, s->name);
        if (!parts[i].may && parts[i].present)
            return error_set(err, ERR_DATA_LOSS, "record: field '%s' must not be set in state '%s'",
                             parts[i].name, s->name);
    }
    return 0;
}

int record_decode(const char *text, size_t len, struct record *ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct record r;

    if (len > RECORD_MAX)
        return error_set(err, ERR_DATA_LOSS, "record is longer than %d bytes", RECORD_MAX);
    if (json_parse(text, len, "record", &obj, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    if (record_from_json(obj, &r, err) < 0 || check_fits_state(&r, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

/* --- encode --- */

static json_t *crypt_to_json(void)
{
    return json_pack("{s:s, s:i, s:i, s:I}", "cipher", GEOMETRY_CIPHER, "key_bits",
                     (int)GEOMETRY_KEY_BITS, "sector", (int)GEOMETRY_SECTOR, "data_offset",
                     (json_int_t)GEOMETRY_DATA_OFFSET);
}

static json_t *key_to_json(const struct record *r)
{
    if (r->key.ciphertext[0] == '\0')
        return json_null();
    return json_pack("{s:s, s:s, s:I}", "kind", r->key.kind, "ciphertext", r->key.ciphertext,
                     "key_version", (json_int_t)r->key.version);
}

static json_t *recipients_of(const struct record *r)
{
    return r->recipients[0] == '\0' ? json_array() : json_own(r->recipients);
}

json_t *record_to_json(const struct record *r)
{
    json_watch();
    /* "o" takes the references, also when packing fails or a part is NULL */
    AUTO_JSON json_t *obj = json_pack(
        "{s:i, s:I, s:s, s:s, s:s, s:s, s:I, s:s, s:o, s:s, s:s, s:s, s:o,"
        " s:s, s:s, s:b, s:o, s:n, s:s}",
        "v", RECORD_VERSION, "gen", (json_int_t)r->gen, "id", r->id, "name", r->name, "uuid",
        r->uuid, "tenant", r->tenant, "size", (json_int_t)r->size, "state",
        record_state_name(r->state), "crypt", crypt_to_json(), "fs", r->fs, "kms", r->kms,
        "keySource", r->key_source, "key", key_to_json(r), "digest", r->digest, "mac", r->mac,
        "sealed", (int)r->sealed, "recipients", recipients_of(r), "source", "created", r->created);

    if (obj != NULL && r->discard && json_object_set_new(obj, "discard", json_true()) < 0)
        return NULL;
    if (obj != NULL && r->pod &&
        json_object_set_new(obj, "tenantIdentity", json_string(IDENTITY_POD)) < 0)
        return NULL;
    if (obj != NULL && r->stale_slots && json_object_set_new(obj, "staleSlots", json_true()) < 0)
        return NULL;
    return TAKE_PTR(obj);
}

static int dump(const json_t *obj, size_t flags, struct strbuf *sb, struct error *err)
{
    AUTO_FREE char *text = json_text(obj, flags);

    if (text == NULL)
        return error_memory(err);
    strbuf_adds(sb, text);
    return strbuf_check(sb, "the record", err);
}

/* NULL of record_to_json, said. */
static int not_packed(struct error *err)
{
    if (json_no_memory())
        return error_memory(err);
    return error_set(err, ERR_INTERNAL, "a record holds text that is not UTF-8");
}

/* Nothing is written that could not be read again. */
static int check_readable(const struct strbuf *text, struct error *err)
{
    struct error local = ERROR_INIT;
    struct record again;

    if (record_decode(strbuf_text(text), text->len, &again, &local) == 0)
        return 0;
    if (error_is_memory(&local))
        return error_memory(err);
    return error_set(err, ERR_INTERNAL, "a record was to be written that could not be read: %s",
                     local.msg);
}

int record_encode(const struct record *r, struct strbuf *sb, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    AUTO_JSON json_t *obj = record_to_json(r);

    if (obj == NULL)
        return not_packed(err);
    if (dump(obj, JSON_COMPACT, &text, err) < 0)
        return -1;
    strbuf_adds(&text, "\n");
    if (strbuf_check(&text, "the record", err) < 0 || check_readable(&text, err) < 0)
        return -1;
    strbuf_add(sb, strbuf_text(&text), text.len);
    return strbuf_check(sb, "the record", err);
}

int record_mac_input(const struct record *r, struct strbuf *sb, struct error *err)
{
    static const char *const outside[] = { "gen", "key", "size", "state", "mac" };
    AUTO_JSON json_t *obj = record_to_json(r);

    if (obj == NULL)
        return not_packed(err);
    for (size_t i = 0; i < ARRAY_SIZE(outside); i++)
        (void)json_object_del(obj, outside[i]); /* each is there */
    return dump(obj, JSON_SORT_KEYS | JSON_COMPACT, sb, err);
}

void record_now(char ret[21])
{
    time_t now = time(NULL);
    struct tm tm = { 0 };

    (void)gmtime_r(&now, &tm);
    (void)strftime(ret, 21, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
