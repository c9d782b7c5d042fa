/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_kubernetes_api.h: requests to a Kubernetes API server, over http/, which a thread waits
 * for. Each thread that asks has a connection of its own while it does; they are kept. Thread-safe.
 *
 * The token is read from its file for each request: kubelet renews it there. It lives in memory
 * that is wiped, as bodies do, and is in no error's text. What can be repeated is, until the
 * deadline: no connection, a cut one, 429, 5xx. So a request may be carried out twice.
 */
#ifndef COFFER_SCHEDULER_DRIVER_KUBERNETES_API_H
#define COFFER_SCHEDULER_DRIVER_KUBERNETES_API_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/json.h"

#define KUBE_PATH_MAX 1024

struct kube_api; /* opaque */

struct kube_api_options {   /* copied */
    const char *url;        /* "https://host:port", nothing behind it */
    const char *ca_path;    /* PEM */
    const char *token_path; /* a bearer token, one line */
};

/* http_global_init was called. */
int kube_api_new(const struct kube_api_options *o, struct kube_api **ret,
                 struct error *err) MUST_CHECK;
void kube_api_free(struct kube_api *a); /* nobody asks any more */
DEFINE_AUTO(kube_api, kube_api_free)
#define AUTO_KUBE_API __attribute__((cleanup(cleanup_kube_api)))

struct kube_request { /* borrowed */
    const char *method;
    const char *path;         /* from "/api" on, with its query */
    const json_t *body;       /* NULL: none */
    const char *content_type; /* NULL: application/json */
    bool quiet;               /* the body is a secret: the server's sentence is not shown */
    uint64_t deadline;        /* clock_ms() value */
};

/* *ret: the answer, the caller's; ret may be NULL. ERR_NOT_FOUND 404; ERR_EXISTS there is one of
 * that name; ERR_ABORTED it was changed meanwhile, or a list's continuation is over; ERR_PERMISSION
 * 403; ERR_EXHAUSTED a quota; ERR_UNAVAILABLE no connection, or the server can't now; ERR_DEADLINE;
 * ERR_INTERNAL the server didn't take what we sent. */
int kube_call(struct kube_api *a, const struct kube_request *r, json_t **ret,
              struct error *err) MUST_CHECK;

/* Calls cb for each item of a collection, page by page; -1: it failed, and so does the list. path:
 * without limit and continue; page: items at a time, so that an answer stays below HTTP_BODY_MAX.
 * The item is borrowed. */
typedef int kube_item_cb(void *ctx, json_t *item, struct error *err);
int kube_list(struct kube_api *a, const char *path, unsigned page, uint64_t deadline,
              kube_item_cb *cb, void *ctx, struct error *err) MUST_CHECK;
/* Of an answer; "" when it isn't there, borrowed. */
const char *kube_text(const json_t *obj, const char *key);

#endif
