/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/client.h"

#include "common/strbuf.h"
#include "csi/client_json.h"
#include "csi/endpoint.h"
#include "csi/status.h"

#include "coffer_admin.pb-c.h"
#include "csi.pb-c.h"
#include "plugin_registration.pb-c.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <pthread.h>

#define MESSAGE_MAX MIB(16) /* sent; the server refuses more than 4 MiB */

struct csi_client {
    grpc_channel *channel;
};

/* ---- methods ---- */

static const ProtobufCServiceDescriptor *const services[] = {
    &csi__v1__identity__descriptor,      &csi__v1__controller__descriptor,
    &csi__v1__node__descriptor,          &csi__v1__group_controller__descriptor,
    &coffer__v1__node_admin__descriptor, &pluginregistration__registration__descriptor,
};

/* Fills path with "/csi.v1.Node/NodeGetInfo". */
static const ProtobufCMethodDescriptor *find_method(const char *name, struct strbuf *path)
{
    const char *slash = strrchr(name, '/');
    size_t service_len = slash != NULL ? (size_t)(slash - name) : 0;
    for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
        const ProtobufCServiceDescriptor *s = services[i];
        if (slash != NULL &&
            (strlen(s->name) != service_len || strncmp(s->name, name, service_len) != 0))
            continue;
        const ProtobufCMethodDescriptor *m =
            protobuf_c_service_descriptor_get_method_by_name(s, slash != NULL ? slash + 1 : name);
        if (m == NULL)
            continue;
        strbuf_addf(path, "/%s/%s", s->name, m->name);
        return m;
    }
    return NULL;
}

/* ---- one call ---- */

struct unary {
    grpc_completion_queue *cq;
    grpc_call *call;
    grpc_slice sent; /* the request's bytes: request's too */
    grpc_byte_buffer *request, *reply;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice text;
};

static void unary_init(struct unary *u, struct csi_client *c, const char *path,
                       const struct strbuf *body, uint64_t timeout_ms)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (timeout_ms > 0)
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                gpr_time_from_millis((int64_t)timeout_ms, GPR_TIMESPAN));
    memset(u, 0, sizeof(*u));
    grpc_metadata_array_init(&u->initial);
    grpc_metadata_array_init(&u->trailing);
    u->text = grpc_empty_slice();
    u->cq = grpc_completion_queue_create_for_pluck(NULL);
    grpc_slice method = grpc_slice_from_copied_string(path);
    u->call = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, u->cq, method,
                                       NULL, deadline, NULL);
    grpc_slice_unref(method);
    u->sent = grpc_slice_from_copied_buffer(strbuf_text(body), body->len);
    u->request = grpc_raw_byte_buffer_create(&u->sent, 1);
}

/* A request may carry secrets. The transport sends these very bytes: of a call that was given up
 * it may send what is no message any more, to nobody. */
static void wipe_request(struct unary *u)
{
    explicit_bzero(GRPC_SLICE_START_PTR(u->sent), GRPC_SLICE_LENGTH(u->sent));
    grpc_slice_unref(u->sent);
}

static void unary_release(struct unary *u)
{
    grpc_call_unref(u->call);
    wipe_request(u);
    grpc_byte_buffer_destroy(u->request);
    if (u->reply != NULL)
        grpc_byte_buffer_destroy(u->reply);
    grpc_metadata_array_destroy(&u->initial);
    grpc_metadata_array_destroy(&u->trailing);
    grpc_slice_unref(u->text);
    grpc_completion_queue_shutdown(u->cq);
    grpc_completion_queue_destroy(u->cq);
}

