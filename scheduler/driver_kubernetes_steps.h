/* SPDX-License-Identifier: Apache-2.0 */
/* driver_kubernetes_steps.h: what the steps on volumes and VMs share: writing objects so that it
 * can be repeated, and waiting. Thread-safe. */
#ifndef COFFER_SCHEDULER_DRIVER_KUBERNETES_STEPS_H
#define COFFER_SCHEDULER_DRIVER_KUBERNETES_STEPS_H

#include "common/base.h"
#include "scheduler/driver_kubernetes_objects.h"

/* obj is taken; NULL: there was no memory for it. */
/* ERR_EXISTS: there is one. */
int kube_create(struct driver *d, enum kube_kind kind, json_t *obj, uint64_t deadline,
                struct error *err) MUST_CHECK;
/* Makes it so, whether it was there or not (server-side apply). */
int kube_apply(struct driver *d, enum kube_kind kind, const char *id, json_t *obj,
               uint64_t deadline, struct error *err) MUST_CHECK;
/* A Secret: it is taken away and made, so that nobody needs the right to read one. */
int kube_replace_secret(struct driver *d, enum kube_kind kind, const char *id, json_t *obj,
                        uint64_t deadline, struct error *err) MUST_CHECK;
/* Merges changes into it. ERR_NOT_FOUND: there is none. */
int kube_patch(struct driver *d, enum kube_kind kind, const char *id, json_t *changes,
               uint64_t deadline, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND: there is none. *ret: the caller's. */
int kube_get(struct driver *d, enum kube_kind kind, const char *id, uint64_t deadline, json_t **ret,
             struct error *err) MUST_CHECK;
/* There was none: fine. Its end isn't waited for. */
int kube_delete(struct driver *d, enum kube_kind kind, const char *id, uint64_t deadline,
                struct error *err) MUST_CHECK;

/* ---- driver_kubernetes_pod.c: the one pod of a KUBE_DEPLOYMENT or KUBE_REQUEST ---- */

/* Until its volumes are mounted. *ret_refused: they won't be, by what the error says; else it may
 * have been that there was no time. what: for that. */
int kube_wait_mounted(struct driver *d, enum kube_kind kind, const char *id, const char *what,
                      uint64_t deadline, bool *ret_refused, struct error *err) MUST_CHECK;
/* Until there is none, nor one that is being deleted: then kubelet has unpublished its volumes. It
 * deletes the Deployment where that is the only way. */
int kube_wait_no_pods(struct driver *d, enum kube_kind kind, const char *id, uint64_t deadline,
                      struct error *err) MUST_CHECK;

/* ---- driver_kubernetes_ask.c ---- */

/* Asks the cloud's node by attributes and secret (volume/inline.h); taken; secret NULL: none. When
 * it returns nothing is left of it, and the node isn't asked any more; unless it says ERR_ABORTED.
 * *ret_refused: the node said no, for good. */
int kube_ask_node(struct driver *d, const struct cloud *c, json_t *attributes, json_t *secret,
                  uint64_t deadline, bool *ret_refused, struct error *err) MUST_CHECK;
/* Takes away what a killed one left. */
int kube_ask_no_more(struct driver *d, const char *id, uint64_t deadline,
                     struct error *err) MUST_CHECK;

/* Sleeps a little longer each time (*n counts). ERR_DEADLINE, naming what was waited for. */
int kube_pause(unsigned *n, uint64_t deadline, const char *what, const char *why,
               struct error *err) MUST_CHECK;

#endif
