/* SPDX-License-Identifier: Apache-2.0 */
/* driver_local_each.c: a round: of each node, the volumes that its records tell of and the VMs that
 * coffer-launch lists, by the clouds' ids put together. */
#include "common/base.h"
#include "scheduler/driver_local.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/strbuf.h"

#define PAGES_MAX     100000u /* of 256 volumes at most */
#define PROBES_MS     3000u   /* for all VMs of a round */
#define PAGE_MS       10000u  /* for one answer of a node */
#define SILENT_MS     5000u   /* for all nodes together that didn't answer the last time */
#define SILENT_MIN_MS 500u    /* for each of them */

struct vm_volume {
    char id[CLOUD_HANDLE_MAX + 1]; /* "": it isn't known */
};

struct walk {
    struct driver *d;
    struct local_node *n;
    uint64_t deadline, probes_until;
    cloud_cb *cb;
    void *ctx;
    bool stopped;
    struct launch_vm *vms; /* of the node */
    size_t n_vms;
    bool *told;                /* of each VM: with its volume */
    struct vm_volume *volumes; /* of each VM; NULL: nobody asked yet */
    struct error *err;
};

static void tell(struct walk *w, const struct cloud *c)
{
    w->stopped = !w->cb(w->ctx, c);
}

/* ---- what can't be read ---- */

/* Of the node when neither id nor volume is known. */
static void tell_unread(struct walk *w, const char *id, const char *volume, const char *why)
{
    struct cloud c = { .unread = true };

    (void)!str_copy(c.id, sizeof(c.id), id);
    (void)!str_copy(c.volume, sizeof(c.volume), volume);
    (void)!str_copy(c.node, sizeof(c.node), w->n->name);
    (void)snprintf(c.reason, sizeof(c.reason), "%.*s", CLOUD_REASON_MAX, why);
    tell(w, &c);
}

static int name_volumes(struct walk *w)
{
    struct error unknown = ERROR_INIT;

    w->volumes = calloc(w->n_vms + 1, sizeof(*w->volumes));
    if (w->volumes == NULL)
        return error_memory(w->err);
    for (size_t i = 0; i < w->n_vms; i++)
        (void)local_volume_id(w->d, w->vms[i].id, w->n->name, w->volumes[i].id, &unknown);
    return 0;
}

/* Its VM mustn't be taken for one without a volume. */
static int tell_unreadable(struct walk *w, const char *volume, const char *why)
{
    const char *id = "";

    if (w->volumes == NULL && name_volumes(w) < 0)
        return -1;
    for (size_t i = 0; i < w->n_vms; i++) {
        if (strcmp(w->volumes[i].id, volume) != 0)
            continue;
        w->told[i] = true;
        id = w->vms[i].id;
    }
    tell_unread(w, id, volume, why);
    return 0;
}

/* ---- volumes ---- */

static void tell_cloud(struct walk *w, const char *id, const json_t *volume)
{
    const struct launch_vm *vm = launch_vm_find(w->vms, w->n_vms, id);
    AUTO_CLOUD struct cloud c = { .devices = NULL };
    struct error why = ERROR_INIT;

    if (vm != NULL)
        w->told[vm - w->vms] = true;
    if (local_read_volume(w->n, id, volume, &c, &why) < 0) {
        tell_unread(w, id, local_text(volume, "volume_id"), why.msg);
        return;
    }
    local_read_vm(w->d, vm, w->probes_until, &c);
    tell(w, &c);
}

static int tell_volume(struct walk *w, const json_t *volume)
{
    const char *problem = local_text(volume, "problem"), *id = local_cloud_id(volume);

    if (problem[0] != '\0')
        return tell_unreadable(w, local_text(volume, "volume_id"), problem);
    if (id != NULL)
        tell_cloud(w, id, volume);
    return 0;
}

