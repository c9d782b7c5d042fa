/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/deadline.h"

#define MANAGER        "?fieldManager=coffer-scheduler"
#define PAUSE_FIRST_MS 100u
#define PAUSE_LONGEST  1000u
#define LOOK_MS        500u
#define REPLACEMENTS   10u

static bool is_secret(enum kube_kind kind)
{
    return kind == KUBE_SECRET_KEY || kind == KUBE_SECRET_SESSION || kind == KUBE_SECRET_REQUEST;
}

struct call {
    const char *method;
    enum kube_kind kind;
    const char *id;    /* NULL: the collection */
    const char *query; /* "" or from "?" on */
    const char *content_type;
    const json_t *body;
};

static int call(struct driver *d, const struct call *c, uint64_t deadline, json_t **ret,
                struct error *err)
{
    char path[KUBE_PATH_MAX + 1], whole[KUBE_PATH_MAX + 1];
    const struct kube_request r = { .method = c->method,
                                    .path = whole,
                                    .body = c->body,
                                    .content_type = c->content_type,
                                    .quiet = is_secret(c->kind),
                                    .deadline = deadline };

    if (kube_path(d, c->kind, c->id, path, err) < 0)
        return -1;
    if (snprintf(whole, sizeof(whole), "%s%s", path, c->query) >= (int)sizeof(whole))
        return error_set(err, ERR_INTERNAL, "a path of the API server is too long");
    return kube_call(d->api, &r, ret, err);
}

static int send(struct driver *d, const struct call *c, json_t *taken, uint64_t deadline,
                struct error *err)
{
    AUTO_JSON json_t *body = taken;
    struct call with = *c;

    if (body == NULL)
        return error_memory(err);
    with.body = body;
    return call(d, &with, deadline, NULL, err);
}

int kube_create(struct driver *d, enum kube_kind kind, json_t *obj, uint64_t deadline,
                struct error *err)
{
    const struct call c = { .method = "POST", .kind = kind, .query = MANAGER };

    return send(d, &c, obj, deadline, err);
}

int kube_apply(struct driver *d, enum kube_kind kind, const char *id, json_t *obj,
               uint64_t deadline, struct error *err)
{
    const struct call c = { .method = "PATCH",
                            .kind = kind,
                            .id = id,
                            .query = MANAGER "&force=true",
                            .content_type = "application/apply-patch+yaml" };

    return send(d, &c, obj, deadline, err);
}

int kube_patch(struct driver *d, enum kube_kind kind, const char *id, json_t *changes,
               uint64_t deadline, struct error *err)
{
    const struct call c = { .method = "PATCH",
                            .kind = kind,
                            .id = id,
                            .query = MANAGER,
                            .content_type = "application/merge-patch+json" };

    return send(d, &c, changes, deadline, err);
}

int kube_get(struct driver *d, enum kube_kind kind, const char *id, uint64_t deadline, json_t **ret,
             struct error *err)
{
    const struct call c = { .method = "GET", .kind = kind, .id = id, .query = "" };

    return call(d, &c, deadline, ret, err);
}

int kube_delete(struct driver *d, enum kube_kind kind, const char *id, uint64_t deadline,
                struct error *err)
{
    const struct call c = {
        .method = "DELETE", .kind = kind, .id = id, .query = "?propagationPolicy=Background"
    };
    struct error e = ERROR_INIT;

    if (call(d, &c, deadline, NULL, &e) < 0 && e.code != ERR_NOT_FOUND)
        return error_pass(err, &e);
    return 0;
}

int kube_replace_secret(struct driver *d, enum kube_kind kind, const char *id, json_t *obj,
                        uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *own = obj;
    struct error e = ERROR_INIT;

    for (unsigned n = 0; n < REPLACEMENTS; n++) {
        if (kube_delete(d, kind, id, deadline, err) < 0)
            return -1;
        if (kube_create(d, kind, json_incref(own), deadline, &e) == 0)
            return 0;
        if (e.code != ERR_EXISTS)
            return error_pass(err, &e);
    }
    (void)error_recode(&e, ERR_ABORTED);
    return error_pass(err, &e);
}

int kube_pause(unsigned *n, uint64_t deadline, const char *what, const char *why, struct error *err)
{
    uint64_t pause = (uint64_t)PAUSE_FIRST_MS * (*n + 1);

    if (pause > PAUSE_LONGEST)
        pause = PAUSE_LONGEST;
    if (pause + LOOK_MS >= deadline_left(deadline)) /* no time for another look */
        return error_set(err, ERR_DEADLINE, "%s%s%s", what, why[0] == '\0' ? "" : ": ", why);
    sleep_ms(pause);
    (*n)++;
    return 0;
}
