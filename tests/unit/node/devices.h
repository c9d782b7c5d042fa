/* SPDX-License-Identifier: Apache-2.0 */
/* devices.h: a user's devices X, Y and Z, and a volume whose key X made, on rotation.h: what they
 * lend and bring. */
#ifndef COFFER_TESTS_UNIT_NODE_DEVICES_H
#define COFFER_TESTS_UNIT_NODE_DEVICES_H

#include "tests/unit/node/rotation.h"

#include "common/b64.h"

/* ---- devices ---- */

/* Its public key's DER. */
static const char *const ders[] = { "\x30\x01X", "\x30\x01Y", "\x30\x01Z" };
enum { X, Y, Z };

static inline const char *print_of(int device)
{
    static char prints[3][65];

    recipient_fingerprint((const unsigned char *)ders[device], 3, prints[device]);
    return prints[device];
}

static inline const char *key_text(int device)
{
    static char text[3][B64_LEN(3) + 1];

    b64_encode(text[device], (const unsigned char *)ders[device], 3);
    return text[device];
}

/* As the real ones: 256 bytes for one device. */
static inline const char *wrap(char key, int device)
{
    static char texts[8][B64_LEN(256) + 1];
    static unsigned next;
    unsigned char data[256] = { (unsigned char)key };
    char *text = texts[next++ % ARRAY_SIZE(texts)];

    memcpy(data + 1, ders[device], 3);
    b64_encode(text, data, sizeof(data));
    return text;
}

static inline const char *commitment_of(char key)
{
    static char texts[6][65];

    memset(texts[key - 'a'], key, 64);
    return texts[key - 'a'];
}

/* What is brought: a session, and for a new key more. */
struct bag {
    struct csi_pair items[8];
    size_t n;
    char data[8], recipients[4000];
};

static inline struct csi_map map_of(const struct bag *g)
{
    return (struct csi_map){ .items = g->items, .n = g->n };
}

static inline void put(struct bag *g, const char *key, const char *value)
{
    g->items[g->n++] = (struct csi_pair){ key, value };
}

static inline struct bag *lend(struct bag *g, char key, int device)
{
    g->n = 0;
    b64_encode(g->data, (const unsigned char *)&key, 1);
    put(g, "session", g->data);
    put(g, "serverKey", "coffer-s-1:1");
    put(g, "fingerprint", print_of(device));
    return g;
}

static inline size_t add_form(struct bag *g, size_t at, char key, int device)
{
    const int n = snprintf(g->recipients + at, sizeof(g->recipients) - at,
                           "%c{\"fingerprint\":\"%s\",\"wrapped\":\"%s\"}", at == 0 ? '[' : ',',
                           print_of(device), wrap(key, device));

    return at + (size_t)n;
}

/* A new key by the first of these devices, for all of them; -1 ends them. */
static inline struct bag *bring(struct bag *g, char key, const int *devices)
{
    size_t at = 0;

    (void)lend(g, key, devices[0]);
    for (; *devices >= 0; devices++)
        at = add_form(g, at, key, *devices);
    set(g->recipients + at, sizeof(g->recipients) - at, "]");
    put(g, "commitment", commitment_of(key));
    put(g, "recipients", g->recipients);
    return g;
}

#define DEVICES(...) ((const int[]){ __VA_ARGS__, -1 })

static struct bag old, fresh; /* of the call to come */

/* ---- the volume ---- */

static inline void be_clients(struct record *r)
{
    struct recipient_list members = { .n = 0 };
    struct recipient x = { .algorithm = "RSA-OAEP-256", .key_len = 3, .wrapped_len = 256 };

    set(r->key_source, sizeof(r->key_source), "client");
    assert_works(record_commit(r, commitment_of('a'), &err));
    memcpy(x.key, ders[X], 3);
    x.wrapped[0] = 'a';
    memcpy(x.wrapped + 1, ders[X], 3);
    assert_works(recipients_add(&members, &x, &err));
    assert_works(recipients_encode(&members, r->recipients, &err));
}

/* The key is 'a', which device X made. */
static inline int client_setup(void **state)
{
    (void)setup(state);
    store(be_clients);
    set(played.slots, sizeof(played.slots), "a");
    (void)lend(&old, 'a', X);
    fresh.n = 0;
    return 0;
}

#endif
