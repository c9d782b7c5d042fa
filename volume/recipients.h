/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipients.h: whom a volume's storage key is wrapped for beside the key service: a list in its
 * record, under the record's MAC, in an order that is kept. An entry has the public key itself, so
 * that a new storage key can be wrapped for all who stay. It is known by its fingerprint, SHA-256
 * of the key's DER, which is computed and never stored. Whether a key is one, and what was wrapped,
 * isn't looked at here: recipient/ does, where libcrypto may be. docs/recipients.md. Plain values,
 * no heap.
 */
#ifndef COFFER_VOLUME_RECIPIENTS_H
#define COFFER_VOLUME_RECIPIENTS_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"

#define RECIPIENTS_MAX          16
#define RECIPIENTS_TEXT_MAX     6144 /* of the record's 8 KiB; RSA of 2048 bits takes 850 bytes */
#define RECIPIENT_ALGORITHM_MAX 47
#define RECIPIENT_RSA           "RSA-OAEP-256"
#define RECIPIENT_RSA_512       "RSA-OAEP-512"
#define RECIPIENT_X25519        "HPKE-Base-X25519-SHA256-A256GCM"
#define RECIPIENT_LABEL_MAX     63
#define RECIPIENT_KEY_MAX       640u /* DER; RSA of 4096 bits has 550 */
#define RECIPIENT_WRAPPED_MAX   512u

struct recipient {
    char algorithm[RECIPIENT_ALGORITHM_MAX + 1]; /* a name of recipient_algorithm_known */
    char label[RECIPIENT_LABEL_MAX + 1];         /* a person's word for it; may be empty */
    unsigned char key[RECIPIENT_KEY_MAX];        /* SubjectPublicKeyInfo, DER */
    size_t key_len;
    unsigned char wrapped[RECIPIENT_WRAPPED_MAX];
    size_t wrapped_len;
    char fingerprint[65]; /* lower-case hex; recipients_add fills it in */
};

struct recipient_list {
    struct recipient items[RECIPIENTS_MAX];
    size_t n;
};

bool recipient_algorithm_known(const char *name);
bool recipient_label_valid(const char *label); /* UTF-8 without control characters */
void recipient_fingerprint(const unsigned char *key, size_t len, char ret[65]);

/* Strict; a key that is there twice is refused. ERR_INVALID. */
int recipients_from_json(const json_t *array, struct recipient_list *ret,
                         struct error *err) MUST_CHECK;
json_t *recipients_to_json(const struct recipient_list *list); /* new reference, or NULL */

/* The text in struct record: compact JSON with sorted keys; "" is the empty list. ERR_INVALID;
 * ERR_EXHAUSTED: more than RECIPIENTS_TEXT_MAX bytes. */
int recipients_decode(const char *text, struct recipient_list *ret, struct error *err) MUST_CHECK;
int recipients_encode(const struct recipient_list *list, char ret[RECIPIENTS_TEXT_MAX + 1],
                      struct error *err) MUST_CHECK;

/* NULL: none of that fingerprint. */
struct recipient *recipients_find(struct recipient_list *list, const char *fingerprint);
/* `r` gets its fingerprint and goes to the end. ERR_EXISTS: its key is there already;
 * ERR_EXHAUSTED: RECIPIENTS_MAX are. */
int recipients_add(struct recipient_list *list, const struct recipient *r,
                   struct error *err) MUST_CHECK;
void recipients_remove(struct recipient_list *list, const struct recipient *member);

#endif
