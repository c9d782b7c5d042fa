/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_kubernetes.h: the driver `kubernetes`: a cloud is a PersistentVolumeClaim, a Deployment of
 * one pod, a Service and an Ingress, all called cloud-ID and labelled coffer.dev/cloud=ID, in a
 * namespace that holds nothing else. Its volume is one of docs/client-keys.md: two Secrets carry
 * what CreateVolume and NodeStage get. docs/kubernetes.md has the set-up.
 *
 *   "kubernetes": {"api": "https://kubernetes.default.svc",
 *                  "ca": "/var/run/secrets/api/ca.crt", "token_path": "/var/run/secrets/api/token",
 *                  "namespace": "clouds", "driver_namespace": "coffer",
 *                  "storage_class": "encrypted-client",
 *                  "csi_driver": "csi.coffer.dev",
 *                  "image": "example.com/vm:1", "command": ["node", "server.mjs"],
 *                  "ingress_host": "clouds.example.com", "ingress_class": "nginx",
 *                  "ingress_annotations": {...}}
 *
 * The claim is the record: its annotations have the volume's uuid, commitment, id and devices. Who
 * is to have it first writes it (POST). It is made in three steps that can each be repeated: the
 * claim, which waits; the Secret for CreateVolume; the node that was chosen, in the annotation by
 * which kube-scheduler would say it, so that a volume comes without a pod.
 *
 * A volume is open while a pod uses it, and the pod's mount is where a session proves itself. So
 * `attach` makes the pod and waits for its mount; a session that was used is taken out of its
 * Secret, which stays, empty, for kubelet to find when it mounts again what is mounted.
 *
 * What only the volume's node can do or tell, it is asked by kubelet: a pod for that moment has an
 * inline volume that is a request (volume/inline.h). So devices come and go, whether the volume is
 * open or not, and so `detach` has it from coffer-node itself that nothing is open any more. The
 * claim's annotation KUBE_CHANGE says what a change of devices will make of the list, before it is
 * asked for: whoever finds it asks the node whether that is so by now. It needs "Ephemeral" among
 * the CSIDriver's volumeLifecycleModes.
 *
 * Here are the parts that its files share. Immutable after it is opened, so thread-safe.
 */
#ifndef COFFER_SCHEDULER_DRIVER_KUBERNETES_H
#define COFFER_SCHEDULER_DRIVER_KUBERNETES_H

#include "common/base.h"
#include "scheduler/driver.h"
#include "scheduler/driver_kubernetes_api.h"

#define KUBE_LABEL       "coffer.dev/cloud"
#define KUBE_UUID        "coffer.dev/uuid"
#define KUBE_COMMITMENT  "coffer.dev/commitment"
#define KUBE_DEVICES     "coffer.dev/devices"
#define KUBE_VOLUME      "coffer.dev/volume"  /* volumeHandle of the PersistentVolume */
#define KUBE_OPENED      "coffer.dev/opened"  /* "true": there may be data */
#define KUBE_IN_USE      "coffer.dev/in-use"  /* "true": a node may have it open */
#define KUBE_CHANGE      "coffer.dev/change"  /* of the devices, which may have been made */
#define KUBE_ASKED       "coffer.dev/request" /* label: a pod that asks a node, by its cloud */
#define KUBE_NODE        "volume.kubernetes.io/selected-node"
#define KUBE_NAME_MAX    63
#define KUBE_OBJECT_SIZE 64 /* "cloud-", an id, "-session" */

struct kube_options {
    char api[256], ca[256], token_path[256];
    char name_space[KUBE_NAME_MAX + 1];        /* the clouds' */
    char driver_name_space[KUBE_NAME_MAX + 1]; /* Coffer's: its CSIStorageCapacities */
    char storage_class[254];
    char csi_driver[64];
    char image[512];
    char ingress_host[254];
    char ingress_class[254]; /* "": the cluster's default */
    char path_prefix[256];   /* the URL's path: "/clouds/" */
    json_t *command;         /* array of texts; NULL: the image's */
    json_t *annotations;     /* object of texts: the Ingress' */
};

struct driver {
    struct kube_api *api;
    struct kube_options o;
    const struct scheduler_config *config; /* borrowed */
};

/* driver_kubernetes_options.c */
int kube_options_read(json_t *options, const struct scheduler_config *config,
                      struct kube_options *ret, struct error *err) MUST_CHECK;
void kube_options_release(struct kube_options *o);

/* ---- driver_kubernetes_facts.c ---- */
int kube_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err);
int kube_find(struct driver *d, const char *id, const char *node, uint64_t deadline,
              struct cloud *ret, struct error *err);
/* The volumeHandle of a bound claim, from its annotation or its PersistentVolume; "": not bound. */
int kube_volume_handle(struct driver *d, const json_t *claim, uint64_t deadline,
                       char ret[CLOUD_HANDLE_MAX + 1], struct error *err) MUST_CHECK;
/* The pods with that label, KUBE_LABEL or KUBE_ASKED, of a cloud, as a new array. */
int kube_pods(struct driver *d, const char *label, const char *id, uint64_t deadline, json_t **ret,
              struct error *err) MUST_CHECK;
/* Whether kubelet has ended it for good (an eviction, a node that was shut down). Its object stays:
 * no controller takes it away while its Deployment is there. */
bool kube_pod_ended(const json_t *pod);
/* The one that counts: the newest that isn't being deleted; NULL: none. Borrowed. */
json_t *kube_pod_now(const json_t *pods);
/* Whether its volumes are mounted. */
bool kube_pod_mounted(const json_t *pod);
/* VM_READY, VM_FAILED with what happened in reason, or VM_STARTING. */
enum vm_state kube_pod_state(const json_t *pod, char reason[CLOUD_REASON_MAX + 1]);

/* ---- driver_kubernetes_events.c ---- */
struct kube_trouble {
    enum error_code code; /* ERR_OK: none; ERR_UNAVAILABLE: it may pass by itself; else it won't */
    char text[CLOUD_REASON_MAX + 1]; /* what the driver said, or kubelet */
};
/* The events of an object: what keeps it from having its volume. */
int kube_trouble(struct driver *d, const char *uid, uint64_t deadline, struct kube_trouble *ret,
                 struct error *err) MUST_CHECK;
/* One event's text, as kubelet and csi-provisioner write it. */
void kube_trouble_parse(const char *reason, const char *message, struct kube_trouble *ret);

/* ---- driver_kubernetes_nodes.c ---- */
int kube_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
               struct error *err);
/* A Kubernetes quantity ("16Gi", "128974848", "1500m", "2e9") in whole units, rounded down; -1: it
 * is none, is negative, or too big. */
int kube_quantity(const char *text, uint64_t *ret) MUST_CHECK;

/* ---- driver_kubernetes_volume.c and driver_kubernetes_vm.c: the steps ---- */
int kube_create_volume(struct driver *d, const char *id, const char *node,
                       const struct cloud_seed *seed, uint64_t deadline, struct error *err);
int kube_delete_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                       struct error *err);
int kube_attach(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                uint64_t deadline, struct error *err);
int kube_start(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int kube_ready(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
               struct error *err);
int kube_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);
int kube_detach(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);

/* ---- driver_kubernetes_devices.c ---- */
int kube_add_device(struct driver *d, const struct cloud *c, const struct device *add,
                    const struct cloud_session *s, uint64_t deadline, struct error *err);
int kube_remove_device(struct driver *d, const struct cloud *c, const char *fingerprint,
                       const struct cloud_session *s, const struct cloud_new_key *key,
                       uint64_t deadline, struct error *err);
int kube_settle(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err);

#endif
