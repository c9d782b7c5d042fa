/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h: where clouds run. One driver is one `struct driver_ops`, one row in driver.c, and its
 * files driver_NAME*.c: `local` (Coffer's sockets and coffer-launch on one or more hosts' sockets),
 * `kubernetes` (the API server), and `stub` (memory alone; test builds).
 *
 * A driver keeps nothing that it couldn't find again: the volumes' records and the running VMs (or
 * the API server's objects) are the truth, so every call may be repeated after a kill on any line.
 * Each call is idempotent: what is already so is a success. Calls block, for up to `deadline`
 * (clock_ms() value); they come from many threads at once, but for one cloud from one at a time.
 *
 * Errors, for all: ERR_UNAVAILABLE something isn't there now, repeat; ERR_ABORTED busy, repeat;
 * ERR_EXHAUSTED no room; ERR_DEADLINE. Texts are shown to users: no path of keys, no session.
 */
#ifndef COFFER_SCHEDULER_DRIVER_H
#define COFFER_SCHEDULER_DRIVER_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "scheduler/cloud.h"
#include "scheduler/config.h"
#include "scheduler/place.h"

struct driver; /* a driver's own */

/* What one device brings to open a volume, as CSI's node-stage secrets (docs/client-keys.md);
 * borrowed, base64 and hex texts. Useless without Vault's key and after its expiry, and yet never
 * logged and never stored. */
struct cloud_session {
    const char *session, *server_key, *fingerprint;
};

/* What the first device says of the key it made: CreateVolume's secrets; borrowed. */
struct cloud_seed {
    const char *name; /* the device's: cloud ids come of it */
    const char *fingerprint;
    const char *uuid, *commitment, *public_key, *algorithm, *wrapped, *label;
};

/* A new storage key for those who stay; borrowed. */
struct cloud_new_key {
    struct cloud_session session;
    const char *commitment;
    const char *recipients; /* JSON text: [{"fingerprint": ..., "wrapped": ...}] */
};

/* What sessions are encrypted for. */
struct cloud_server_key {
    char key_id[152];
    char hash[16];
    char public_key[1401]; /* base64, DER */
};

typedef bool cloud_cb(void *ctx, const struct cloud *c); /* false: stop */

struct driver_ops {
    const char *name;
    bool names_volumes; /* volume_id answers before there is a volume */
    bool recipients;    /* add_device and remove_device are there */
    /* options: the object of that name in the configuration (config.h), checked strictly. */
    int (*open)(json_t *options, const struct scheduler_config *config, struct driver **ret,
                struct error *err);
    void (*close)(struct driver *d);

    /* ---- facts ---- */
    int (*server_key)(struct driver *d, uint64_t deadline, struct cloud_server_key *ret,
                      struct error *err);
    /* Every cloud there is. Unreadable is not absent: one whose facts can't be read is told with
     * `unread` and why in `reason` (for the log: no secret, but it may name paths of a host); of
     * the rest id, volume and node say what it is, as far as that is known. `volume` can stand for
     * `id` where names_volumes. With neither it is the whole node that can't be read. The call
     * fails when it isn't known of what to say so. */
    int (*each)(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err);
    /* One, fresh. node: where it is or is to be, and asked first: another one that doesn't answer
     * doesn't count; "": every node must. ERR_NOT_FOUND: neither volume nor VM; ERR_DATA_LOSS: its
     * facts can't be read. ret is to be zeroes; cloud_clear it. */
    int (*find)(struct driver *d, const char *id, const char *node, uint64_t deadline,
                struct cloud *ret, struct error *err);
    /* The nodes as they are, for place.h; *ret is the caller's, to be freed. */
    int (*nodes)(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
                 struct error *err);
    /* The volume's id on that node, which follows from the cloud's. Doesn't block: a request waits
     * for it. ERR_UNAVAILABLE: what it follows from isn't known yet. */
    int (*volume_id)(struct driver *d, const char *id, const char *node,
                     char ret[CLOUD_HANDLE_MAX + 1], struct error *err);

    /* ---- steps, in this order, and back ---- */
    /* ERR_EXISTS: there is one of another device, uuid or key. */
    int (*create_volume)(struct driver *d, const char *id, const char *node,
                         const struct cloud_seed *seed, uint64_t deadline, struct error *err);
    /* Opens it where it is. ERR_INVALID and ERR_PRECONDITION: the session doesn't open it, and
     * nothing has changed. */
    int (*attach)(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                  uint64_t deadline, struct error *err);
    /* Starts the VM; it needs not be ready yet. */
    int (*start)(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
    /* Whether the VM answers. ERR_PRECONDITION: it ended by itself. */
    int (*ready)(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
                 struct error *err);
    /* Asks the VM to end, waits a grace, ends it; nothing of it is left. */
    int (*stop)(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
    /* After it the mapping and the key are gone. */
    int (*detach)(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
    int (*delete_volume)(struct driver *d, const struct cloud *c, uint64_t deadline,
                         struct error *err);

    /* ---- devices; NULL without `recipients` ---- */
    int (*add_device)(struct driver *d, const struct cloud *c, const struct device *add,
                      const struct cloud_session *s, uint64_t deadline, struct error *err);
    /* ERR_PRECONDITION: it is the last one. */
    int (*remove_device)(struct driver *d, const struct cloud *c, const char *fingerprint,
                         const struct cloud_session *s, const struct cloud_new_key *key,
                         uint64_t deadline, struct error *err);
    /* Finishes or takes back what a kill left of a change of devices, or of anything else that
     * makes a cloud `unsettled`; NULL: nothing does. */
    int (*settle)(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
};

/* The rows of driver.c, each in its driver_NAME.c. */
extern const struct driver_ops driver_kubernetes_ops, driver_local_ops;

/* NULL: unknown. */
const struct driver_ops *driver_find(const char *name);

#endif
