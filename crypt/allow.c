/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/allow.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"

#include <openssl/evp.h>

#define SALT_BYTES  32u /* LUKS_SALTSIZE; and the length of a SHA-256 digest */
#define DIGESTS_MAX 2   /* digest ids 0 and 1: re-encryption counts up */
#define SLOTS_AT    (2u * GEOMETRY_METADATA_SIZE)

static const char argon_advice[] = "only pbkdf2 is allowed; a slot that a stock luksAddKey made "
                                   "must be made again with --pbkdf pbkdf2";

/* --- small readers; the first problem sticks in r --- */

static void want_string(struct json_reader *r, const char *key, const char *want)
{
    char got[64] = "";

    json_get_string(r, key, got, sizeof(got));
    if (strcmp(got, want) != 0)
        json_problem(r, "field '%s' is '%.40s' instead of '%s'", key, got, want);
}

static void want_u64(struct json_reader *r, const char *key, uint64_t want)
{
    uint64_t got = UINT64_MAX;

    json_get_u64(r, key, &got);
    if (got != want)
        json_problem(r, "field '%s' is %llu instead of %llu", key, (unsigned long long)got,
                     (unsigned long long)want);
}

/* LUKS2 writes offsets and sizes as text, because JSON numbers lose bits above 2^53 */
static void want_number_text(struct json_reader *r, const char *key, uint64_t want)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)want);
    want_string(r, key, text);
}

static void want_iterations(struct json_reader *r)
{
    uint64_t n = 0;

    json_get_u64(r, "iterations", &n);
    if (n < 1 || n > ALLOW_ITERATIONS_MAX)
        json_problem(r, "field 'iterations' is %llu, outside 1 to %u", (unsigned long long)n,
                     ALLOW_ITERATIONS_MAX);
}

static void want_bytes(struct json_reader *r, const char *key)
{
    char text[B64_LEN(SALT_BYTES) + 1] = "";
    unsigned char bytes[SALT_BYTES];
    size_t n = 0;

    json_get_string(r, key, text, sizeof(text));
    if (b64_decode(bytes, sizeof(bytes), text, strlen(text), &n) < 0 || n != SALT_BYTES)
        json_problem(r, "field '%s' isn't the base64 of %u bytes", key, SALT_BYTES);
}

/* "0" .. "9" -> number; anything else is beyond every limit we have */
static unsigned small_id(const char *text)
{
    return text[0] >= '0' && text[0] <= '9' && text[1] == '\0' ? (unsigned)(text[0] - '0')
                                                               : UINT32_MAX;
}

static int refuse(struct error *err, const char *what)
{
    return error_set(err, ERR_DATA_LOSS, "LUKS2 header: %s", what);
}

/* Ends a reader; its problem becomes a refusal. */
static int done(struct json_reader *r, struct error *err)
{
    if (json_reader_done(r, err) == 0)
        return 0;
    (void)error_recode(err, ERR_DATA_LOSS);
    return error_prefix(err, "LUKS2 header");
}

/* --- keyslots --- */

static int check_af(json_t *obj, const char *what, struct error *err)
{
    struct json_reader r = json_reader_of(obj, what);

    want_string(&r, "type", "luks1");
    want_u64(&r, "stripes", 4000);
    want_string(&r, "hash", "sha256");
    return done(&r, err);
}

static int check_area(json_t *obj, const char *what, unsigned slot, struct error *err)
{
    struct json_reader r = json_reader_of(obj, what);

    want_string(&r, "type", "raw");
    want_string(&r, "encryption", GEOMETRY_CIPHER);
    want_u64(&r, "key_size", GEOMETRY_KEY_BITS / 8);
    want_number_text(&r, "offset", SLOTS_AT + (uint64_t)slot * GEOMETRY_SLOT_SIZE);
    want_number_text(&r, "size", GEOMETRY_SLOT_SIZE);
    return done(&r, err);
}

