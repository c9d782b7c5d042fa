/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_kubernetes_objects.h"

#include "common/cleanup.h"

/* ---- templates: a text "$name" stands for a value; one that is null takes its key away ---- */

/* clang-format off */
#define JSON(...) #__VA_ARGS__

static const char claim_template[] = JSON({
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "$name", "namespace": "$namespace", "labels": "$labels",
                 "annotations": "$annotations"},
    "spec": {
        "accessModes": ["ReadWriteOncePod"],
        "volumeMode": "Filesystem",
        "storageClassName": "$storage_class",
        "resources": {"requests": {"storage": "$size"}}
    }
});

static const char secret_template[] = JSON({
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "$name", "namespace": "$namespace", "labels": "$labels"},
    "type": "Opaque",
    "immutable": true,
    "stringData": "$content"
});

static const char deployment_template[] = JSON({
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "$name", "namespace": "$namespace", "labels": "$labels"},
    "spec": {
        "replicas": 1,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": "$selector"},
        "template": {
            "metadata": {"labels": "$labels"},
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": "$grace",
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
                    "fsGroupChangePolicy": "OnRootMismatch",
                    "seccompProfile": {"type": "RuntimeDefault"}
                },
                "containers": [{
                    "name": "vm",
                    "image": "$image",
                    "imagePullPolicy": "IfNotPresent",
                    "command": "$command",
                    "env": [
                        {"name": "PORT", "value": "8080"},
                        {"name": "TARGET_DISK", "value": "true"},
                        {"name": "VM_URL_PREFIX", "value": "/"}
                    ],
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "readinessProbe": {
                        "httpGet": {"path": "$ready_path", "port": "http"},
                        "periodSeconds": 2, "timeoutSeconds": 5
                    },
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "$memory"},
                        "limits": {"memory": "$memory"}
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]}
                    },
                    "volumeMounts": [
                        {"name": "volume", "mountPath": "/personalcloud"},
                        {"name": "tmp", "mountPath": "/tmp"}
                    ]
                }],
                "volumes": [
                    {"name": "volume", "persistentVolumeClaim": {"claimName": "$name"}},
                    {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
                ]
            }
        }
    }
});

/* Kubelet asks its node by the inline volume, before it makes anything of the pod; then the pod is
 * taken away. So no program is in it: the path is none. Its claim's node is named, also one that
 * takes no new pods: it has the volume. */
static const char request_template[] = JSON({
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "$name", "namespace": "$namespace", "labels": "$labels"},
    "spec": {
        "replicas": 1,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": "$asked"},
        "template": {
            "metadata": {"labels": "$asked"},
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [
                        {"key": "metadata.name", "operator": "In", "values": ["$node"]}
                    ]}]
                }}},
                "tolerations": [{
                    "key": "node.kubernetes.io/unschedulable", "operator": "Exists",
                    "effect": "NoSchedule"
                }],
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"}
                },
                "containers": [{
                    "name": "nothing",
                    "image": "$image",
                    "imagePullPolicy": "Never",
                    "command": ["/nothing"],
                    "resources": {
                        "requests": {"cpu": "1m", "memory": "8Mi"},
                        "limits": {"memory": "8Mi"}
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]}
                    },
                    "volumeMounts": [{"name": "request", "mountPath": "/request", "readOnly": true}]
                }],
                "volumes": [{
                    "name": "request",
                    "csi": {
                        "driver": "$csi_driver", "readOnly": true,
                        "volumeAttributes": "$attributes", "nodePublishSecretRef": "$secret"
                    }
                }]
            }
        }
    }
});

static const char service_template[] = JSON({
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "$name", "namespace": "$namespace", "labels": "$labels"},
    "spec": {
        "type": "ClusterIP",
        "selector": "$selector",
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    }
});

static const char ingress_template[] = JSON({
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "$name", "namespace": "$namespace", "labels": "$labels",
                 "annotations": "$annotations"},
    "spec": {
        "ingressClassName": "$ingress_class",
        "rules": [{
            "host": "$ingress_host",
            "http": {"paths": [{
                "path": "$path",
                "pathType": "ImplementationSpecific",
                "backend": {"service": {"name": "$name", "port": {"name": "http"}}}
            }]}
        }]
    }
});
/* clang-format on */

