/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_local.h: the driver `local`: Coffer's own sockets and coffer-launch's, of one node or of
 * several ("nodes" in its options). A cloud's volume is where a node's records say it is, its VM is
 * what coffer-launch lists; nothing else is remembered but what makes asking cheap: pools' tags,
 * and which VMs have answered.
 *
 *   {"nodes": {"n1": {"controller": "unix:///run/coffer/controller/csi.sock",
 *                     "node": "unix:///run/coffer/scheduler-node.sock",
 *                     "launch": "/run/coffer/launch/launch.sock",
 *                     "pool": "default", "kms": "vault", "memory": 8589934592, "vms_max": 100}},
 *    "volumes": "/run/coffer/clouds", "sockets": "/run/coffer/vms"}
 *
 * Here is what its files share: driver_local.c the options and the table, driver_local_facts.c what
 * there is, driver_local_steps.c what changes that, driver_local_call.c one call to a node.
 */
#ifndef COFFER_SCHEDULER_DRIVER_LOCAL_H
#define COFFER_SCHEDULER_DRIVER_LOCAL_H

#include "scheduler/driver.h"
#include "scheduler/unix_connect.h"

#include <pthread.h>

#define LOCAL_ENDPOINT_MAX (7u + UNIX_PATH_MAX_LEN) /* "unix://" and a path */

struct local_node { /* immutable but for tag */
    char name[NODE_NAME_MAX + 1];
    char controller[LOCAL_ENDPOINT_MAX + 1], node[LOCAL_ENDPOINT_MAX + 1];
    char launch[UNIX_PATH_MAX_LEN + 1];
    char pool[POOL_NAME_MAX + 1], kms[KMS_NAME_MAX + 1];
    uint64_t memory; /* for VMs, bytes */
    uint32_t vms_max;
    char tag[9]; /* the pool's, as DescribeVolumes told it last; under the driver's lock */
};

struct driver {
    const struct scheduler_config *config; /* borrowed */
    struct local_node *nodes;              /* in the order of their names */
    size_t n_nodes;
    char volumes[256];
    char sockets[UNIX_PATH_MAX_LEN + 1];
    pthread_mutex_t lock;
    json_t *ready; /* under the lock: id -> pid of a VM that answered */
};

/* ---- driver_local_call.c ---- */

/* A CSI call; request is taken (NULL: out of memory), *ret may be NULL. What a node answers of its
 * own affairs (paths, devices) goes to the log; the error tells users what is theirs to know. */
int local_call(const char *endpoint, const char *method, json_t *request, uint64_t deadline,
               json_t **ret, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND: the configuration has no such node. */
int local_node_find(struct driver *d, const char *name, struct local_node **ret,
                    struct error *err) MUST_CHECK;

/* ---- driver_local_facts.c ---- */

int local_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err);
int local_find(struct driver *d, const char *id, uint64_t deadline, struct cloud *ret,
               struct error *err);
int local_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
                struct error *err);
int local_volume_id(struct driver *d, const char *id, const char *node,
                    char ret[CLOUD_HANDLE_MAX + 1], struct error *err);
/* DescribeVolumes' entry of the cloud's volume; *ret is a new reference. ERR_NOT_FOUND. */
int local_describe(struct driver *d, struct local_node *n, const char *id, uint64_t deadline,
                   json_t **ret, struct error *err) MUST_CHECK;
/* Whether that VM answers, now or ever since it was started. */
bool local_vm_answers(struct driver *d, const char *id, uint64_t pid, uint64_t deadline);
void local_vm_forget(struct driver *d, const char *id);

/* ---- driver_local_steps.c ---- */

int local_create_volume(struct driver *d, const char *id, const char *node,
                        const struct cloud_seed *seed, uint64_t deadline, struct error *err);
int local_attach(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                 uint64_t deadline, struct error *err);
int local_start(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int local_ready(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
                struct error *err);
int local_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int local_detach(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int local_delete_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                        struct error *err);
int local_add_device(struct driver *d, const struct cloud *c, const struct device *add,
                     const struct cloud_session *s, uint64_t deadline, struct error *err);
int local_remove_device(struct driver *d, const struct cloud *c, const char *fingerprint,
                        const struct cloud_session *s, const struct cloud_new_key *key,
                        uint64_t deadline, struct error *err);

#endif
