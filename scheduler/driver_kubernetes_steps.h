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

/* Sleeps a little longer each time (*n counts). ERR_DEADLINE, naming what was waited for. */
int kube_pause(unsigned *n, uint64_t deadline, const char *what, const char *why,
               struct error *err) MUST_CHECK;

#endif
