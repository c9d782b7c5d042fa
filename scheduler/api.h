/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api.h: the HTTP API without HTTP: a request as values in, a reply out. routes.c has the table of
 * paths, api_cloud.c and api_admin.c what is behind them. Nothing blocks: what takes longer is an
 * operation, which a request may wait for. docs/scheduler.md and openapi.json describe it.
 */
#ifndef COFFER_SCHEDULER_API_H
#define COFFER_SCHEDULER_API_H

#include "common/base.h"
#include "scheduler/body.h"
#include "scheduler/reply.h"
#include "scheduler/scheduler.h"

#define TARGET_MAX 512u /* characters of path and query */

enum api_door { DOOR_PUBLIC, DOOR_ADMIN };

struct api_request { /* borrowed */
    enum api_door door;
    const char *method;
    const char *target;       /* path and query, as they came */
    const char *content_type; /* NULL: none; likewise */
    const char *proof;
    struct body body;
};

/* One request on its way: the handlers' view. */
struct api_call {
    struct scheduler *s;
    const struct api_request *request;
    struct reply *reply;
    struct waiter *waiter; /* to be given to an operation; its `op` is then set */
    bool waits;            /* it was: the reply is the operation's end's, on its thread, by now */
    char path[TARGET_MAX + 1];
    char name[DEVICE_NAME_LEN + 1]; /* of the path: a device, or a cloud's id (admin) */
    bool number;                    /* ?status=number */
};

struct api_route {
    enum api_door door;
    const char *method;
    const char *path; /* "{name}", "{id}": what api_call.name gets */
    bool body;        /* JSON */
    bool proof;       /* of the device in the path */
    bool query;       /* ?status= */
    /* 0: the reply is there, or the waiter was given away. */
    int (*handle)(struct api_call *c, struct error *err);
};
extern const struct api_route api_routes[];
extern const size_t api_n_routes;

/* Fills the reply; false: the waiter was given to an operation, and `api_end` makes the reply when
 * it has ended. */
bool api_handle(struct scheduler *s, const struct api_request *q, struct reply *r,
                struct waiter *w);
/* name: of the device that asked. err NULL: the operation went well. The caller holds no lock. */
void api_end(struct scheduler *s, const char *name, const struct error *err, struct reply *r);

/* The device in a target that begins with "/v1/clouds/NAME"; "" when there is none. */
void api_device_of(const char *target, char name[DEVICE_NAME_LEN + 1]);

/* ---- handlers ---- */
int api_find(struct api_call *c, struct error *err);
int api_challenge(struct api_call *c, struct error *err);
int api_deploy(struct api_call *c, struct error *err);
int api_mount(struct api_call *c, struct error *err);
int api_lock(struct api_call *c, struct error *err);
int api_delete(struct api_call *c, struct error *err);
int api_devices(struct api_call *c, struct error *err);
int api_add(struct api_call *c, struct error *err);
int api_remove(struct api_call *c, struct error *err);
int api_openapi(struct api_call *c, struct error *err);
int api_admin_clouds(struct api_call *c, struct error *err);
int api_admin_explain(struct api_call *c, struct error *err);
int api_admin_nodes(struct api_call *c, struct error *err);

#endif
