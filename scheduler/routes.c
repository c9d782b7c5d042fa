/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c: which path is what, and what every request is asked for before its handler. */
#include "common/base.h"
#include "scheduler/api.h"

#include "common/strbuf.h"

#define CLOUD "/v1/clouds/{name}"

const struct api_route api_routes[] = {
    { DOOR_PUBLIC, "GET", CLOUD, false, false, true, api_find },
    { DOOR_PUBLIC, "DELETE", CLOUD, false, true, false, api_delete },
    { DOOR_PUBLIC, "POST", CLOUD "/deploy", true, true, false, api_deploy },
    { DOOR_PUBLIC, "POST", CLOUD "/mount", true, true, false, api_mount },
    { DOOR_PUBLIC, "POST", CLOUD "/unlock", true, true, false, api_mount },
    { DOOR_PUBLIC, "POST", CLOUD "/lock", true, true, false, api_lock },
    { DOOR_PUBLIC, "POST", CLOUD "/recipients", true, true, false, api_add },
    { DOOR_PUBLIC, "POST", CLOUD "/recipients/list", true, true, false, api_devices },
    { DOOR_PUBLIC, "POST", CLOUD "/recipients/remove", true, true, false, api_remove },
    { DOOR_PUBLIC, "POST", "/v1/challenges", true, false, false, api_challenge },
    { DOOR_PUBLIC, "GET", "/v1/openapi.json", false, false, false, api_openapi },
    { DOOR_ADMIN, "GET", "/admin/clouds", false, false, false, api_admin_clouds },
    { DOOR_ADMIN, "GET", "/admin/clouds/{id}/explain", false, false, false, api_admin_explain },
    { DOOR_ADMIN, "GET", "/admin/nodes", false, false, false, api_admin_nodes },
};
const size_t api_n_routes = ARRAY_SIZE(api_routes);

/* ---- paths ---- */

/* Whether the path is of that pattern; what stands for {…} goes to `name`, whole or cut. */
static bool matches(const char *pattern, const char *path, char *name, size_t size)
{
    const char *open = strchr(pattern, '{');
    size_t before = open != NULL ? (size_t)(open - pattern) : 0, len;
    const char *after;

    if (open == NULL)
        return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, before) != 0)
        return false;
    after = strchr(open, '}') + 1;
    len = strcspn(path + before, "/");
    if (len == 0 || strcmp(path + before + len, after) != 0)
        return false;
    (void)snprintf(name, size, "%.*s", (int)len, path + before);
    return true;
}

static const struct api_route *find_route(struct api_call *c, char *name, size_t size)
{
    AUTO_STRBUF struct strbuf methods = STRBUF_INIT(sizeof(c->reply->allow) - 1);

    for (size_t i = 0; i < api_n_routes; i++) {
        const struct api_route *r = &api_routes[i];

        if (r->door != c->request->door || !matches(r->path, c->path, name, size))
            continue;
        if (strcmp(r->method, c->request->method) == 0)
            return r;
        strbuf_addf(&methods, "%s%s", methods.len > 0 ? ", " : "", r->method);
    }
    if (methods.len == 0) {
        reply_refuse(c->reply, 404, "there is no such path");
        return NULL;
    }
    reply_refuse(c->reply, 405, "this path takes %s alone", strbuf_text(&methods));
    memcpy(c->reply->allow, strbuf_text(&methods), methods.len + 1);
    return NULL;
}

void api_device_of(const char *target, char name[DEVICE_NAME_LEN + 1])
{
    static const char prefix[] = "/v1/clouds/";
    const char *at = target + sizeof(prefix) - 1;

    name[0] = '\0';
    if (strncmp(target, prefix, sizeof(prefix) - 1) == 0 && strcspn(at, "/?") == DEVICE_NAME_LEN) {
        memcpy(name, at, DEVICE_NAME_LEN);
        name[DEVICE_NAME_LEN] = '\0';
    }
}

/* ---- checks ---- */

