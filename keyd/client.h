/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/client.h: asks coffer-keyd. No call ever returns key bytes: MINT answers with a wrapped key,
 * UNWRAP and UNWRAP_CLIENT write the key into the caller's pipe. One connection per call;
 * thread-safe. docs/PROTOCOL-keyd.md has the wire.
 */
#ifndef COFFER_KEYD_CLIENT_H
#define COFFER_KEYD_CLIENT_H

#include "common/base.h"
#include "common/error.h"
#include "volume/record.h"

/* What a key is bound to: the context is SHA-256 over the length-prefixed tuple
 * ("coffer/v1", "volume", tenant, volume id, volume uuid), made inside keyd. */
struct keyd_binding {
    const char *kms; /* name in the configuration */
    const char *tenant;
    const char *volume_id;
    const char *uuid;
};

struct keyd_wrapped {
    char kind[16];
    char ciphertext[WRAPPED_KEY_MAX + 1];
    uint64_t version;
};

#define KEYD_SERVER_KEY_MAX 151u  /* "<name of the key>:<version>" */
#define KEYD_SESSION_MAX    512u  /* bytes: RSA of 4096 bits */
#define KEYD_PUBLIC_KEY_MAX 1024u /* bytes of DER */

struct keyd_server_key { /* what devices encrypt a session for */
    char key_id[KEYD_SERVER_KEY_MAX + 1];
    char hash[16];                                 /* of OAEP and its MGF1: "SHA-256" */
    unsigned char public_key[KEYD_PUBLIC_KEY_MAX]; /* SubjectPublicKeyInfo, DER */
    size_t public_key_len;
};

struct keyd_session {        /* borrowed */
    const char *commitment;  /* to the volume's key: 64 lower-case hex digits */
    const char *fingerprint; /* of the device: likewise */
    const char *server_key;  /* the key_id it was made for */
    const void *data;        /* what the device encrypted */
    size_t len;
};

enum keyd_use {
    KEYD_USE_STAGE,
    KEYD_USE_EXPAND,
    KEYD_USE_ROTATE,
    KEYD_USE_BREAK_GLASS,
    KEYD_USE_RECIPIENT, /* a list of recipients is checked or signed */
    KEYD_USE_VERIFY, /* only whether the key opens for who asks: nothing is written into the pipe */
    KEYD_USE_COUNT,
};
extern const char *const keyd_use_names[KEYD_USE_COUNT]; /* as they travel: wire.c */

/* ERR_INVALID: not an absolute path that fits a socket's address. (An empty one would be a name
 * that any process may take and answer for keyd.) The calls check it too. */
int keyd_socket_check(const char *socket_path, struct error *err) MUST_CHECK;
/* The wrapped key that a record names. ERR_DATA_LOSS: it is too long. (wrapped.c) */
int keyd_wrapped_of(const struct record *r, struct keyd_wrapped *ret, struct error *err) MUST_CHECK;
/* deadline: clock_ms() value. keyd not there, version differs -> ERR_UNAVAILABLE; wrong context or
 * forged ciphertext -> ERR_PRECONDITION; op or peer not allowed -> ERR_PERMISSION. */
int keyd_mint(const char *socket_path, const struct keyd_binding *b, uint64_t deadline,
              struct keyd_wrapped *ret, struct error *err) MUST_CHECK;
/* token: a pod's, whose login is to open the key instead of keyd's own; NULL: none. pipe_write: the
 * write end of a pipe; keyd writes one frame into it. The caller closes its copy. */
int keyd_unwrap(const char *socket_path, const struct keyd_binding *b,
                const struct keyd_wrapped *key, enum keyd_use use, const char *token,
                int pipe_write, uint64_t deadline, struct error *err) MUST_CHECK;
struct keyd_recipient {       /* borrowed */
    const char *algorithm;    /* recipient/wrap.h has them */
    const unsigned char *key; /* its public key, DER */
    size_t key_len;
};
/* The storage key, wrapped for the holder of a public key: neither goes further than keyd. Writes
 * *ret_len <= RECIPIENT_WRAPPED_MAX bytes. ERR_INVALID: no such algorithm, or not for this key. */
int keyd_wrap_for(const char *socket_path, const struct keyd_binding *b,
                  const struct keyd_wrapped *key, const struct keyd_recipient *to,
                  uint64_t deadline, unsigned char *ret, size_t *ret_len,
                  struct error *err) MUST_CHECK;
/* The same of a key that a user's device made and lends by a session. ERR_INVALID: the session
 * isn't of this volume, device or key, or was changed; ERR_PRECONDITION: it is over. */
int keyd_unwrap_client(const char *socket_path, const struct keyd_binding *b,
                       const struct keyd_session *session, enum keyd_use use, int pipe_write,
                       uint64_t deadline, struct error *err) MUST_CHECK;
/* ERR_PRECONDITION: that key service has none. */
int keyd_server_key(const char *socket_path, const char *kms, uint64_t deadline,
                    struct keyd_server_key *ret, struct error *err) MUST_CHECK;
/* What the key service keeps of this volume's key is gone for good; there was none: OK too. */
int keyd_destroy(const char *socket_path, const struct keyd_binding *b, uint64_t deadline,
                 struct error *err) MUST_CHECK;
/* STATUS as JSON text (counters, ops allowed, kms and whether it is insecure). */
int keyd_status(const char *socket_path, uint64_t deadline, struct strbuf *ret,
                struct error *err) MUST_CHECK;

#endif
