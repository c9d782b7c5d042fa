/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/kms.h: key services. A driver is one file and one row in kms.c; the prefix of the configured
 * URI picks it. One thread, one event loop: a question (struct kms_job) is answered when its `done`
 * is called, at once or later. The plaintext of a storage key leaves a driver only as a `struct
 * secret`.
 *
 * Errors: ERR_PRECONDITION when the wrapped key is not of this binding or was changed (one sentence
 * for all causes: which check failed is an oracle); ERR_UNAVAILABLE when the service can't be asked
 * now; ERR_PERMISSION when it doesn't let us.
 */
#ifndef COFFER_KEYD_KMS_H
#define COFFER_KEYD_KMS_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/event.h"
#include "common/json.h"
#include "common/secret.h"
#include "keyd/client.h"
#include "keyd/wire.h"
#include "vault/client.h"
#include "volume/config.h"
#include "volume/context.h"

struct kms_call { /* one request; all borrowed */
    const struct keyd_binding *binding;
    const unsigned char *context; /* CONTEXT_SIZE bytes, of the binding */
    struct wire_view token;       /* the caller's own; empty = none */
    uint64_t deadline;            /* clock_ms() value */
};

struct kms_session { /* UNWRAP_CLIENT: what a device encrypted, borrowed */
    const unsigned char *sealed;
    size_t len;
    const char *server_key; /* "<name>:<version>" of the key it was made for */
};

struct kms; /* one configured key service */

struct kms_job { /* the caller's memory until `done` */
    struct kms_call call;
    const struct keyd_wrapped *key;    /* UNWRAP: borrowed */
    const struct kms_session *session; /* UNWRAP_CLIENT: borrowed */
    void (*done)(struct kms_job *job);
    struct error err; /* ERR_OK: answered */
    struct keyd_wrapped wrapped;
    struct secret *plain; /* KEY_BYTES bytes; of a session all that was in it, not looked at yet.
                             Whoever made the job frees it */
    struct keyd_server_key server_key;
    const struct kms *kms; /* filled in by kms_mint and kms_unwrap */
    void *at_work;         /* the driver's */
};

struct kms_env { /* borrowed */
    struct event_loop *loop;
    const struct kms_set *opened; /* those before it; filled in by kms_set_open */
    bool allow_insecure;
    /* what this keyd answers: a driver shows at its first contact that it may, and may nothing else
     */
    bool mint, unwrap, destroy, unwrap_client, server_key;
};

struct kms_stats {
    struct vault_stats vault;
    const char *self_test; /* one of kms_self_tests */
};
extern const char *const kms_self_tests[3];

struct kms_driver {
    const char *prefix; /* of the URI: "file://" */
    const char *kind;   /* `key.kind` of the volume record: "file" */
    bool insecure;      /* needs --insecure-file-kms */
    bool network;       /* it is asked across a network */
    int (*open)(const struct kms_config *config, const struct kms_env *env, void **ret_state,
                struct error *err);
    void (*close)(void *state); /* jobs at work end with ERR_CANCELED */
    /* All end in kms_end, once, perhaps before they return. */
    void (*mint)(void *state, struct kms_job *job);
    void (*unwrap)(void *state, struct kms_job *job);
    /* NULL: nothing is kept at the service; the wrapped key is all there is. Idempotent. */
    void (*destroy)(void *state, struct kms_job *job);
    /* NULL: it can hold no server key. Of one that could and has none: kms_no_server_key. */
    void (*unwrap_client)(void *state, struct kms_job *job);
    void (*server_key)(void *state, struct kms_job *job);
    /* NULL: nothing to do. Gives back what it holds at the service, within 5 s. */
    void (*stop)(void *state, void (*done)(void *ctx), void *ctx);
    json_t *(*status)(const void *state); /* NULL: nothing to say */
    /* NULL, or false: it has none of its own (it shares another one's login). */
    bool (*stats)(const void *state, struct kms_stats *ret);
};

struct kms {
    char name[KMS_NAME_MAX + 1];
    const struct kms_driver *driver;
    void *state;
};

struct kms_set {
    struct kms *items;
    size_t n;
};

extern const struct kms_driver kms_file, kms_vault_transit, kms_vault_kv;

/* Opens every key service of the configuration; all or nothing. An insecure one is refused unless
 * env says otherwise. */
int kms_set_open(const struct config *config, const struct kms_env *env, struct kms_set **ret,
                 struct error *err) MUST_CHECK;
void kms_set_free(struct kms_set *set);
/* Runs the loop until every service has given back what it holds, or some seconds have passed. */
void kms_set_stop(const struct kms_set *set, struct event_loop *loop);
bool kms_set_insecure(const struct kms_set *set); /* any of them */
bool kms_set_network(const struct kms_set *set);  /* any of them is across a network */
/* ERR_PRECONDITION when no such service is configured. */
int kms_set_find(const struct kms_set *set, const char *name, const struct kms **ret,
                 struct error *err) MUST_CHECK;

/* The job's `done` is called once, perhaps before these return. */
void kms_mint(const struct kms *kms, struct kms_job *job);
void kms_unwrap(const struct kms *kms, struct kms_job *job);
/* What the service keeps of the volume's key is gone for good. */
void kms_destroy(const struct kms *kms, struct kms_job *job);
/* What is in a session. A service without a server key: ERR_PRECONDITION. */
void kms_unwrap_client(const struct kms *kms, struct kms_job *job);
/* The public half of the key that sessions are made for; likewise. */
void kms_server_key(const struct kms *kms, struct kms_job *job);
/* For drivers: the job is answered. err NULL: with what is in it; else with that. */
void kms_end(struct kms_job *job, const struct error *err);
/* Ends the job, which asks for what only a server key can give. */
void kms_no_server_key(struct kms_job *job);
/* The one answer to a wrapped key that can't be opened. Returns -1. */
int kms_refuse_key(struct error *err);

DEFINE_AUTO(kms_set, kms_set_free)
#define AUTO_KMS_SET __attribute__((cleanup(cleanup_kms_set)))

#endif
