/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/call.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/log.h"
#include "csi/stats.h"
#include "csi/status.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <stdatomic.h>

#define SPARE_MAX          32u /* slots kept for the next calls */
#define WAITING_PER_METHOD 2u

struct call_slot {
    struct csi_call call; /* first: the ops' view of it */
    struct calls *calls;
    struct call_source *source;
    struct call_slot *next; /* in the list of spare ones */
    struct cq_tag arrived, closed, replied;
    struct worker_job job;
    atomic_int refs;

    grpc_call *grpc;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_call_details details; /* only for methods that aren't registered */
    grpc_byte_buffer *payload, *reply;
    grpc_slice text;
    int core_cancelled;    /* written by the core until `closed` fires */
    atomic_bool cancelled; /* what other threads may read */
    atomic_bool answered; /* orders what the answerer wrote before the poller's end of the call: the
                           * core promises it too, but nothing that checks for races sees it */

    uint64_t started_us;
    struct request request;
};

static void request_call(struct calls *c, struct call_source *source);

/* ---- life ---- */

static bool is_cancelled(const struct csi_call *call)
{
    const struct call_slot *s = (const struct call_slot *)call;
    return atomic_load(&s->cancelled);
}

/* Request bytes may be secrets: they are overwritten in the core's buffer before it is given back.
 */