static const struct kind_row {
    const char *group, *plural, *suffix;
    const char *text;
} kinds[KUBE_KINDS] = {
    [KUBE_CLAIM] = { "api/v1", "persistentvolumeclaims", "", claim_template },
    [KUBE_SECRET_KEY] = { "api/v1", "secrets", "-key", secret_template },
    [KUBE_SECRET_SESSION] = { "api/v1", "secrets", "-session", secret_template },
    [KUBE_DEPLOYMENT] = { "apis/apps/v1", "deployments", "", deployment_template },
    [KUBE_SERVICE] = { "api/v1", "services", "", service_template },
    [KUBE_INGRESS] = { "apis/networking.k8s.io/v1", "ingresses", "", ingress_template },
    [KUBE_REQUEST] = { "apis/apps/v1", "deployments", "-request", request_template },
    [KUBE_SECRET_REQUEST] = { "api/v1", "secrets", "-request", secret_template },
};

int kube_path(const struct driver *d, enum kube_kind kind, const char *id,
              char ret[KUBE_PATH_MAX + 1], struct error *err)
{
    const struct kind_row *k = &kinds[kind];
    int n = snprintf(ret, KUBE_PATH_MAX + 1, "/%s/namespaces/%s/%s%s%s%s", k->group,
                     d->o.name_space, k->plural, id == NULL ? "" : "/" CLOUD_VOLUME_PREFIX,
                     id == NULL ? "" : id, id == NULL ? "" : k->suffix);

    return n > 0 && n <= KUBE_PATH_MAX
               ? 0
               : error_set(err, ERR_INTERNAL, "a path of the API server is too long");
}

/* ---- filling them ---- */

static int fill_object(json_t *obj, const json_t *values);

/* 1: it is to go. */
static int fill(json_t *value, const json_t *values, json_t **ret)
{
    const char *text = json_string_value(value);
    json_t *item;
    size_t i;

    *ret = NULL;
    if (text != NULL && text[0] == '$') {
        *ret = json_object_get(values, text + 1);
        return *ret == NULL ? -1 : json_is_null(*ret) ? 1 : 0;
    }
    json_array_foreach (value, i, item) {
        json_t *other;

        if (fill(item, values, &other) != 0 ||
            (other != NULL && json_array_set(value, i, other) < 0))
            return -1;
    }
    return json_is_object(value) ? fill_object(value, values) : 0;
}

static int fill_object(json_t *obj, const json_t *values)
{
    const char *key;
    json_t *value, *other;
    void *next;

    json_object_foreach_safe(obj, next, key, value)
    {
        int rc = fill(value, values, &other);

        if (rc < 0 || (rc == 0 && other != NULL && json_object_set(obj, key, other) < 0) ||
            (rc == 1 && json_object_del(obj, key) < 0))
            return -1;
    }
    return 0;
}

/* values is taken; NULL: there was no memory for it. */
static json_t *make(enum kube_kind kind, const struct driver *d, const char *id, json_t *values)
{
    const struct kind_row *k = &kinds[kind];
    AUTO_JSON json_t *own = values, *obj = NULL;
    char name[KUBE_OBJECT_SIZE];
    json_t *labels =
        json_pack("{s:s, s:s}", KUBE_LABEL, id, "app.kubernetes.io/managed-by", "coffer-scheduler");

    (void)snprintf(name, sizeof(name), CLOUD_VOLUME_PREFIX "%.32s%s", id, k->suffix);
    if (json_object_set_new(own, "labels", labels) < 0 ||
        json_object_set_new(own, "selector", json_pack("{s:s}", KUBE_LABEL, id)) < 0 ||
        json_object_set_new(own, "asked", json_pack("{s:s}", KUBE_ASKED, id)) < 0 ||
        json_object_set_new(own, "name", json_string(name)) < 0 ||
        json_object_set_new(own, "namespace", json_string(d->o.name_space)) < 0 ||
        json_parse(k->text, strlen(k->text), "a template", &obj, NULL) < 0 ||
        fill_object(obj, own) < 0)
        return NULL;
    return TAKE_PTR(obj);
}

static json_t *number_text(uint64_t n)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    return json_string(text);
}

/* ---- a claim and its secrets ---- */

