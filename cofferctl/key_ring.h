/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/key_ring.h: the transit keys that volumes use, and under which of their versions how
 * many records are. A key is one by mount and name: two key services that name the same one are
 * counted together. One thread.
 */
#ifndef COFFER_COFFERCTL_KEY_RING_H
#define COFFER_COFFERCTL_KEY_RING_H

#include "backends/backend.h"
#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "volume/config.h"

struct key_version {
    uint64_t version;
    size_t volumes;
};

struct ring_key {
    const struct kms_config *kms; /* borrowed; the first service that it was met by */
    char name[KMS_KEY_NAME_SIZE];
    struct key_version *versions; /* ascending */
    size_t n_versions;
    size_t in_flight;  /* creates that may hold a key of any version: `minting`, and locked */
    size_t unfinished; /* `minting`, and nobody works on it: the next try mints anew */
};

struct key_ring {
    struct ring_key *keys; /* in the order they were met */
    size_t n;
    size_t kv, file; /* volumes whose keys lie elsewhere */
    size_t client;   /* volumes whose keys their users' devices have */
    size_t erased;   /* volumes that are being deleted: their keys are needed no more */
    json_t *gaps;    /* key_scan.h */
};

/* What is known of a create that has no key yet. */
enum ring_create { RING_IN_FLIGHT, RING_UNFINISHED };

int key_ring_init(struct key_ring *ring, struct error *err) MUST_CHECK;
void key_ring_release(struct key_ring *ring);
#define AUTO_KEY_RING __attribute__((cleanup(key_ring_release)))

/* Adds one volume. A record of a key service that the configuration doesn't have, or has as
 * something else, is a gap. */
int key_ring_add(struct key_ring *ring, const struct config *c, const struct record *r,
                 enum ring_create create, struct error *err) MUST_CHECK;
/* The key of a tenant at a transit service; added when no volume has it. */
int key_ring_want(struct key_ring *ring, const struct kms_config *kms, const char *tenant,
                  struct ring_key **ret, struct error *err) MUST_CHECK;
/* The same by its name. */
int key_ring_want_named(struct key_ring *ring, const struct kms_config *kms, const char *name,
                        struct ring_key **ret, struct error *err) MUST_CHECK;
/* All pools' volumes. A volume that has no key yet is locked for a moment to see whether somebody
 * is at work on it. */
int key_ring_read(struct key_ring *ring, const struct config *c, struct pool_set *set,
                  struct error *err) MUST_CHECK;

/* Volumes under a version below that one. */
size_t ring_key_below(const struct ring_key *k, uint64_t version);

#endif