static void wipe_payload(grpc_byte_buffer *payload)
{
    grpc_byte_buffer_reader reader;
    grpc_slice *slice;
    if (payload == NULL || !grpc_byte_buffer_reader_init(&reader, payload))
        return;
    while (grpc_byte_buffer_reader_peek(&reader, &slice))
        explicit_bzero(GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
    grpc_byte_buffer_reader_destroy(&reader);
}

static void forget_call(struct call_slot *s)
{
    wipe_payload(s->payload);
    if (s->payload != NULL)
        grpc_byte_buffer_destroy(s->payload);
    if (s->reply != NULL)
        grpc_byte_buffer_destroy(s->reply);
    grpc_slice_unref(s->text);
    grpc_metadata_array_destroy(&s->metadata);
    grpc_call_details_destroy(&s->details);
    if (s->grpc != NULL)
        grpc_call_unref(s->grpc);
}

static void free_slot(struct call_slot *s)
{
    arena_free(s->call.arena);
    free(s);
}

/* Locked. */
static void keep_or_free(struct calls *c, struct call_slot *s)
{
    if (c->closing || c->n_spare >= SPARE_MAX) {
        free_slot(s);
        return;
    }
    if (s->call.arena != NULL)
        arena_reset(s->call.arena);
    s->next = c->spare;
    c->spare = s;
    c->n_spare++;
}

static void drop_ref(struct call_slot *s)
{
    if (atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    struct calls *c = s->calls;
    forget_call(s);
    pthread_mutex_lock(&c->lock);
    keep_or_free(c, s);
    c->in_flight--;
    bool starved = c->starved && !c->closing;
    if (starved)
        c->starved = false;
    for (size_t i = 0; starved && i < c->n_sources; i++)
        if (c->sources[i].waiting == 0)
            request_call(c, &c->sources[i]);
    pthread_mutex_unlock(&c->lock);
}

/* ---- reply ---- */

static grpc_byte_buffer *pack(const ProtobufCMessage *reply)
{
    size_t size = protobuf_c_message_get_packed_size(reply);
    grpc_slice slice = grpc_slice_malloc(size);
    protobuf_c_message_pack(reply, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

/* Sends reply (or err when NULL) and gives up the answerer's reference. */
static void answer(struct call_slot *s, const ProtobufCMessage *reply, const struct error *err)
{
    grpc_op ops[3];
    size_t n = 0;
    memset(ops, 0, sizeof(ops));
    ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (reply != NULL) {
        s->reply = pack(reply);
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = s->reply;
    }
    ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    if (reply == NULL) {
        char text[sizeof(err->msg)];
        s->text = grpc_slice_from_copied_string(status_text(err, text, sizeof(text)));
        ops[n].data.send_status_from_server.status = (grpc_status_code)status_from_error(err->code);
        ops[n].data.send_status_from_server.status_details = &s->text;
    }
    n++;
    grpc_call *call = s->grpc;
    atomic_store(&s->answered, true); /* from here on the slot belongs to the batch */
    grpc_call_error failed = grpc_call_start_batch(call, ops, n, &s->replied, NULL);
    if (failed == GRPC_CALL_OK)
        return;
    log_error("a reply was refused by gRPC", KV("text", grpc_call_error_to_string(failed)));
    grpc_call_cancel(s->grpc, NULL);
    drop_ref(s);
}

static const char *path_of(const struct call_slot *s)
{
    return s->source->method != NULL ? s->source->method->path : "unknown";
}

static void finish(struct call_slot *s, const ProtobufCMessage *reply, const struct error *err)
{
    bool quiet = s->source->method != NULL && s->source->method->on_poller;
    uint64_t us = clock_us() - s->started_us;
    csi_stats_end(s->source->method, err->code, us, &s->call.phases);
    dispatch_log(path_of(s), &s->request, reply, err, quiet, us / 1000, &s->call.phases);
    answer(s, reply, err);
}

static void run_op(struct call_slot *s)
{
    struct error err = ERROR_INIT;
    ProtobufCMessage *reply = NULL;
    if (s->source->method->run(s->calls->service, &s->call, s->request.decoded, &reply, &err) < 0) {
        if (err.code == ERR_OK)
            (void)error_set(&err, ERR_INTERNAL, "the call failed without saying why");
        reply = NULL;
    }
    if (!s->source->method->on_poller)
        FAULT_POINT("csi:call:done"); /* the work is done and the client will not hear of it */
    finish(s, reply, &err);
}

/* On a worker: a call that nobody waits for any more isn't begun. */
static void run_job(struct worker_job *job)
{
    struct call_slot *s =
        (struct call_slot *)(void *)((char *)job - offsetof(struct call_slot, job));
    struct error err = ERROR_INIT;
    if (deadline_left(s->call.deadline) == 0)
        (void)error_set(&err, ERR_DEADLINE,
                        "the deadline passed while the call waited for a worker");
    else if (atomic_load(&s->cancelled))
        (void)error_set(&err, ERR_CANCELED,
                        "the client gave up while the call waited for a worker");
    if (err.code != ERR_OK)
        finish(s, NULL, &err);
    else
        run_op(s);
}

/* ---- request ---- */

/* The request's bytes: in place when they came in one piece, else a copy in the arena. */
static int read_payload(struct call_slot *s, const void **ret, size_t *ret_len, struct error *err)
{
    grpc_byte_buffer_reader reader;
    grpc_slice *slice;
    if (s->payload == NULL)
        return error_set(err, ERR_INTERNAL, "the call carries no request message");
    size_t len = grpc_byte_buffer_length(s->payload), at = 0;
    if (!grpc_byte_buffer_reader_init(&reader, s->payload))
        return error_set(err, ERR_INTERNAL, "the request message can't be read");
    const void *data = "";
    char *copy = NULL;
    while (grpc_byte_buffer_reader_peek(&reader, &slice)) {
        size_t part = GRPC_SLICE_LENGTH(*slice);
        if (part == len) {
            data = GRPC_SLICE_START_PTR(*slice);
            break;
        }
        if (copy == NULL)
            data = copy = arena_alloc(s->call.arena, len);
        if (copy == NULL || part > len - at)
            break;
        memcpy(copy + at, GRPC_SLICE_START_PTR(*slice), part);
        at += part;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    if (data == NULL)
        return error_memory(err);
    *ret = data;
    *ret_len = len;
    return 0;
}

static int not_implemented(const struct call_slot *s, struct error *err)
{
    char name[128];
    size_t len = GRPC_SLICE_LENGTH(s->details.method);
    if (len >= sizeof(name))
        len = sizeof(name) - 1;
    memcpy(name, GRPC_SLICE_START_PTR(s->details.method), len);
    name[len] = '\0';
    return error_set(err, ERR_UNIMPLEMENTED, "method %s is not implemented", name);
}

static int prepare(struct call_slot *s, struct error *err)
{
    const void *data = NULL;
    size_t len = 0;
    if (s->source->method == NULL)
        return not_implemented(s, err);
    if (s->call.arena == NULL)
        s->call.arena = arena_new(CALL_MEMORY);
    if (s->call.arena == NULL)
        return error_memory(err);
    if (read_payload(s, &data, &len, err) < 0)
        return -1;
    return dispatch_decode(s->source->method, s->call.arena, data, len, &s->request, err);
}

static uint64_t deadline_of(gpr_timespec t)
{
    if (gpr_time_cmp(t, gpr_inf_future(t.clock_type)) == 0)
        return DEADLINE_NEVER;
    t = gpr_convert_clock_type(t, GPR_CLOCK_MONOTONIC);
    gpr_timespec left = gpr_time_sub(t, gpr_now(GPR_CLOCK_MONOTONIC));
    int64_t ms = left.tv_sec > INT32_MAX ? INT32_MAX : left.tv_sec * 1000 + left.tv_nsec / 1000000;
    return ms <= 0 ? clock_ms() : deadline_in((uint64_t)ms);
}

static void begin(struct call_slot *s)
{
    struct error err = ERROR_INIT;
    s->started_us = clock_us();
    csi_stats_begin();
    s->call.deadline = deadline_of(s->source->method != NULL ? s->deadline : s->details.deadline);
    if (prepare(s, &err) < 0)
        finish(s, NULL, &err);
    else if (s->source->method->on_poller)
        run_op(s);
    else if (workers_submit(s->calls->workers, &s->job, &err) < 0)
        finish(s, NULL, &err);
}

/* ---- events, all on the poller ---- */

static void on_closed(void *owner, bool ok)
{
    struct call_slot *s = owner;
    if (s->core_cancelled)
        atomic_store(&s->cancelled, true);
    drop_ref(s);
}

static void on_replied(void *owner, bool ok)
{
    struct call_slot *s = owner;
    (void)atomic_load(&s->answered);
    drop_ref(s);
}

static void watch_close(struct call_slot *s)
{
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &s->core_cancelled;
    if (grpc_call_start_batch(s->grpc, &op, 1, &s->closed, NULL) != GRPC_CALL_OK)
        drop_ref(s); /* it can't be cancelled, only finished */
}

static void on_arrived(void *owner, bool ok)
{
    struct call_slot *s = owner;
    struct calls *c = s->calls;
    pthread_mutex_lock(&c->lock);
    s->source->waiting--;
    if (!ok) { /* the server is shutting down: there is no call */
        s->grpc = NULL;
        forget_call(s);
        free_slot(s);
        pthread_mutex_unlock(&c->lock);
        return;
    }
    c->in_flight++;
    if (!c->closing && c->in_flight < CALLS_MAX)
        request_call(c, s->source);
    else
        c->starved = true;
    pthread_mutex_unlock(&c->lock);
    atomic_store(&s->refs, 2);
    watch_close(s);
    begin(s);
}

/* ---- slots in the core's hands ---- */

/* Locked. An empty slot; keeps a recycled one's arena. */
static struct call_slot *take_slot(struct calls *c, struct call_source *source)
{
    struct call_slot *s = c->spare;
    if (s != NULL) {
        c->spare = s->next;
        c->n_spare--;
    } else {
        s = malloc(sizeof(*s));
        if (s == NULL)
            return NULL;
        s->call.arena = NULL;
    }
    struct arena *arena = s->call.arena;
    memset(s, 0, sizeof(*s));
    s->call =
        (struct csi_call){ .arena = arena, .deadline = DEADLINE_NEVER, .cancelled = is_cancelled };
    s->calls = c;
    s->source = source;
    s->arrived = (struct cq_tag){ on_arrived, s };
    s->closed = (struct cq_tag){ on_closed, s };
    s->replied = (struct cq_tag){ on_replied, s };
    s->job.run = run_job;
    s->text = grpc_empty_slice();
    grpc_metadata_array_init(&s->metadata);
    grpc_call_details_init(&s->details);
    return s;
}

/* Locked. When it can't be done now, the end of another call tries again. */
static void request_call(struct calls *c, struct call_source *source)
{
    struct call_slot *s = take_slot(c, source);
    if (s == NULL) {
        c->starved = true;
        return;
    }
    grpc_call_error failed;
    if (source->method != NULL)
        failed = grpc_server_request_registered_call(c->server, source->handle, &s->grpc,
                                                     &s->deadline, &s->metadata, &s->payload, c->cq,
                                                     c->cq, &s->arrived);
    else
        failed = grpc_server_request_call(c->server, &s->grpc, &s->details, &s->metadata, c->cq,
                                          c->cq, &s->arrived);
    if (failed == GRPC_CALL_OK) {
        source->waiting++;
        return;
    }
    c->starved = true;
    s->grpc = NULL;
    forget_call(s);
    free_slot(s);
    log_error("gRPC refused a request for calls", KV("text", grpc_call_error_to_string(failed)));
}

void calls_init(struct calls *c, grpc_server *server, grpc_completion_queue *cq,
                const struct csi_service *service, struct workers *workers)
{
    memset(c, 0, sizeof(*c));
    c->server = server;
    c->cq = cq;
    c->service = service;
    c->workers = workers;
    pthread_mutex_init(&c->lock, NULL);
}

int calls_register(struct calls *c, struct error *err)
{
    for (size_t i = 0; i < csi_methods_len; i++) {
        const struct method *m = &csi_methods[i];
        if (!method_offered(m, c->service))
            continue;
        void *handle = grpc_server_register_method(c->server, m->path, NULL,
                                                   GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
        if (handle == NULL)
            return error_set(err, ERR_INTERNAL, "gRPC refused to register %s", m->path);
        c->sources[c->n_sources++] = (struct call_source){ .method = m, .handle = handle };
    }
    c->sources[c->n_sources++] = (struct call_source){ .method = NULL };
    return 0;
}

void calls_open(struct calls *c)
{
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n_sources; i++)
        for (unsigned k = 0; k < WAITING_PER_METHOD; k++)
            request_call(c, &c->sources[i]);
    pthread_mutex_unlock(&c->lock);
}

void calls_close(struct calls *c)
{
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    pthread_mutex_unlock(&c->lock);
}

void calls_release(struct calls *c)
{
    while (c->spare != NULL) {
        struct call_slot *s = c->spare;
        c->spare = s->next;
        free_slot(s);
    }
    pthread_mutex_destroy(&c->lock);
}
