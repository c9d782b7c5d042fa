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
 * A node that doesn't answer, and a record that can't be read, hide their own clouds alone. The
 * next rounds ask a silent node last and for a short time, and nothing is placed there.
 *
 * Here is what its files share: driver_local.c the options and the table, driver_local_each.c all
 * clouds, driver_local_facts.c one of them, driver_local_nodes.c the nodes, driver_local_steps.c
 * what changes a cloud, driver_local_call.c one call to a node.
 */
#ifndef COFFER_SCHEDULER_DRIVER_LOCAL_H
#define COFFER_SCHEDULER_DRIVER_LOCAL_H

#include "scheduler/driver.h"
#include "scheduler/launch_client.h"
#include "scheduler/unix_connect.h"

#include <pthread.h>

#define LOCAL_ENDPOINT_MAX (7u + UNIX_PATH_MAX_LEN) /* "unix://" and a path */

struct local_node { /* immutable but for the last three, which are under the driver's lock */
    char name[NODE_NAME_MAX + 1];
    char controller[LOCAL_ENDPOINT_MAX + 1], node[LOCAL_ENDPOINT_MAX + 1];
    char launch[UNIX_PATH_MAX_LEN + 1];
    char pool[POOL_NAME_MAX + 1], kms[KMS_NAME_MAX + 1];
    uint64_t memory; /* for VMs, bytes */
    uint32_t vms_max;
    char tag[9];     /* the pool's, as DescribeVolumes told it last */
    bool silent;     /* the last round couldn't read it */
    bool no_figures; /* it was said in the log that it doesn't tell what room it has */
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

typedef int local_call_fn(const char *endpoint, const char *method, json_t *request,
                          uint64_t deadline, json_t **ret, struct error *err);
/* A CSI call; request is taken (NULL: out of memory), *ret may be NULL. The error is the node's own
 * text, which may name its paths and devices: for the log. */
int local_ask(const char *endpoint, const char *method, json_t *request, uint64_t deadline,
              json_t **ret, struct error *err) MUST_CHECK;
/* The same for users: such an error goes to the log, and they are told what is theirs to know. */
int local_call(const char *endpoint, const char *method, json_t *request, uint64_t deadline,
               json_t **ret, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND: the configuration has no such node. */
int local_node_find(struct driver *d, const char *name, struct local_node **ret,
                    struct error *err) MUST_CHECK;

/* ---- driver_local_nodes.c ---- */

int local_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
                struct error *err);
int local_volume_id(struct driver *d, const char *id, const char *node,
                    char ret[CLOUD_HANDLE_MAX + 1], struct error *err);
bool local_is_silent(struct driver *d, const struct local_node *n);
void local_set_silent(struct driver *d, struct local_node *n, bool silent);

/* ---- driver_local_each.c ---- */

int local_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err);

/* ---- driver_local_facts.c ---- */

int local_find(struct driver *d, const char *id, const char *node, uint64_t deadline,
               struct cloud *ret, struct error *err);
/* A text of a node's answer; "" when it isn't there, as proto3 leaves it out. */
const char *local_text(const json_t *obj, const char *key);
/* A copy of it. ERR_INTERNAL: it is too long. */
int local_copy(char *to, size_t size, const json_t *obj, const char *key,
               struct error *err) MUST_CHECK;
/* The cloud's id in the name of DescribeVolumes' entry; NULL: it is no cloud's. */
const char *local_cloud_id(const json_t *volume);
/* Facts of the volume. */
int local_read_volume(const struct local_node *n, const char *id, const json_t *volume,
                      struct cloud *to, struct error *err) MUST_CHECK;
/* vm NULL: there is none. It gets a moment to answer. */
void local_read_vm(struct driver *d, const struct launch_vm *vm, uint64_t deadline,
                   struct cloud *to);
/* coffer-launch's list. ERR_UNAVAILABLE and others: the node doesn't tell. */
int local_list_vms(const struct local_node *n, uint64_t deadline, struct launch_vm **ret,
                   size_t *ret_n, struct error *err) MUST_CHECK;
/* One answer of DescribeVolumes; request is taken. ask: local_ask or local_call. */
int local_describe_page(struct driver *d, struct local_node *n, json_t *request, local_call_fn *ask,
                        uint64_t deadline, json_t **ret, struct error *err) MUST_CHECK;
/* DescribeVolumes' entry of the cloud's volume; *ret is a new reference. ERR_NOT_FOUND;
 * ERR_DATA_LOSS: it is there, and its record can't be read. */
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
