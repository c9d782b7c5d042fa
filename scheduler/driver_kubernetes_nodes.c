/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes as place.h wants them: memory that pods can have, room for volumes of our class. */
#include "common/base.h"
#include "scheduler/driver_kubernetes.h"

#include "common/strbuf.h"

#include <ctype.h>

#define PAGE_NODES 15u /* a node has some 25 KiB: it lists its images */
#define PAGE       40u

/* ---- quantities ---- */

/* https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ */
static const struct suffix_row {
    const char *suffix;
    double times;
} suffixes[] = {
    { "", 1 },        { "n", 1e-9 },    { "u", 1e-6 },    { "m", 1e-3 },
    { "k", 1e3 },     { "M", 1e6 },     { "G", 1e9 },     { "T", 1e12 },
    { "P", 1e15 },    { "E", 1e18 },    { "Ki", 0x1p10 }, { "Mi", 0x1p20 },
    { "Gi", 0x1p30 }, { "Ti", 0x1p40 }, { "Pi", 0x1p50 }, { "Ei", 0x1p60 },
};

static int finish_quantity(double number, uint64_t *ret)
{
    if (!(number >= 0 && number < 0x1p63))
        return -1;
    *ret = (uint64_t)number;
    return 0;
}

int kube_quantity(const char *text, uint64_t *ret)
{
    size_t digits = strspn(text, "0123456789.");
    char *end = NULL;
    double number;

    /* not strtod's own idea of a number: "0x1", "inf", " 1" */
    if (digits == 0 || digits > 40 || !isdigit((unsigned char)text[0]))
        return -1;
    number = strtod(text, &end);
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        if (strcmp(text + digits, suffixes[i].suffix) == 0)
            return end == text + digits ? finish_quantity(number * suffixes[i].times, ret) : -1;
    }
    return *end == '\0' && strpbrk(text, "xXpP") == NULL ? finish_quantity(number, ret) : -1;
}

/* ---- nodes ---- */

struct nodes {
    struct driver *d;
    struct place_node *items;
    size_t n, cap;
    json_t *labels; /* name -> labels, while capacities are read */
};

static bool node_ready(const json_t *node)
{
    const json_t *conditions = json_object_get(json_object_get(node, "status"), "conditions");
    const json_t *c;
    size_t i;

    json_array_foreach (conditions, i, c) {
        if (strcmp(kube_text(c, "type"), "Ready") == 0)
            return strcmp(kube_text(c, "status"), "True") == 0;
    }
    return false;
}

/* Our pods tolerate nothing: a taint but for the softest kind keeps them away. */
static bool tainted(const json_t *node)
{
    const json_t *taints = json_object_get(json_object_get(node, "spec"), "taints"), *t;
    size_t i;

    json_array_foreach (taints, i, t) {
        if (strcmp(kube_text(t, "effect"), "PreferNoSchedule") != 0)
            return true;
    }
    return false;
}

static int room_for_one(struct nodes *to, struct error *err)
{
    size_t cap = to->cap == 0 ? 64 : to->cap * 2;
    struct place_node *more;

    if (to->n < to->cap)
        return 0;
    more = reallocarray(to->items, cap, sizeof(*more));
    if (more == NULL)
        return error_memory(err);
    to->items = more;
    to->cap = cap;
    return 0;
}

static int add_node(void *ctx, json_t *item, struct error *err)
{
    struct nodes *to = ctx;
    const json_t *meta = json_object_get(item, "metadata");
    const json_t *allocatable = json_object_get(json_object_get(item, "status"), "allocatable");
    const char *name = kube_text(meta, "name");
    struct place_node n = { .schedulable = node_ready(item) && !tainted(item) &&
                                           !json_is_true(json_object_get(
                                               json_object_get(item, "spec"), "unschedulable")) };

    if (str_copy(n.name, sizeof(n.name), name) < 0 || n.name[0] == '\0')
        return error_set(err, ERR_UNAVAILABLE, "the API server has a node without a name");
    if (kube_quantity(kube_text(allocatable, "memory"), &n.memory) < 0)
        n.schedulable = false; /* its kubelet hasn't told yet */
    if (room_for_one(to, err) < 0)
        return -1;
    to->items[to->n++] = n;
    json_t *labels = json_object_get(meta, "labels");
    return json_object_set_new(to->labels, name,
                               labels != NULL ? json_incref(labels) : json_object()) < 0
               ? error_memory(err)
               : 0;
}

/* ---- room for volumes ---- */

static bool labels_match(const json_t *wanted, const json_t *labels)
{
    const char *key;
    json_t *value;

    if (!json_is_object(wanted)) /* none: no node can reach it */
        return false;
    json_object_foreach ((json_t *)(uintptr_t)wanted, key, value) {
        if (!json_equal(value, json_object_get(labels, key)))
            return false;
    }
    return true;
}

/* https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/
 * csi-storage-capacity-v1/: maximumVolumeSize is the most one volume can have. */
static int add_capacity(void *ctx, json_t *item, struct error *err UNUSED)
{
    struct nodes *to = ctx;
    const json_t *wanted = json_object_get(json_object_get(item, "nodeTopology"), "matchLabels");
    const char *most = kube_text(item, "maximumVolumeSize");
    uint64_t free_bytes, largest;

    if (strcmp(kube_text(item, "storageClassName"), to->d->o.storage_class) != 0 ||
        kube_quantity(kube_text(item, "capacity"), &free_bytes) < 0)
        return 0;
    if (kube_quantity(most, &largest) == 0 && largest < to->d->config->size)
        free_bytes = 0;
    for (size_t i = 0; i < to->n; i++) {
        if (labels_match(wanted, json_object_get(to->labels, to->items[i].name)))
            to->items[i].storage_free += free_bytes;
    }
    return 0;
}

/* ---- what our VMs have of them ---- */

static int add_pod(void *ctx, json_t *item, struct error *err UNUSED)
{
    struct nodes *to = ctx;
    const char *node =
        kube_pod_ended(item) ? "" : kube_text(json_object_get(item, "spec"), "nodeName");

    for (size_t i = 0; node[0] != '\0' && i < to->n; i++) {
        if (strcmp(to->items[i].name, node) == 0) {
            to->items[i].memory_used += to->d->config->memory;
            to->items[i].vms++;
        }
    }
    return 0;
}

static int read_nodes(struct nodes *to, uint64_t deadline, struct error *err)
{
    struct kube_api *api = to->d->api;
    char capacities[256], pods[256];

    (void)snprintf(capacities, sizeof(capacities),
                   "/apis/storage.k8s.io/v1/namespaces/%s/csistoragecapacities",
                   to->d->o.driver_name_space);
    (void)snprintf(pods, sizeof(pods),
                   "/api/v1/namespaces/%s/pods?labelSelector=coffer.dev%%2Fcloud",
                   to->d->o.name_space);
    if (kube_list(api, "/api/v1/nodes", PAGE_NODES, deadline, add_node, to, err) < 0 ||
        kube_list(api, capacities, PAGE, deadline, add_capacity, to, err) < 0)
        return -1;
    return kube_list(api, pods, PAGE, deadline, add_pod, to, err);
}

int kube_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
               struct error *err)
{
    AUTO_JSON json_t *labels = json_object();
    struct nodes found = { .d = d, .labels = labels };

    if (labels == NULL)
        return error_memory(err);
    if (room_for_one(&found, err) < 0 || read_nodes(&found, deadline, err) < 0) {
        free(found.items);
        return -1;
    }
    *ret = found.items;
    *ret_n = found.n;
    return 0;
}