static json_t *devices_text(const struct cloud_seed *s)
{
    AUTO_JSON json_t *list = json_pack("[{s:s, s:s, s:s, s:s, s:s, s:s}]", "name", s->name,
                                       "fingerprint", s->fingerprint, "algorithm", s->algorithm,
                                       "label", s->label == NULL ? "" : s->label, "publicKey",
                                       s->public_key, "wrapped", s->wrapped);
    AUTO_FREE char *text = list == NULL ? NULL : json_text(list, JSON_COMPACT);

    return text == NULL ? NULL : json_string(text);
}

json_t *kube_claim_new(const struct driver *d, const char *id, const struct cloud_seed *seed)
{
    json_t *annotations = json_pack("{s:s, s:s, s:o}", KUBE_UUID, seed->uuid, KUBE_COMMITMENT,
                                    seed->commitment, KUBE_DEVICES, devices_text(seed));

    return make(KUBE_CLAIM, d, id,
                json_pack("{s:o, s:s, s:o}", "annotations", annotations, "storage_class",
                          d->o.storage_class, "size", number_text(d->config->size)));
}

json_t *kube_secret_key_new(const struct driver *d, const char *id, const struct cloud_seed *seed)
{
    json_t *content = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s*}", "uuid", seed->uuid, "commitment",
                                seed->commitment, "publicKey", seed->public_key, "algorithm",
                                seed->algorithm, "wrapped", seed->wrapped, "label",
                                seed->label != NULL && seed->label[0] != '\0' ? seed->label : NULL);

    return make(KUBE_SECRET_KEY, d, id, json_pack("{s:o}", "content", content));
}

json_t *kube_secret_session_new(const struct driver *d, const char *id,
                                const struct cloud_session *s)
{
    json_t *content = s == NULL ? json_null()
                                : json_pack("{s:s, s:s, s:s}", "session", s->session, "serverKey",
                                            s->server_key, "fingerprint", s->fingerprint);

    return make(KUBE_SECRET_SESSION, d, id, json_pack("{s:o}", "content", content));
}

/* ---- the VM ---- */

json_t *kube_deployment_new(const struct driver *d, const char *id)
{
    uint64_t grace = d->config->stop_seconds > 0 ? d->config->stop_seconds : 1; /* 0: no waiting */

    return make(KUBE_DEPLOYMENT, d, id,
                json_pack("{s:s, s:o, s:s, s:o, s:I}", "image", d->o.image, "command",
                          d->o.command != NULL ? json_deep_copy(d->o.command) : json_null(),
                          "ready_path", d->config->ready_path, "memory",
                          number_text(d->config->memory), "grace", (json_int_t)grace));
}

json_t *kube_service_new(const struct driver *d, const char *id)
{
    return make(KUBE_SERVICE, d, id, json_object());
}

json_t *kube_ingress_new(const struct driver *d, const char *id)
{
    json_t *class = d->o.ingress_class[0] != '\0' ? json_string(d->o.ingress_class) : json_null();
    char path[sizeof(d->o.path_prefix) + CLOUD_ID_LEN + 8];

    (void)snprintf(path, sizeof(path), "%s%.32s/(.*)", d->o.path_prefix, id);
    return make(KUBE_INGRESS, d, id,
                json_pack("{s:O, s:o, s:s, s:s}", "annotations", d->o.annotations, "ingress_class",
                          class, "ingress_host", d->o.ingress_host, "path", path));
}

/* ---- requests to a node ---- */

json_t *kube_secret_request_new(const struct driver *d, const char *id, const json_t *content)
{
    return make(KUBE_SECRET_REQUEST, d, id,
                json_pack("{s:O}", "content", (json_t *)(uintptr_t)content));
}

json_t *kube_request_new(const struct driver *d, const char *id, const char *node,
                         const json_t *attributes, bool secret)
{
    char name[KUBE_OBJECT_SIZE];

    (void)snprintf(name, sizeof(name), CLOUD_VOLUME_PREFIX "%.32s%s", id,
                   kinds[KUBE_SECRET_REQUEST].suffix);
    return make(KUBE_REQUEST, d, id,
                json_pack("{s:s, s:s, s:s, s:O, s:o}", "node", node, "image", d->o.image,
                          "csi_driver", d->o.csi_driver, "attributes",
                          (json_t *)(uintptr_t)attributes, "secret",
                          secret ? json_pack("{s:s}", "name", name) : json_null()));
}