/* The path's variable is a device's name, for admin a cloud's id. */
static int check_name(struct api_call *c, const struct api_route *route, const char *name,
                      struct error *err)
{
    if (strchr(route->path, '{') == NULL)
        return 0;
    if (route->door == DOOR_PUBLIC && !device_name_valid(name))
        return error_set(err, ERR_INVALID,
                         "the device's name in the path must be 64 lower-case hex digits");
    if (route->door == DOOR_ADMIN && !cloud_id_valid(name))
        return error_set(err, ERR_INVALID,
                         "the cloud's id in the path must be 32 lower-case hex digits");
    return str_copy(c->name, sizeof(c->name), name) < 0
               ? error_set(err, ERR_INVALID, "the path is too long")
               : 0;
}

static int check_query(struct api_call *c, const struct api_route *route, const char *query,
                       struct error *err)
{
    if (query == NULL)
        return 0;
    if (!route->query)
        return error_set(err, ERR_INVALID, "this path takes no query");
    if (strcmp(query, "status=number") == 0)
        c->number = true;
    else if (strcmp(query, "status=string") != 0)
        return error_set(err, ERR_INVALID, "the query must be status=number or status=string");
    return 0;
}

static bool is_json(const char *type)
{
    static const char json[] = "application/json";

    return type != NULL && strncasecmp(type, json, sizeof(json) - 1) == 0 &&
           strchr("; \t", type[sizeof(json) - 1]) != NULL;
}

static int check_body(const struct api_call *c, const struct api_route *route, struct error *err)
{
    if (!route->body && c->request->body.len > 0)
        return error_set(err, ERR_INVALID, "this request takes no body");
    return 0;
}

static int check_proof(struct api_call *c, const struct api_route *route, struct error *err)
{
    const struct api_request *q = c->request;
    const struct proof_request proved = {
        .method = q->method, .path = c->path, .body = q->body.data, .body_len = q->body.len
    };
    char name[DEVICE_NAME_LEN + 1];

    if (!route->proof)
        return 0;
    if (proofs_check(c->s->proofs, q->proof, &proved, name, err) < 0) {
        atomic_fetch_add(&c->s->counters.proofs_refused, 1);
        return -1;
    }
    if (strcmp(name, c->name) != 0)
        return error_set(err, ERR_PERMISSION, "the proof is of another device than the path's");
    return 0;
}

/* ---- a request ---- */

static int handle(struct api_call *c, const struct api_route *route, const char *name,
                  const char *query, struct error *err)
{
    if (check_name(c, route, name, err) < 0 || check_query(c, route, query, err) < 0 ||
        check_body(c, route, err) < 0)
        return -1;
    if (route->body && !is_json(c->request->content_type)) {
        reply_refuse(c->reply, 415, "the header Content-Type must be application/json");
        return 0;
    }
    if (check_proof(c, route, err) < 0)
        return -1;
    return route->handle(c, err);
}

bool api_handle(struct scheduler *s, const struct api_request *q, struct reply *r, struct waiter *w)
{
    struct api_call c = { .s = s, .request = q, .reply = r, .waiter = w };
    char name[TARGET_MAX + 1] = "";
    const char *query = strchr(q->target, '?');
    size_t len = query != NULL ? (size_t)(query - q->target) : strlen(q->target);
    const struct api_route *route;
    struct error err = ERROR_INIT;

    if (q->body.len > BODY_MAX) {
        reply_refuse(r, 413, "the request's body is longer than %u bytes", (unsigned)BODY_MAX);
        return true;
    }
    if (strlen(q->target) > TARGET_MAX) {
        reply_refuse(r, 404, "there is no such path");
        return true;
    }
    memcpy(c.path, q->target, len);
    route = find_route(&c, name, sizeof(name));
    if (route != NULL && handle(&c, route, name, query != NULL ? query + 1 : NULL, &err) < 0)
        reply_error(r, &err);
    return !c.waits;
}
