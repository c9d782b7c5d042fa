/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_kubernetes_objects.h: the objects a cloud is made of, as JSON; and where they are. All are
 * in the driver's namespace, named after the cloud and labelled with its id. Pure.
 */
#ifndef COFFER_SCHEDULER_DRIVER_KUBERNETES_OBJECTS_H
#define COFFER_SCHEDULER_DRIVER_KUBERNETES_OBJECTS_H

#include "common/base.h"
#include "scheduler/driver_kubernetes.h"

enum kube_kind {
    KUBE_CLAIM,
    KUBE_SECRET_KEY,     /* "-key": what CreateVolume gets */
    KUBE_SECRET_SESSION, /* "-session": what NodeStage gets */
    KUBE_DEPLOYMENT,
    KUBE_SERVICE,
    KUBE_INGRESS,
    KUBE_REQUEST,        /* "-request": a Deployment whose pod asks its node something */
    KUBE_SECRET_REQUEST, /* "-request": what it brings */
    KUBE_KINDS,
};

/* "/api/v1/namespaces/NS/persistentvolumeclaims" and, with an id, "/cloud-ID" behind it. */
int kube_path(const struct driver *d, enum kube_kind kind, const char *id,
              char ret[KUBE_PATH_MAX + 1], struct error *err) MUST_CHECK;

/* New objects; NULL: no memory. */
json_t *kube_claim_new(const struct driver *d, const char *id, const struct cloud_seed *seed);
json_t *kube_secret_key_new(const struct driver *d, const char *id, const struct cloud_seed *seed);
/* s NULL: without content. */
json_t *kube_secret_session_new(const struct driver *d, const char *id,
                                const struct cloud_session *s);
json_t *kube_deployment_new(const struct driver *d, const char *id);
json_t *kube_service_new(const struct driver *d, const char *id);
json_t *kube_ingress_new(const struct driver *d, const char *id);
/* attributes: of volume/inline.h; secret: there is one beside it. */
json_t *kube_request_new(const struct driver *d, const char *id, const char *node,
                         const json_t *attributes, bool secret);
json_t *kube_secret_request_new(const struct driver *d, const char *id, const json_t *content);

#endif
