/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/kms.h: key services. A driver is one file and one row in kms.c; the prefix of the configured
 * URI picks it. Everything a driver needs from the file system is opened in `open`, before the
 * sandbox closes. One thread. The plaintext of a storage key leaves a driver only as a `struct
 * secret`.
 *
 * Errors: ERR_PRECONDITION when the wrapped key is not of this binding or was changed (one sentence
 * for all causes: which check failed is an oracle); ERR_UNAVAILABLE when the service can't be asked
 * now.
 */
#ifndef COFFER_KEYD_KMS_H
#define COFFER_KEYD_KMS_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/secret.h"
#include "keyd/client.h"
#include "keyd/context.h"
#include "keyd/wire.h"
#include "volume/config.h"

struct kms_call { /* one request; all borrowed */
    const struct keyd_binding *binding;
    const unsigned char *context; /* CONTEXT_SIZE bytes, of the binding */
    struct wire_view token;       /* the caller's own; empty = none */
    uint64_t deadline;            /* clock_ms() value */
};

struct kms_driver {
    const char *prefix; /* of the URI: "file://" */
    const char *kind;   /* `key.kind` of the volume record: "file" */
    bool insecure;      /* needs --insecure-file-kms */
    int (*open)(const struct kms_config *config, void **ret_state, struct error *err);
    void (*close)(void *state);
    int (*mint)(void *state, const struct kms_call *call, struct keyd_wrapped *ret,
                struct error *err);
    int (*unwrap)(void *state, const struct kms_call *call, const struct keyd_wrapped *key,
                  struct secret **ret, struct error *err);
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

extern const struct kms_driver kms_file;

/* Opens every key service of the configuration; all or nothing. An insecure one is refused unless
 * allow_insecure. */
int kms_set_open(const struct config *config, bool allow_insecure, struct kms_set **ret,
                 struct error *err) MUST_CHECK;
void kms_set_free(struct kms_set *set);
bool kms_set_insecure(const struct kms_set *set); /* any of them */
/* ERR_PRECONDITION when no such service is configured. */
int kms_set_find(const struct kms_set *set, const char *name, const struct kms **ret,
                 struct error *err) MUST_CHECK;

int kms_mint(const struct kms *kms, const struct kms_call *call, struct keyd_wrapped *ret,
             struct error *err) MUST_CHECK;
/* *ret: KEY_BYTES bytes; the caller frees. */
int kms_unwrap(const struct kms *kms, const struct kms_call *call, const struct keyd_wrapped *key,
               struct secret **ret, struct error *err) MUST_CHECK;
/* The one answer to a wrapped key that can't be opened. Returns -1. */
int kms_refuse_key(struct error *err);

DEFINE_AUTO(kms_set, kms_set_free)
#define AUTO_KMS_SET __attribute__((cleanup(cleanup_kms_set)))

#endif