static int check_kdf(json_t *obj, const char *what, struct error *err)
{
    struct json_reader r = json_reader_of(obj, what);
    char type[32] = "";

    json_get_string(&r, "type", type, sizeof(type));
    if (strcmp(type, "pbkdf2") != 0)
        json_problem(&r, "its key derivation is '%s': %s", type, argon_advice);
    want_string(&r, "hash", "sha256");
    want_iterations(&r);
    want_bytes(&r, "salt");
    return done(&r, err);
}

static int check_keyslot(json_t *obj, unsigned slot, struct error *err)
{
    char what[32];
    struct json_reader r;
    json_t *af, *area, *kdf;

    (void)snprintf(what, sizeof(what), "keyslot %u", slot);
    r = json_reader_of(obj, what);
    want_string(&r, "type", "luks2");
    want_u64(&r, "key_size", GEOMETRY_KEY_BITS / 8);
    af = json_get_object(&r, "af");
    area = json_get_object(&r, "area");
    kdf = json_get_object(&r, "kdf");
    if (done(&r, err) < 0)
        return -1;
    if (check_af(af, what, err) < 0 || check_area(area, what, slot, err) < 0)
        return -1;
    return check_kdf(kdf, what, err);
}

static int check_keyslots(json_t *keyslots, bool present[GEOMETRY_SLOTS], struct error *err)
{
    const char *id;
    json_t *obj;

    json_object_foreach (keyslots, id, obj) {
        unsigned slot = small_id(id);

        if (slot >= GEOMETRY_SLOTS)
            return error_set(err, ERR_DATA_LOSS,
                             "LUKS2 header: keyslot '%.16s' isn't one of 0, 1 and 2", id);
        if (check_keyslot(obj, slot, err) < 0)
            return -1;
        present[slot] = true;
    }
    return json_object_size(keyslots) > 0 ? 0 : refuse(err, "it has no keyslot");
}

/* --- the segment --- */

static int check_segments(json_t *segments, struct error *err)
{
    json_t *obj = json_object_get(segments, "0");
    struct json_reader r;

    if (obj == NULL || json_object_size(segments) != 1)
        return refuse(err, "it must have exactly one segment, 0");
    r = json_reader_of(obj, "segment 0");
    want_string(&r, "type", "crypt");
    want_string(&r, "encryption", GEOMETRY_CIPHER);
    want_number_text(&r, "offset", GEOMETRY_DATA_OFFSET);
    want_string(&r, "size", "dynamic");
    want_number_text(&r, "iv_tweak", 0);
    want_u64(&r, "sector_size", GEOMETRY_SECTOR);
    return done(&r, err);
}

/* --- the digest --- */

/* The record pins what decides about the volume key; the lists of keyslots and segments may change.
 */
static int digest_hash(json_t *obj, char ret[65], struct error *err)
{
    AUTO_JSON json_t *pinned =
        json_pack("{sO sO sO sO sO}", "type", json_object_get(obj, "type"), "hash",
                  json_object_get(obj, "hash"), "iterations", json_object_get(obj, "iterations"),
                  "salt", json_object_get(obj, "salt"), "digest", json_object_get(obj, "digest"));
    AUTO_FREE char *text = pinned != NULL ? json_text(pinned, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    unsigned char sum[32];

    if (text == NULL)
        return error_memory(err);
    if (EVP_Digest(text, strlen(text), sum, NULL, EVP_sha256(), NULL) != 1)
        return error_set(err, ERR_INTERNAL, "libcrypto can't compute SHA-256");
    hex_encode(ret, sum, sizeof(sum));
    return 0;
}

static int check_digest_slots(json_t *array, const bool present[GEOMETRY_SLOTS],
                              struct header_facts *facts, struct error *err)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *id = json_string_value(json_array_get(array, i));
        unsigned slot = id != NULL ? small_id(id) : UINT32_MAX;

        if (slot >= GEOMETRY_SLOTS || !present[slot] || facts->slot[slot])
            return refuse(err, "its digest lists a keyslot that isn't there, or one twice");
        facts->slot[slot] = true;
    }
    for (unsigned slot = 0; slot < GEOMETRY_SLOTS; slot++) {
        if (present[slot] && !facts->slot[slot])
            return error_set(err, ERR_DATA_LOSS, "LUKS2 header: keyslot %u belongs to no digest",
                             slot);
    }
    return 0;
}

