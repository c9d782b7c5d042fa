/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h: the volume's own truth, one strict JSON object of at most 8 KiB kept with the volume by
 * its backend. It says what the volume is and which steps are done; it is UNTRUSTED input: compare
 * it with what the CSI request says (record_matches), and with the MAC once the storage key is
 * known (crypt/). docs/PROTOCOL-record.md has the format. Plain value type, no heap.
 */
#ifndef COFFER_VOLUME_RECORD_H
#define COFFER_VOLUME_RECORD_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "common/strbuf.h"
#include "volume/id.h"
#include "volume/recipients.h"

#define RECORD_VERSION  1
#define RECORD_MAX      8192
#define RECORD_NAME_MAX 512
#define WRAPPED_KEY_MAX 2048

enum record_state {
    RECORD_MINTING,    /* written before the key exists and before space is reserved */
    RECORD_NEW,        /* key and space exist; nothing was ever written: may be formatted */
    RECORD_FORMATTING, /* a format began; may be formatted again under the lock */
    RECORD_READY,      /* holds data; never formatted again, whatever the disk looks like */
    RECORD_CLONING,    /* this and the next two: later capabilities, refused by this version */
    RECORD_REKEYING,
    RECORD_REVOKED,
    RECORD_ERASED, /* being deleted: only delete may go on */
};

struct record {
    uint64_t gen; /* compare-and-swap: each write is old gen + 1 */
    char id[VOLUME_ID_MAX + 1];
    char name[RECORD_NAME_MAX + 1]; /* the CSI name, any Unicode */
    char uuid[37];
    char tenant[TENANT_MAX + 1];
    uint64_t size; /* bytes asked for, rounded up; without the 4 MiB header */
    enum record_state state;
    char fs[16]; /* a name of fskind.h: "ext4", or "none" for raw block */
    char kms[KMS_NAME_MAX + 1];
    char key_source[16]; /* KEY_SOURCE_... */
    struct {
        char kind[16];                        /* "transit", "kv", "file"; "client" */
        char ciphertext[WRAPPED_KEY_MAX + 1]; /* "" while minting; of a client's: record_commit */
        uint64_t version;
    } key;
    char digest[65]; /* SHA-256 hex of the LUKS2 digest object; "" before ready */
    char mac[65];    /* HMAC-SHA256 hex; "" before ready */
    bool sealed;
    bool discard;     /* what the user's file system frees is freed in the pool */
    bool pod;         /* tenantIdentity: a pod's own token opens it, at publish */
    bool stale_slots; /* keyslots of an earlier storage key may still be in the header */
    /* For whom the storage key is wrapped beside `key`, in recipients.h's text; "" = nobody. */
    char recipients[RECIPIENTS_TEXT_MAX + 1];
    char created[21]; /* RFC 3339, UTC, seconds */
};

const char *record_state_name(enum record_state state);
int record_state_parse(const char *name, enum record_state *ret) MUST_CHECK;

/* Strict: unknown field, wrong type, wrong crypt constants, newer version -> ERR_DATA_LOSS by name.
 * record_from_json checks each field. record_decode and record_encode, for what is stored, also
 * check that the fields fit the state: a key from `new` on, digest and mac at `ready`
 * and not before. */
int record_decode(const char *text, size_t len, struct record *ret, struct error *err) MUST_CHECK;
int record_from_json(json_t *obj, struct record *ret, struct error *err) MUST_CHECK;
json_t *record_to_json(const struct record *r); /* new reference, or NULL */
/* ERR_INTERNAL, and nothing appended, for a record that record_decode would refuse. */
int record_encode(const struct record *r, struct strbuf *sb, struct error *err) MUST_CHECK;
/* The canonical bytes under the MAC: all fields but gen, key, size, state and mac; sorted keys,
 * compact. `digest` is inside. */
int record_mac_input(const struct record *r, struct strbuf *sb, struct error *err) MUST_CHECK;

/* Who opens a volume, as parameters, record and volume_context name it. */
#define IDENTITY_NODE "node" /* the node's own login, at stage; written nowhere */
#define IDENTITY_POD  "pod"  /* the login of each pod that uses it, at publish */
const char *record_identity(bool pod);

/* Who made the storage key: the key service, or a user's device (commitment.h). */
#define KEY_SOURCE_VAULT  "vault"
#define KEY_SOURCE_CLIENT "client"
bool record_is_client(const struct record *r);

/* What a CSI request says the volume is (volume_id, volume_context). NULL: not compared. */
struct record_claim {
    const char *id, *tenant, *uuid, *kms, *key_source, *discard, *identity;
};
/* ERR_DATA_LOSS naming the first field that differs. */
int record_matches(const struct record *r, const struct record_claim *claim,
                   struct error *err) MUST_CHECK;

/* What a list shows of a volume. The texts are somebody else's. */
struct record_summary {
    uint64_t size;
    enum record_state state;
    bool discard, pod;
    const char *uuid, *tenant, *kms, *key_source;
};
struct record_summary record_summary_of(const struct record *r); /* the texts are r's */

void record_now(char ret[21]); /* for `created` */

#endif
