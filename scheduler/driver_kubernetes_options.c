/* SPDX-License-Identifier: Apache-2.0 */
/* The object `kubernetes` of the scheduler's configuration. */
#include "common/base.h"
#include "scheduler/driver_kubernetes.h"

#include "common/strbuf.h"

#define DRIVER_NAME_SPACE "coffer"
#define CSI_DRIVER        "csi.coffer.dev"

static void check_api(struct json_reader *r, const struct kube_options *o)
{
    const char *host = o->api + strlen("https://");

    if (r->problem[0] != '\0')
        return;
    if (strncmp(o->api, "https://", strlen("https://")) != 0 || host[0] == '\0' ||
        strpbrk(host, "/?#@ \t\r\n") != NULL)
        json_problem(r, "field 'api' must be https://HOST:PORT, with nothing behind it");
    if (o->ca[0] != '/' || o->token_path[0] != '/')
        json_problem(r, "fields 'ca' and 'token_path' must be absolute paths");
}

/* RFC 1123: they become part of a request's path. */
static void check_name(struct json_reader *r, const char *key, const char *name, bool dots)
{
    const char *allowed =
        dots ? "abcdefghijklmnopqrstuvwxyz0123456789-." : "abcdefghijklmnopqrstuvwxyz0123456789-";

    if (r->problem[0] == '\0' && (name[0] == '\0' || strspn(name, allowed) != strlen(name)))
        json_problem(r, "field '%s' must be a name of a-z, 0-9 and '-'%s", key,
                     dots ? " and '.'" : "");
}

static bool texts_only(const json_t *values)
{
    const json_t *value;
    const char *key;
    size_t i;

    json_array_foreach (values, i, value) {
        if (!json_is_string(value))
            return false;
    }
    json_object_foreach ((json_t *)(uintptr_t)values, key, value) {
        if (!json_is_string(value))
            return false;
    }
    return true;
}

/* What ingress-nginx reads: the path is taken off before the VM sees it. */
static json_t *rewrite_annotations(void)
{
    return json_pack("{s:s, s:s}", "nginx.ingress.kubernetes.io/use-regex", "true",
                     "nginx.ingress.kubernetes.io/rewrite-target", "/$1");
}

static void read_lists(struct json_reader *r, struct kube_options *o)
{
    json_t *command = json_get_any_opt(r, "command");
    json_t *annotations = json_get_object_opt(r, "ingress_annotations");

    if (command != NULL && (json_array_size(command) == 0 || !texts_only(command)))
        json_problem(r, "field 'command' must be an array of texts");
    if (annotations != NULL && !texts_only(annotations))
        json_problem(r, "field 'ingress_annotations' must be an object of texts");
    o->command = json_incref(command);
    o->annotations = annotations != NULL ? json_incref(annotations) : rewrite_annotations();
}

/* The path of the URL under which clouds are found (config.h), which ends in "/". */
static void read_prefix(struct json_reader *r, const struct scheduler_config *config,
                        struct kube_options *o)
{
    const char *host = strstr(config->url, "://");
    const char *path = host == NULL ? NULL : strchr(host + 3, '/');

    if (path == NULL || str_copy(o->path_prefix, sizeof(o->path_prefix), path) < 0 ||
        strpbrk(path, "()[]{}*+?|\\^$\"") != NULL)
        json_problem(r, "the field 'url' beside it has no path that an Ingress can have");
}

int kube_options_read(json_t *options, const struct scheduler_config *config,
                      struct kube_options *ret, struct error *err)
{
    struct json_reader r = json_reader_of(options, "kubernetes");

    memcpy(ret->driver_name_space, DRIVER_NAME_SPACE, sizeof(DRIVER_NAME_SPACE));
    memcpy(ret->csi_driver, CSI_DRIVER, sizeof(CSI_DRIVER));
    json_get_string(&r, "api", ret->api, sizeof(ret->api));
    json_get_string(&r, "ca", ret->ca, sizeof(ret->ca));
    json_get_string(&r, "token_path", ret->token_path, sizeof(ret->token_path));
    json_get_string(&r, "namespace", ret->name_space, sizeof(ret->name_space));
    (void)json_get_string_opt(&r, "driver_namespace", ret->driver_name_space,
                              sizeof(ret->driver_name_space));
    json_get_string(&r, "storage_class", ret->storage_class, sizeof(ret->storage_class));
    (void)json_get_string_opt(&r, "csi_driver", ret->csi_driver, sizeof(ret->csi_driver));
    json_get_string(&r, "image", ret->image, sizeof(ret->image));
    json_get_string(&r, "ingress_host", ret->ingress_host, sizeof(ret->ingress_host));
    (void)json_get_string_opt(&r, "ingress_class", ret->ingress_class, sizeof(ret->ingress_class));
    read_lists(&r, ret);
    check_api(&r, ret);
    check_name(&r, "namespace", ret->name_space, false);
    check_name(&r, "driver_namespace", ret->driver_name_space, false);
    check_name(&r, "storage_class", ret->storage_class, true);
    check_name(&r, "csi_driver", ret->csi_driver, true);
    check_name(&r, "ingress_host", ret->ingress_host, true);
    if (ret->ingress_class[0] != '\0')
        check_name(&r, "ingress_class", ret->ingress_class, true);
    read_prefix(&r, config, ret);
    if (r.problem[0] == '\0' && strcmp(config->tenant, ret->name_space) != 0)
        json_problem(&r, "field 'namespace' must be the field 'tenant' beside it: a claim's "
                         "namespace is its volume's tenant");
    return json_reader_done(&r, err);
}

void kube_options_release(struct kube_options *o)
{
    json_decref(o->command);
    json_decref(o->annotations);
    *o = (struct kube_options){ .command = NULL };
}