static bool only_segment_0(json_t *array)
{
    const char *id = json_string_value(json_array_get(array, 0));

    return json_array_size(array) == 1 && id != NULL && strcmp(id, "0") == 0;
}

static int check_digest(json_t *obj, const bool present[GEOMETRY_SLOTS], struct header_facts *facts,
                        struct error *err)
{
    struct json_reader r = json_reader_of(obj, "digest");
    json_t *slots, *segments;

    want_string(&r, "type", "pbkdf2");
    want_string(&r, "hash", "sha256");
    want_iterations(&r);
    want_bytes(&r, "salt");
    want_bytes(&r, "digest");
    slots = json_get_array(&r, "keyslots");
    segments = json_get_array(&r, "segments");
    if (segments != NULL && !only_segment_0(segments))
        json_problem(&r, "it must be the digest of segment 0 alone");
    if (done(&r, err) < 0 || check_digest_slots(slots, present, facts, err) < 0)
        return -1;
    return digest_hash(obj, facts->digest, err);
}

static int check_digests(json_t *digests, const bool present[GEOMETRY_SLOTS],
                         struct header_facts *facts, struct error *err)
{
    const char *id;
    json_t *obj;

    if (json_object_size(digests) != 1)
        return refuse(err, "it must have exactly one digest");
    json_object_foreach (digests, id, obj) {
        if (small_id(id) >= DIGESTS_MAX)
            return refuse(err, "its digest must be number 0 or 1");
        if (check_digest(obj, present, facts, err) < 0)
            return -1;
    }
    return 0;
}

/* --- the rest --- */

static int check_config(json_t *obj, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "config");
    json_t *flags, *requirements;

    want_number_text(&r, "json_size", GEOMETRY_METADATA_SIZE - 4096u);
    want_number_text(&r, "keyslots_size", GEOMETRY_KEYSLOTS_SIZE);
    flags = json_get_any_opt(&r, "flags");
    requirements = json_get_any_opt(&r, "requirements");
    if (flags != NULL && (!json_is_array(flags) || json_array_size(flags) != 0))
        json_problem(&r, "persistent flags aren't allowed");
    if (requirements != NULL)
        json_problem(
            &r, "requirements (an unfinished re-encryption, or a newer format) aren't allowed");
    return done(&r, err);
}

int allow_metadata(const char *json, size_t len, struct header_facts *ret, struct error *err)
{
    AUTO_JSON json_t *root = NULL;
    struct header_facts facts = { .digest = "" };
    bool present[GEOMETRY_SLOTS] = { false };
    json_t *keyslots, *tokens, *segments, *digests, *config;
    struct json_reader r;

    if (json_parse(json, len, "LUKS2 header", &root, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    r = json_reader_of(root, "metadata");
    keyslots = json_get_object(&r, "keyslots");
    tokens = json_get_object(&r, "tokens");
    segments = json_get_object(&r, "segments");
    digests = json_get_object(&r, "digests");
    config = json_get_object(&r, "config");
    if (json_object_size(tokens) != 0)
        json_problem(&r, "tokens aren't allowed");
    if (done(&r, err) < 0 || check_segments(segments, err) < 0 || check_config(config, err) < 0 ||
        check_keyslots(keyslots, present, err) < 0 ||
        check_digests(digests, present, &facts, err) < 0)
        return -1;
    *ret = facts;
    return 0;
}
