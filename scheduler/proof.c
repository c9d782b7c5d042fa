/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/proof.h"

#include "common/b64.h"
#include "common/deadline.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>

#define NONCE_LEN    16u
#define NAME_LEN     32u
#define DIGEST_LEN   32u
#define BUCKETS      4096u
#define LABEL_TAG    "coffer/v1 challenge tag"
#define LABEL_SECRET "coffer/v1 challenge secret"
#define OVER         "the challenge is over"

struct token {
    unsigned char expiry[8]; /* big-endian, clock_ms() */
    unsigned char nonce[NONCE_LEN];
    unsigned char name[NAME_LEN];
    unsigned char tag[DIGEST_LEN];
};
#define TOKEN_BODY offsetof(struct token, tag)
_Static_assert(B64_LEN(sizeof(struct token)) == CHALLENGE_LEN, "as proof.h says");

struct used {
    unsigned char nonce[NONCE_LEN];
    uint64_t expiry;
    struct used *next;
};

struct proofs {
    struct secret *own;
    pthread_mutex_t lock; /* of what follows */
    struct used *buckets[BUCKETS];
    size_t n_used;
    size_t sweep; /* the bucket that is looked through next */
};

int proofs_new(struct proofs **ret, struct error *err)
{
    AUTO_PROOFS struct proofs *p = calloc(1, sizeof(*p));

    if (p == NULL)
        return error_memory(err);
    (void)pthread_mutex_init(&p->lock, NULL);
    p->own = secret_new(DIGEST_LEN, err);
    if (p->own == NULL || secret_random(p->own, DIGEST_LEN, err) < 0)
        return -1;
    *ret = TAKE_PTR(p);
    return 0;
}

static void free_chain(struct used *u)
{
    for (struct used *next; u != NULL; u = next) {
        next = u->next;
        free(u);
    }
}