static int unary_run(struct unary *u, struct error *err)
{
    grpc_op ops[6];
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = u->request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &u->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &u->reply;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &u->trailing;
    ops[5].data.recv_status_on_client.status = &u->status;
    ops[5].data.recv_status_on_client.status_details = &u->text;
    grpc_call_error failed = grpc_call_start_batch(u->call, ops, ARRAY_SIZE(ops), u, NULL);
    if (failed != GRPC_CALL_OK)
        return error_set(err, ERR_INTERNAL, "gRPC refused the call: %s",
                         grpc_call_error_to_string(failed));
    (void)grpc_completion_queue_pluck(u->cq, u, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (u->status == GRPC_STATUS_OK)
        return 0;
    return error_set(err, status_to_error((int)u->status), "%.*s", (int)GRPC_SLICE_LENGTH(u->text),
                     (const char *)GRPC_SLICE_START_PTR(u->text));
}

static int read_reply(const struct unary *u, const ProtobufCMessageDescriptor *desc, json_t **ret,
                      struct error *err)
{
    grpc_byte_buffer_reader reader;
    if (u->reply == NULL || !grpc_byte_buffer_reader_init(&reader, u->reply))
        return error_set(err, ERR_INTERNAL, "the server sent no reply message");
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    int rc = wire_to_json(desc, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), ret, err);
    grpc_slice_unref(all);
    return rc;
}

/* ---- public ---- */

static void init_grpc(void)
{
    (void)unsetenv("GRPC_TRACE"); /* its traces print message bytes */
    (void)unsetenv("GRPC_VERBOSITY");
    grpc_init(); /* never shut down here: that can take ten seconds; the process's end does it */
}

void csi_client_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, init_grpc);
}

int csi_client_open(const char *endpoint, struct csi_client **ret, struct error *err)
{
    struct endpoint e;
    if (endpoint_parse(endpoint, &e, err) < 0)
        return -1;
    struct csi_client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return error_memory(err);
    csi_client_init();
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    c->channel = grpc_channel_create(e.target, plain, NULL);
    grpc_channel_credentials_release(plain);
    *ret = c;
    return 0;
}

/* The method, its path and the request's bytes. */
static int encode(const char *method, json_t *request, const ProtobufCMethodDescriptor **ret,
                  struct strbuf *path, struct strbuf *body, struct error *err)
{
    const ProtobufCMethodDescriptor *m = find_method(method, path);
    if (m == NULL)
        return error_set(err, ERR_INVALID, "no method is called '%s'", method);
    if (request != NULL && json_to_wire(m->input, request, body, err) < 0)
        return -1;
    *ret = m;
    return 0;
}

int csi_client_check(const char *method, json_t *request, struct error *err)
{
    AUTO_STRBUF struct strbuf path = STRBUF_INIT(256);
    AUTO_STRBUF struct strbuf body = STRBUF_WIPED_INIT(MESSAGE_MAX);
    const ProtobufCMethodDescriptor *m;
    return encode(method, request, &m, &path, &body, err);
}

int csi_client_request(struct csi_client *c, const char *method, json_t *request,
                       uint64_t timeout_ms, json_t **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf path = STRBUF_INIT(256);
    AUTO_STRBUF struct strbuf body = STRBUF_WIPED_INIT(MESSAGE_MAX);
    const ProtobufCMethodDescriptor *m;
    if (encode(method, request, &m, &path, &body, err) < 0)
        return -1;
    struct unary u;
    unary_init(&u, c, strbuf_text(&path), &body, timeout_ms);
    strbuf_release(&body); /* the call may last */
    int rc = unary_run(&u, err);
    if (rc == 0)
        rc = read_reply(&u, m->output, ret, err);
    unary_release(&u);
    return rc;
}

void csi_client_free(struct csi_client *c)
{
    if (c == NULL)
        return;
    grpc_channel_destroy(c->channel);
    free(c);
}

int csi_client_call(const char *endpoint, const char *method, json_t *request, uint64_t timeout_ms,
                    json_t **ret, struct error *err)
{
    AUTO_CSI_CLIENT struct csi_client *c = NULL;
    if (csi_client_open(endpoint, &c, err) < 0)
        return -1;
    return csi_client_request(c, method, request, timeout_ms, ret, err);
}
