/* SPDX-License-Identifier: Apache-2.0 */
/* Events say why a pod isn't started, or a claim not bound: with the CSI driver's own code. */
#include "common/base.h"
#include "scheduler/driver_kubernetes.h"

#include "common/strbuf.h"

#include <ctype.h>

#define PAGE 50u

/* gRPC's codes as its Go library writes them; what isn't here may pass. */
static const struct code_row {
    const char *name;
    enum error_code code;
} codes[] = {
    { "InvalidArgument", ERR_INVALID },     { "FailedPrecondition", ERR_PRECONDITION },
    { "AlreadyExists", ERR_EXISTS },        { "ResourceExhausted", ERR_EXHAUSTED },
    { "PermissionDenied", ERR_PERMISSION }, { "DataLoss", ERR_DATA_LOSS },
    { "OutOfRange", ERR_OUT_OF_RANGE },     { "Unimplemented", ERR_UNIMPLEMENTED },
};

/* Reasons of events that are about a volume. */
static const char *const reasons[] = { "FailedMount", "FailedMapVolume", "FailedAttachVolume",
                                       "ProvisioningFailed" };

/* Kubelet's, of a CSIDriver without that mode; then nobody was asked. */
static const char NO_INLINE[] = "volume mode \"Ephemeral\" not supported";

static const char RPC_ERROR[] = "rpc error: code = ", DESC[] = " desc = ";

static bool about_a_volume(const char *reason)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        if (strcmp(reasons[i], reason) == 0)
            return true;
    }
    return false;
}

static enum error_code code_at(const char *text)
{
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        size_t len = strlen(codes[i].name);

        if (strncmp(text, codes[i].name, len) == 0 && !isalpha((unsigned char)text[len]))
            return codes[i].code;
    }
    return ERR_UNAVAILABLE;
}

void kube_trouble_parse(const char *reason, const char *message, struct kube_trouble *ret)
{
    const char *rpc = strstr(message, RPC_ERROR), *desc;

    if (!about_a_volume(reason)) {
        *ret = (struct kube_trouble){ .code = ERR_OK };
        return;
    }
    if (strstr(message, NO_INLINE) != NULL) {
        *ret = (struct kube_trouble){ .code = ERR_UNIMPLEMENTED,
                                      .text = "the cluster's CSIDriver doesn't have the mode "
                                              "Ephemeral, by which a node is asked" };
        return;
    }
    ret->code = rpc == NULL ? ERR_UNAVAILABLE : code_at(rpc + strlen(RPC_ERROR));
    desc = rpc == NULL ? NULL : strstr(rpc, DESC);
    (void)snprintf(ret->text, sizeof(ret->text), "%s",
                   desc != NULL ? desc + strlen(DESC) : message);
}

/* What won't pass wins over what may. */
static int look(void *ctx, json_t *item, struct error *err UNUSED)
{
    struct kube_trouble *worst = ctx, now;

    kube_trouble_parse(kube_text(item, "reason"), kube_text(item, "message"), &now);
    if (now.code == ERR_OK || (worst->code != ERR_OK && worst->code != ERR_UNAVAILABLE))
        return 0;
    *worst = now;
    return 0;
}

int kube_trouble(struct driver *d, const char *uid, uint64_t deadline, struct kube_trouble *ret,
                 struct error *err)
{
    struct kube_trouble worst = { .code = ERR_OK };
    char path[KUBE_PATH_MAX + 1];

    if (strspn(uid, "0123456789abcdefABCDEF-") != strlen(uid))
        return error_set(err, ERR_UNAVAILABLE, "the API server's object has no uid");
    (void)snprintf(path, sizeof(path),
                   "/api/v1/namespaces/%s/events?fieldSelector=involvedObject.uid%%3D%s",
                   d->o.name_space, uid);
    if (kube_list(d->api, path, PAGE, deadline, look, &worst, err) < 0)
        return -1;
    *ret = worst;
    return 0;
}