void proofs_free(struct proofs *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        free_chain(p->buckets[i]);
    secret_free(p->own);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- challenges ---- */

static int derive(const struct proofs *p, const char *label, const struct token *t,
                  unsigned char ret[DIGEST_LEN], struct error *err)
{
    unsigned char text[64 + TOKEN_BODY];
    size_t n = strlen(label);
    unsigned int len = 0;

    memcpy(text, label, n);
    memcpy(text + n, t, TOKEN_BODY);
    if (HMAC(EVP_sha256(), secret_data(p->own), (int)secret_len(p->own), text, n + TOKEN_BODY, ret,
             &len) == NULL)
        return error_set(err, ERR_INTERNAL, "compute a challenge");
    return 0;
}

static void write_expiry(struct token *t, uint64_t at)
{
    for (size_t i = 0; i < sizeof(t->expiry); i++)
        t->expiry[i] = (unsigned char)(at >> (8 * (7 - i)));
}

static uint64_t read_expiry(const struct token *t)
{
    uint64_t at = 0;

    for (size_t i = 0; i < sizeof(t->expiry); i++)
        at = at << 8 | t->expiry[i];
    return at;
}

static int fill_nonce(struct token *t, struct error *err)
{
    AUTO_SECRET struct secret *random = secret_new(NONCE_LEN, err);

    if (random == NULL || secret_random(random, NONCE_LEN, err) < 0)
        return -1;
    memcpy(t->nonce, secret_data(random), NONCE_LEN);
    return 0;
}

int proofs_challenge(struct proofs *p, const char *name, char ret[CHALLENGE_LEN + 1],
                     struct secret **ret_secret, struct error *err)
{
    AUTO_SECRET struct secret *secret = secret_new(PROOF_SECRET_LEN, err);
    struct token t;

    if (secret == NULL || fill_nonce(&t, err) < 0)
        return -1;
    if (hex_decode(t.name, name, NAME_LEN) < 0)
        return error_set(err, ERR_INVALID, "'%.80s' is no device's name", name);
    write_expiry(&t, deadline_in((uint64_t)CHALLENGE_SECONDS * 1000));
    if (derive(p, LABEL_TAG, &t, t.tag, err) < 0 ||
        derive(p, LABEL_SECRET, &t, secret_bytes(secret), err) < 0)
        return -1;
    secret_set_len(secret, PROOF_SECRET_LEN);
    b64_encode(ret, &t, sizeof(t));
    *ret_secret = TAKE_PTR(secret);
    return 0;
}

/* ---- each once ---- */

static void drop_expired(struct proofs *p, size_t bucket, uint64_t now)
{
    for (struct used **at = &p->buckets[bucket]; *at != NULL;) {
        struct used *u = *at;

        if (u->expiry > now) {
            at = &u->next;
            continue;
        }
        *at = u->next;
        free(u);
        p->n_used--;
    }
}

/* Some buckets at each use: what is kept is never much more than what lives. */
static void sweep(struct proofs *p, uint64_t now)
{
    for (size_t i = 0; i < 8; i++) {
        drop_expired(p, p->sweep, now);
        p->sweep = (p->sweep + 1) % BUCKETS;
    }
}

static int use_locked(struct proofs *p, const struct token *t, struct error *err)
{
    struct used **head = &p->buckets[((unsigned)t->nonce[0] << 8 | t->nonce[1]) % BUCKETS], *u;
    uint64_t now = clock_ms();

    /* once more, by the same clock: what is swept may be this nonce */
    if (read_expiry(t) <= now)
        return error_set(err, ERR_UNAUTHENTICATED, OVER);
    sweep(p, now);
    for (u = *head; u != NULL; u = u->next) {
        if (memcmp(u->nonce, t->nonce, NONCE_LEN) == 0)
            return error_set(err, ERR_UNAUTHENTICATED, "the challenge was used already");
    }
    u = p->n_used < PROOF_USED_MAX ? calloc(1, sizeof(*u)) : NULL;
    if (u == NULL)
        return error_set(err, ERR_EXHAUSTED, "too many challenges were used in the last minute");
    memcpy(u->nonce, t->nonce, NONCE_LEN);
    u->expiry = read_expiry(t);
    u->next = *head;
    *head = u;
    p->n_used++;
    return 0;
}

static int use(struct proofs *p, const struct token *t, struct error *err)
{
    int rc;

    (void)pthread_mutex_lock(&p->lock);
    rc = use_locked(p, t, err);
    (void)pthread_mutex_unlock(&p->lock);
    return rc;
}

size_t proofs_used(struct proofs *p)
{
    size_t n;

    (void)pthread_mutex_lock(&p->lock);
    n = p->n_used;
    (void)pthread_mutex_unlock(&p->lock);
    return n;
}

/* ---- proofs ---- */

int proof_compute(const struct secret *secret, const struct proof_request *q,
                  unsigned char ret[PROOF_SECRET_LEN], struct error *err)
{
    unsigned char digest[DIGEST_LEN];
    char hex[2 * DIGEST_LEN + 1], text[512];
    unsigned int len = 0;
    int n;

    if (EVP_Digest(q->body, q->body_len, digest, NULL, EVP_sha256(), NULL) <= 0)
        return error_set(err, ERR_INTERNAL, "compute the body's digest");
    hex_encode(hex, digest, sizeof(digest));
    n = snprintf(text, sizeof(text), "coffer/v1 proof\n%s\n%s\n%s\n", q->method, q->path, hex);
    if (n < 0 || (size_t)n >= sizeof(text))
        return error_set(err, ERR_INVALID, "the path is too long for a proof");
    if (HMAC(EVP_sha256(), secret_data(secret), (int)secret_len(secret), (unsigned char *)text,
             (size_t)n, ret, &len) == NULL)
        return error_set(err, ERR_INTERNAL, "compute a proof");
    return 0;
}

/* "CHALLENGE HEX", exactly. */
static int read_header(const char *header, struct token *t, unsigned char proof[PROOF_SECRET_LEN],
                       struct error *err)
{
    size_t len = 0;

    if (header == NULL)
        return error_set(err, ERR_UNAUTHENTICATED, "the header Coffer-Proof is missing");
    if (strlen(header) != CHALLENGE_LEN + 1 + 2 * PROOF_SECRET_LEN ||
        header[CHALLENGE_LEN] != ' ' ||
        b64_decode(t, sizeof(*t), header, CHALLENGE_LEN, &len) < 0 || len != sizeof(*t) ||
        hex_decode(proof, header + CHALLENGE_LEN + 1, PROOF_SECRET_LEN) < 0)
        return error_set(err, ERR_UNAUTHENTICATED,
                         "the header Coffer-Proof must be a challenge, a space and 64 lower-case "
                         "hex digits");
    return 0;
}

/* The challenge is ours and lives; *secret is what it came with. */
static int read_token(const struct proofs *p, const struct token *t, struct secret *secret,
                      struct error *err)
{
    unsigned char tag[DIGEST_LEN];

    if (derive(p, LABEL_TAG, t, tag, err) < 0)
        return -1;
    if (CRYPTO_memcmp(tag, t->tag, sizeof(tag)) != 0)
        return error_set(err, ERR_UNAUTHENTICATED,
                         "the challenge isn't one of this scheduler's, or it was started again");
    if (deadline_left(read_expiry(t)) == 0)
        return error_set(err, ERR_UNAUTHENTICATED, OVER);
    if (derive(p, LABEL_SECRET, t, secret_bytes(secret), err) < 0)
        return -1;
    secret_set_len(secret, PROOF_SECRET_LEN);
    return 0;
}

int proofs_check(struct proofs *p, const char *header, const struct proof_request *q,
                 char name[DEVICE_NAME_LEN + 1], struct error *err)
{
    AUTO_SECRET struct secret *secret = secret_new(PROOF_SECRET_LEN, err);
    unsigned char given[PROOF_SECRET_LEN], right[PROOF_SECRET_LEN];
    struct token t;

    if (secret == NULL || read_header(header, &t, given, err) < 0 ||
        read_token(p, &t, secret, err) < 0 || proof_compute(secret, q, right, err) < 0)
        return -1;
    if (CRYPTO_memcmp(given, right, sizeof(right)) != 0)
        return error_set(err, ERR_UNAUTHENTICATED,
                         "the proof isn't of this request by the device's key");
    if (use(p, &t, err) < 0)
        return -1;
    hex_encode(name, t.name, NAME_LEN);
    return 0;
}
