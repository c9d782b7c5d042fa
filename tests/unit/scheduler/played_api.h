/* SPDX-License-Identifier: Apache-2.0 */
/*
 * played_api.h: a Kubernetes API server in memory, in the place of driver_kubernetes_api.c: objects
 * by their paths, and lists of nodes, pods and events. A test's `after` is what controllers
 * and nodes do when something was asked for. It keeps what changed something: " DELETE PATH".
 */
#ifndef COFFER_TESTS_UNIT_SCHEDULER_PLAYED_API_H
#define COFFER_TESTS_UNIT_SCHEDULER_PLAYED_API_H

#include "tests/support/unit.h"

#include "scheduler/driver_kubernetes_steps.h"

#define ID   "0123456789abcdef0123456789abcdef"
#define CORE "/api/v1/namespaces/clouds/"
#define APPS "/apis/apps/v1/namespaces/clouds/"

static struct played_api {
    json_t *objects; /* by path */
    json_t *nodes, *pods, *events;
    void (*after)(const char *method, const char *path);
    int uids;
    char calls[4096];
} api;

static struct scheduler_config played_config = {
    .url = "https://clouds.example/c/", .tenant = "clouds", .size = 10, .ready_path = "/"
};
static struct driver played = { .config = &played_config,
                                .o = { .name_space = "clouds",
                                       .driver_name_space = "coffer",
                                       .storage_class = "encrypted-client",
                                       .csi_driver = "csi.coffer.dev",
                                       .image = "vm:1" } };

static inline json_t *played_json(const char *text)
{
    json_t *value = NULL;

    assert_works(json_parse(text, strlen(text), "it", &value, &err));
    return value;
}

/* For cmocka's setup and teardown. */
static inline int played_begin(void **state UNUSED)
{
    api = (struct played_api){ .objects = json_object(),
                               .nodes = json_array(),
                               .pods = json_array(),
                               .events = json_array() };
    return 0;
}

static inline int played_end(void **state UNUSED)
{
    json_decref(api.objects);
    json_decref(api.nodes);
    json_decref(api.pods);
    json_decref(api.events);
    return 0;
}

/* text: JSON. */
static inline void played_put(const char *path, const char *text)
{
    assert_int_equal(json_object_set_new(api.objects, path, played_json(text)), 0);
}

static inline json_t *played_object(const char *path)
{
    return json_object_get(api.objects, path);
}

static inline const char *played_note(const char *key)
{
    const json_t *meta =
        json_object_get(played_object(CORE "persistentvolumeclaims/cloud-" ID), "metadata");

    return kube_text(json_object_get(meta, "annotations"), key);
}

/* ---- what the driver calls ---- */

const char *kube_text(const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    return text != NULL ? text : "";
}

int kube_api_new(const struct kube_api_options *o UNUSED, struct kube_api **ret, struct error *e)
{
    *ret = NULL;
    return error_set(e, ERR_INTERNAL, "there is one already");
}

void kube_api_free(struct kube_api *a UNUSED)
{
}

/* RFC 7396. */
static inline void played_merge(json_t *to, const json_t *changes)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)changes, key, value) {
        json_t *had = json_object_get(to, key);

        if (json_is_null(value))
            (void)json_object_del(to, key);
        else if (json_is_object(value) && json_is_object(had))
            played_merge(had, value);
        else
            assert_int_equal(json_object_set_new(to, key, json_deep_copy(value)), 0);
    }
}

static inline void played_post(const char *path, const json_t *body)
{
    json_t *made = json_deep_copy(body);
    char uid[16];

    (void)snprintf(uid, sizeof(uid), "%d", ++api.uids);
    assert_int_equal(
        json_object_set_new(json_object_get(made, "metadata"), "uid", json_string(uid)), 0);
    assert_int_equal(json_object_set_new(api.objects, path, made), 0);
}

static inline int played_write(const struct kube_request *r, const char *path, struct error *e)
{
    bool apply = r->content_type != NULL && strstr(r->content_type, "apply") != NULL;
    json_t *there = played_object(path);

    if (strcmp(r->method, "POST") == 0 && there != NULL)
        return error_set(e, ERR_EXISTS, "there is %s", path);
    if (strcmp(r->method, "POST") != 0 && there == NULL && !apply)
        return error_set(e, ERR_NOT_FOUND, "there is no %s", path);
    if (strcmp(r->method, "DELETE") == 0)
        (void)json_object_del(api.objects, path);
    else if (there != NULL)
        played_merge(there, r->body);
    else
        played_post(path, r->body);
    return 0;
}

int kube_call(struct kube_api *a UNUSED, const struct kube_request *r, json_t **ret,
              struct error *e)
{
    char path[KUBE_PATH_MAX + 128];
    int bare = (int)strcspn(r->path, "?");
    size_t len = strlen(api.calls);

    (void)snprintf(path, sizeof(path), "%.*s", bare, r->path);
    if (strcmp(r->method, "GET") == 0) {
        if (played_object(path) == NULL)
            return error_set(e, ERR_NOT_FOUND, "there is no %s", path);
        *ret = json_deep_copy(played_object(path));
        return 0;
    }
    if (strcmp(r->method, "POST") == 0)
        (void)snprintf(path + bare, sizeof(path) - (size_t)bare, "/%s",
                       kube_text(json_object_get(r->body, "metadata"), "name"));
    (void)snprintf(api.calls + len, sizeof(api.calls) - len, " %s %s", r->method, path);
    if (played_write(r, path, e) < 0)
        return -1;
    if (api.after != NULL)
        api.after(r->method, path);
    return 0;
}

static inline json_t *played_list(const char *path)
{
    const struct {
        const char *in;
        json_t *list;
    } lists[] = { { "/nodes?", api.nodes }, { "/pods?", api.pods }, { "/events?", api.events } };
    char query[KUBE_PATH_MAX + 2];

    (void)snprintf(query, sizeof(query), "%s?", path);
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        if (strstr(query, lists[i].in) != NULL)
            return json_copy(lists[i].list);
    }
    return json_array();
}

/* Of pods those that have the label which is asked for. */
int kube_list(struct kube_api *a UNUSED, const char *path, unsigned page UNUSED,
              uint64_t deadline UNUSED, kube_item_cb *cb, void *ctx, struct error *e)
{
    const char *label = strstr(path, "request") != NULL ? KUBE_ASKED : KUBE_LABEL;
    AUTO_JSON json_t *items = played_list(path);
    json_t *item;
    size_t i;

    json_array_foreach (items, i, item) {
        const json_t *labels = json_object_get(json_object_get(item, "metadata"), "labels");

        if ((strstr(path, "/pods?") == NULL || kube_text(labels, label)[0] != '\0') &&
            cb(ctx, item, e) < 0)
            return -1;
    }
    return 0;
}

#define PLAYED_TEST(f) cmocka_unit_test_setup_teardown(f, played_begin, played_end)

#endif
