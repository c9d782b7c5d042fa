/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_kubernetes.h"

#include "scheduler/server_key.h"

static void kube_close(struct driver *d)
{
    if (d == NULL)
        return;
    kube_api_free(d->api);
    kube_options_release(&d->o);
    free(d);
}
DEFINE_AUTO(driver, kube_close)
#define AUTO_DRIVER __attribute__((cleanup(cleanup_driver)))

static int kube_open(json_t *options, const struct scheduler_config *config, struct driver **ret,
                     struct error *err)
{
    AUTO_DRIVER struct driver *d = calloc(1, sizeof(*d));

    if (d == NULL)
        return error_memory(err);
    d->config = config;
    if (kube_options_read(options, config, &d->o, err) < 0)
        return -1;
    const struct kube_api_options o = { .url = d->o.api,
                                        .ca_path = d->o.ca,
                                        .token_path = d->o.token_path };
    if (kube_api_new(&o, &d->api, err) < 0)
        return -1;
    *ret = TAKE_PTR(d);
    return 0;
}

static int kube_server_key(struct driver *d, uint64_t deadline, struct cloud_server_key *ret,
                           struct error *err)
{
    return server_key_ask(d->config, deadline, ret, err);
}

/* It is csi-provisioner's to make, from the claim's uid. */
static int kube_volume_id(struct driver *d UNUSED, const char *id UNUSED, const char *node UNUSED,
                          char ret[CLOUD_HANDLE_MAX + 1] UNUSED, struct error *err)
{
    return error_set(err, ERR_UNIMPLEMENTED, "a volume's id is known once it was provisioned");
}

const struct driver_ops driver_kubernetes_ops = {
    .name = "kubernetes",
    .names_volumes = false,
    .recipients = true,
    .open = kube_open,
    .close = kube_close,
    .server_key = kube_server_key,
    .each = kube_each,
    .find = kube_find,
    .nodes = kube_nodes,
    .volume_id = kube_volume_id,
    .create_volume = kube_create_volume,
    .attach = kube_attach,
    .start = kube_start,
    .ready = kube_ready,
    .stop = kube_stop,
    .detach = kube_detach,
    .delete_volume = kube_delete_volume,
    .add_device = kube_add_device,
    .remove_device = kube_remove_device,
    .settle = kube_settle,
};
