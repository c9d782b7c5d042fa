/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_stub.h: clouds that are facts in memory alone, for tests of everything above a driver and
 * for the bookkeeping's figures. Test builds only (COFFER_FAULT). Its options:
 *
 *   {"nodes": [{"name": "n1", "memory": BYTES, "storage": BYTES, "vms_max": N}],
 *    "server_key": {"key_id": "stub:1", "hash": "SHA-256", "public_key": BASE64},
 *    "private_key": PATH,  its private half (PEM): sessions are then really opened and checked;
 *                          without it every session opens
 *    "state": PATH,        facts are kept there as JSON and read at the start
 *    "control": PATH,      read at each call when it is there: {"delay": {"attach": MS, …},
 *                          "fail": {"attach": {"code": "UNAVAILABLE", "message": TEXT}, …},
 *                          "vm": {ID or "*": "starting" | "failed"},
                          "unreadable": {ID: WHY, …}, "silent": {NODE: WHY, …}}
 *   }
 *
 * Calls are named as in driver.h. Thread-safe. Here is what its files share: driver_stub.c the
 * options and the table, driver_stub_facts.c what there is, driver_stub_steps.c what changes that,
 * driver_stub_session.c what a session opens.
 */
#ifndef COFFER_SCHEDULER_DRIVER_STUB_H
#define COFFER_SCHEDULER_DRIVER_STUB_H

#include "scheduler/driver.h"

#include <pthread.h>

extern const struct driver_ops driver_stub_ops;

struct driver {
    pthread_mutex_t lock; /* of clouds; the rest is immutable */
    struct place_node *nodes;
    size_t n_nodes;
    struct cloud_server_key server_key;
    char private_key[256], state[256], control[256];
    uint64_t memory, size;
    json_t *clouds; /* id -> facts */
};

/* ---- driver_stub_facts.c ---- */

/* What the control file has for that call: a delay, a failure. */
int stub_play(struct driver *d, const char *call, uint64_t deadline, struct error *err) MUST_CHECK;
/* Writes the state file; the caller holds the lock. */
int stub_keep(struct driver *d, struct error *err) MUST_CHECK;
/* The text of that key; dst stays as it is without one, and is "" when it doesn't fit. */
void stub_copy_text(char *dst, size_t size, const json_t *obj, const char *key);

int stub_server_key(struct driver *d, uint64_t deadline, struct cloud_server_key *ret,
                    struct error *err);
int stub_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err);
int stub_find(struct driver *d, const char *id, const char *node, uint64_t deadline,
              struct cloud *ret, struct error *err);
int stub_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
               struct error *err);
int stub_volume_id(struct driver *d, const char *id, const char *node,
                   char ret[CLOUD_HANDLE_MAX + 1], struct error *err);

/* ---- driver_stub_steps.c ---- */

int stub_create_volume(struct driver *d, const char *id, const char *node,
                       const struct cloud_seed *seed, uint64_t deadline, struct error *err);
int stub_attach(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                uint64_t deadline, struct error *err);
int stub_start(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int stub_ready(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
               struct error *err);
int stub_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int stub_detach(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int stub_delete_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                       struct error *err);
int stub_add_device(struct driver *d, const struct cloud *c, const struct device *add,
                    const struct cloud_session *s, uint64_t deadline, struct error *err);
int stub_remove_device(struct driver *d, const struct cloud *c, const char *fingerprint,
                       const struct cloud_session *s, const struct cloud_new_key *key,
                       uint64_t deadline, struct error *err);

#endif