static int tell_page(struct walk *w, const json_t *reply)
{
    const json_t *volumes = json_object_get(reply, "volumes");

    for (size_t i = 0; i < json_array_size(volumes) && !w->stopped; i++) {
        if (tell_volume(w, json_array_get(volumes, i)) < 0)
            return -1;
    }
    return 0;
}

static int tell_pages(struct walk *w)
{
    char token[VOLUME_ID_MAX + 1] = "";

    for (unsigned page = 0; page < PAGES_MAX && !w->stopped; page++) {
        AUTO_JSON json_t *reply = NULL;
        json_t *request =
            json_pack("{s:s, s:s}", "name_prefix", CLOUD_VOLUME_PREFIX, "starting_token", token);

        if (local_describe_page(w->d, w->n, request, local_ask,
                                deadline_sooner(w->deadline, PAGE_MS), &reply, w->err) < 0 ||
            tell_page(w, reply) < 0 ||
            local_copy(token, sizeof(token), reply, "next_token", w->err) < 0)
            return -1;
        if (token[0] == '\0')
            return 0;
    }
    return 0;
}

/* A VM without a volume: what was deleted behind its back. It is to be seen, so that it can be
 * stopped. */
static void tell_orphans(struct walk *w)
{
    for (size_t i = 0; i < w->n_vms && !w->stopped; i++) {
        struct cloud c = { .devices = NULL };

        if (w->told[i])
            continue;
        (void)!str_copy(c.id, sizeof(c.id), w->vms[i].id);
        (void)!str_copy(c.node, sizeof(c.node), w->n->name);
        local_read_vm(w->d, &w->vms[i], w->probes_until, &c);
        tell(w, &c);
    }
}

/* ---- nodes ---- */

static int tell_all(struct walk *w)
{
    w->told = calloc(w->n_vms + 1, sizeof(*w->told));
    if (w->told == NULL)
        return error_memory(w->err);
    if (tell_pages(w) < 0)
        return -1;
    tell_orphans(w);
    return 0;
}

/* The VMs first: one that is started meanwhile is seen the next time, one that ends isn't taken
 * for running long. */
static int walk_node(struct walk *w)
{
    int r = local_list_vms(w->n, deadline_sooner(w->deadline, PAGE_MS), &w->vms, &w->n_vms, w->err);

    if (r == 0)
        r = tell_all(w);
    free(w->vms);
    free(w->told);
    free(w->volumes);
    w->vms = NULL;
    w->told = NULL;
    w->volumes = NULL;
    return r;
}

static void tell_node(struct walk *w)
{
    struct error why = ERROR_INIT;

    w->err = &why;
    if (walk_node(w) < 0)
        tell_unread(w, "", "", why.msg);
    w->err = NULL;
    local_set_silent(w->d, w->n, why.code != ERR_OK);
}

/* Those that were silent come last and share some seconds, so that nodes which hang don't make what
 * is known of the others old. */
int local_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err)
{
    AUTO_FREE bool *silent = calloc(d->n_nodes, sizeof(*silent));
    struct walk w = {
        .d = d, .probes_until = deadline_sooner(deadline, PROBES_MS), .cb = cb, .ctx = ctx
    };
    size_t n_silent = 0;
    uint64_t share;

    if (silent == NULL)
        return error_memory(err);
    for (size_t i = 0; i < d->n_nodes; i++)
        n_silent += silent[i] = local_is_silent(d, &d->nodes[i]);
    share =
        n_silent > 0 && SILENT_MS / n_silent > SILENT_MIN_MS ? SILENT_MS / n_silent : SILENT_MIN_MS;
    for (size_t i = 0; i < 2 * d->n_nodes && !w.stopped; i++) {
        bool last = i >= d->n_nodes;

        w.n = &d->nodes[i % d->n_nodes];
        w.deadline = last ? deadline_sooner(deadline, share) : deadline;
        if (silent[i % d->n_nodes] == last)
            tell_node(&w);
    }
    return 0;
}
