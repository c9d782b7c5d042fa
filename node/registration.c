/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/registration.h"

#include "common/fault.h"
#include "common/log.h"

#include <sys/un.h>

static int check_path(const char *flag, const char *path, struct error *err)
{
    struct sockaddr_un address;
    size_t len = strlen(path);

    if (path[0] != '/' || path[len - 1] == '/')
        return error_set(err, ERR_INVALID, "%s '%s' must be the absolute path of a socket", flag,
                         path);
    if (len >= sizeof(address.sun_path))
        return error_set(err, ERR_INVALID, "%s '%s' is longer than the %zu bytes of a socket path",
                         flag, path, sizeof(address.sun_path) - 1);
    return 0;
}

int registration_check(const char *path, const char *endpoint, struct error *err)
{
    if (check_path("--registration", path, err) < 0 ||
        check_path("--registration-endpoint", endpoint, err) < 0)
        return -1;
    if (strrchr(path, '/')[1] == '.')
        return error_set(err, ERR_INVALID,
                         "--registration '%s' begins with '.': kubelet looks at no such socket",
                         path);
    return 0;
}

static int get_info(void *ctx, struct csi_call *call, struct csi_registration_info *ret,
                    struct error *err)
{
    static const char *const versions[] = { "1.0.0" }; /* CSI's, as the registrar says it */
    struct registration *r = ctx;

    *ret = (struct csi_registration_info){ .type = "CSIPlugin",
                                           .name = r->driver_name,
                                           .endpoint = r->endpoint,
                                           .versions = { versions, ARRAY_SIZE(versions) } };
    (void)atomic_fetch_add(&r->asked, 1);
    return 0;
}

static void accepted(struct registration *r)
{
    (void)atomic_fetch_add(&r->accepted, 1);
    atomic_store(&r->accepted_once, true);
    atomic_store(&r->registered, true);
    log_info("kubelet registered the driver", KV("driver", r->driver_name),
             KV("endpoint", r->endpoint));
}

static void refused(struct registration *r, const char *why)
{
    bool first = !atomic_load(&r->accepted_once);

    (void)atomic_fetch_add(&r->refusals, 1);
    atomic_store(&r->registered, false);
    log_error("kubelet refused to register the driver", KV("driver", r->driver_name),
              KV("endpoint", r->endpoint), KV("error", why),
              KV("then", first ? "this process ends" : "kubelet tries again"));
    if (!first)
        return;
    atomic_store(&r->refused, true);
    r->end();
}

static int notify(void *ctx, struct csi_call *call, const struct csi_registration_status *status,
                  struct error *err)
{
    FAULT_POINT("node:registration:notified");
    if (status->registered)
        accepted(ctx);
    else
        refused(ctx, status->error);
    return 0;
}

const struct csi_registration_ops registration_ops = { .get_info = get_info, .notify = notify };
