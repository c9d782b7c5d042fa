/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/ops.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/leak.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/wipe.h"
#include "keyd/ops_job.h"
#include "keyd/pipe.h"
#include "volume/context.h"
#include "volume/id.h"

struct op {
    bool always; /* answered whatever --allow says: it touches no key */
    bool audited;
    void (*run)(struct keyd_request *r); /* ends in end_ok or end_failed */
};

int ops_check_use(const char *use, struct error *err)
{
    for (size_t i = 0; i < KEYD_USE_COUNT; i++) {
        if (strcmp(keyd_use_names[i], use) == 0)
            return 0;
    }
    return error_set(err, ERR_INVALID, "'%s' is not a use of a key", use);
}

static int check_binding(const struct wire_request *r, struct error *err)
{
    struct volume_id id;
    if (!tenant_valid(r->tenant))
        return error_set(err, ERR_INVALID, "'%s' is not a tenant's name", r->tenant);
    if (volume_id_parse(r->volume_id, &id, err) < 0)
        return error_recode(err, ERR_INVALID);
    if (!uuid_valid(r->uuid))
        return error_set(err, ERR_INVALID, "'%s' is not a volume's uuid", r->uuid);
    return 0;
}

/* A little before the client gives up, so that it still hears why. */
static uint64_t deadline_of(const struct wire_request *r)
{
    uint64_t ms = r->deadline_ms, margin = ms / 10 < 200 ? ms / 10 : 200;
    return ms == UINT64_MAX ? DEADLINE_NEVER : deadline_in(ms - margin);
}

int ops_begin(struct keyd_request *q, const struct kms **ret, struct error *err)
{
    const struct wire_request *r = &q->wire;
    if (r->deadline_ms == 0)
        return error_set(err, ERR_DEADLINE, "the request came after its deadline");
    if (kms_set_find(q->keyd->kms, r->kms, ret, err) < 0)
        return -1;
    q->binding = (struct keyd_binding){
        .kms = r->kms, .tenant = r->tenant, .volume_id = r->volume_id, .uuid = r->uuid
    };
    q->job = (struct kms_job){ .err = ERROR_INIT };
    q->job.call = (struct kms_call){
        .binding = &q->binding, .context = q->context, .token = r->token, .deadline = deadline_of(r)
    };
    return 0;
}

int ops_prepare(struct keyd_request *q, const struct kms **ret, struct error *err)
{
    const struct wire_request *r = &q->wire;
    if (ops_begin(q, ret, err) < 0 || check_binding(r, err) < 0)
        return -1;
    context_compute(r->tenant, r->volume_id, r->uuid, q->context);
    return 0;
}

struct keyd_request *ops_request_of(struct kms_job *job)
{
    return (struct keyd_request *)((char *)job - offsetof(struct keyd_request, job));
}

static void on_minted(struct kms_job *job)
{
    struct keyd_request *q = ops_request_of(job);
    struct wire_reply *ret = &q->reply;
    struct error err = ERROR_INIT;
    if (job->err.code != ERR_OK) {
        ops_end_failed(q, &job->err);
        return;
    }
    FAULT_POINT("keyd:mint:before-reply");
    ret->key_version = job->wrapped.version;
    if (str_copy(ret->kind, sizeof(ret->kind), job->wrapped.kind) == 0 &&
        str_copy(ret->ciphertext, sizeof(ret->ciphertext), job->wrapped.ciphertext) == 0) {
        ops_end_ok(q);
        return;
    }
    (void)error_set(&err, ERR_INTERNAL, "the wrapped key does not fit into the reply");
    ops_end_failed(q, &err);
}

static void run_mint(struct keyd_request *q)
{
    struct error err = ERROR_INIT;
    const struct kms *kms;
    if (ops_prepare(q, &kms, &err) < 0) {
        ops_end_failed(q, &err);
        return;
    }
    q->job.done = on_minted;
    kms_mint(kms, &q->job);
}

static int key_of(const struct wire_request *r, struct keyd_wrapped *ret, struct error *err)
{
    ret->version = r->key_version;
    if (str_copy(ret->kind, sizeof(ret->kind), r->kind) < 0 ||
        str_copy(ret->ciphertext, sizeof(ret->ciphertext), r->ciphertext) < 0)
        return error_set(err, ERR_INVALID, "the wrapped key is too long");
    return 0;
}

/* `verify` asks whether the caller's token opens the key, and has no use for it. */
int ops_hand_over(const struct keyd_request *q, const struct secret *plain, struct error *err)
{
    if (strcmp(q->wire.use, keyd_use_names[KEYD_USE_VERIFY]) == 0)
        return 0;
    LEAK("keyd:storage-key", secret_data(plain), secret_len(plain));
    FAULT_POINT("keyd:unwrap:before-write");
    if (key_pipe_write(q->descriptor, plain, err) < 0)
        return -1;
    FAULT_POINT("keyd:unwrap:after-write");
    return 0;
}

static void on_unwrapped(struct kms_job *job)
{
    struct keyd_request *q = ops_request_of(job);
    struct error err = job->err;
    if (err.code == ERR_OK && ops_hand_over(q, job->plain, &err) == 0) {
        secret_free(job->plain);
        ops_end_ok(q);
        return;
    }
    secret_free(job->plain);
    ops_end_failed(q, &err);
}

static void run_unwrap(struct keyd_request *q)
{
    struct error err = ERROR_INIT;
    const struct kms *kms;
    if (ops_prepare(q, &kms, &err) < 0 || ops_check_use(q->wire.use, &err) < 0 ||
        key_of(&q->wire, &q->key, &err) < 0 || key_pipe_check(q->descriptor, &err) < 0) {
        ops_end_failed(q, &err);
        return;
    }
    q->job.key = &q->key;
    q->job.done = on_unwrapped;
    kms_unwrap(kms, &q->job);
}

/* ---- WRAP_FOR ---- */

/* Under the name that the caller computes, it is this key: only canonical DER has one name. */
static int recipient_of(const struct wire_request *r, struct public_key **ret, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    char name[FINGERPRINT_LEN + 1];

    if (public_key_parse(r->public_key.data, r->public_key.len, &k, err) < 0)
        return -1;
    recipient_fingerprint((const unsigned char *)r->public_key.data, r->public_key.len, name);
    if (strcmp(name, public_key_fingerprint(k)) != 0)
        return error_set(err, ERR_INVALID, "a recipient's public key must be canonical DER");
    *ret = TAKE_PTR(k);
    return 0;
}

static int wrap_for(struct keyd_request *q, const struct secret *plain, struct error *err)
{
    const struct wrap_algorithm *a = wrap_algorithm(q->wire.algorithm);
    unsigned char info[CONTEXT_RECIPIENT_SIZE];

    context_recipient(q->context, info);
    LEAK("keyd:storage-key", secret_data(plain), secret_len(plain));
    return wrap_key(a, q->recipient, (struct bytes){ info, sizeof(info) }, plain, &q->wrapped, err);
}

static void on_unwrapped_for(struct kms_job *job)
{
    struct keyd_request *q = ops_request_of(job);
    struct error err = job->err;
    int r = err.code == ERR_OK ? wrap_for(q, job->plain, &err) : -1;

    secret_free(job->plain);
    public_key_free(q->recipient);
    q->reply.wrapped =
        (struct wire_view){ .data = (const char *)q->wrapped.data, .len = q->wrapped.len };
    if (r == 0)
        ops_end_ok(q);
    else
        ops_end_failed(q, &err);
}

/* What can be wrong with the recipient is said before the key is asked for. */
static int prepare_wrap_for(struct keyd_request *q, const struct kms **ret_kms, struct error *err)
{
    const struct wrap_algorithm *a = wrap_algorithm(q->wire.algorithm);

    if (ops_prepare(q, ret_kms, err) < 0 || key_of(&q->wire, &q->key, err) < 0)
        return -1;
    if (a == NULL)
        return error_set(err, ERR_INVALID, "'%s' is not an algorithm that wraps keys",
                         q->wire.algorithm);
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    if (recipient_of(&q->wire, &k, err) < 0)
        return -1;
    if (a->kind != public_key_kind(k))
        return error_set(err, ERR_INVALID, "%s doesn't take this kind of key", a->name);
    q->recipient = TAKE_PTR(k);
    return 0;
}

static void run_wrap_for(struct keyd_request *q)
{
    struct error err = ERROR_INIT;
    const struct kms *kms;
    if (prepare_wrap_for(q, &kms, &err) < 0) {
        ops_end_failed(q, &err);
        return;
    }
    q->job.key = &q->key;
    q->job.done = on_unwrapped_for;
    kms_unwrap(kms, &q->job);
}

/* ---- DESTROY, STATUS ---- */

static void on_destroyed(struct kms_job *job)
{
    struct keyd_request *q = ops_request_of(job);
    if (job->err.code == ERR_OK)
        ops_end_ok(q);
    else
        ops_end_failed(q, &job->err);
}

static void run_destroy(struct keyd_request *q)
{
    struct error err = ERROR_INIT;
    const struct kms *kms;
    if (ops_prepare(q, &kms, &err) < 0) {
        ops_end_failed(q, &err);
        return;
    }
    q->job.done = on_destroyed;
    kms_destroy(kms, &q->job);
}

static json_t *allowed_json(const struct keyd *k)
{
    json_t *list = json_array();
    for (uint16_t op = 0; op < WIRE_OP_LIMIT; op++) {
        if (k->allowed[op])
            (void)json_array_append_new(list,
                                        json_string(wire_message_name(wire_message_find(op))));
    }
    return list;
}

static json_t *one_kms_json(const struct kms *kms)
{
    const struct kms_driver *d = kms->driver;
    json_t *one =
        json_pack("{s:s, s:s, s:b}", "name", kms->name, "kind", d->kind, "insecure", d->insecure);
    if (d->status != NULL)
        (void)json_object_set_new(one, "service", d->status(kms->state));
    return one;
}

static json_t *kms_json(const struct kms_set *set)
{
    json_t *list = json_array();
    for (size_t i = 0; i < set->n; i++)
        (void)json_array_append_new(list, one_kms_json(&set->items[i]));
    return list;
}

static int status_text(struct keyd *k, struct error *err)
{
    json_watch(); /* a status that lacks something says something else */
    AUTO_JSON json_t *status = json_pack(
        "{s:s, s:i, s:b, s:o, s:o, s:I, s:o}", "version", COFFER_VERSION, "wire", (int)WIRE_VERSION,
        "insecure", kms_set_insecure(k->kms), "allow", allowed_json(k), "kms", kms_json(k->kms),
        "connections", (json_int_t)k->connections, "counters", counters_to_json(&k->counters));
    char *text = status == NULL || json_no_memory()
                     ? NULL
                     : json_text(status, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL)
        return error_memory(err);
    strbuf_clear(&k->text);
    strbuf_adds(&k->text, text);
    wipe_free(text);
    return strbuf_check(&k->text, "the status", err);
}

static void run_status(struct keyd_request *q)
{
    struct keyd *k = q->keyd;
    struct error err = ERROR_INIT;
    if (status_text(k, &err) < 0) {
        ops_end_failed(q, &err);
        return;
    }
    q->reply.text = (struct wire_view){ .data = strbuf_text(&k->text), .len = k->text.len };
    ops_end_ok(q);
}

static const struct op ops[WIRE_OP_LIMIT] = {
    [WIRE_MINT] = { .audited = true, .run = run_mint },
    [WIRE_UNWRAP] = { .audited = true, .run = run_unwrap },
    [WIRE_DESTROY] = { .audited = true, .run = run_destroy },
    [WIRE_WRAP_FOR] = { .audited = true, .run = run_wrap_for },
    [WIRE_UNWRAP_CLIENT] = { .audited = true, .run = ops_unwrap_client },
    [WIRE_SERVER_KEY] = { .run = ops_server_key },
    [WIRE_STATUS] = { .always = true, .run = run_status },
};

static void audit(const struct keyd_request *q, const struct error *err)
{
    const struct wire_request *r = &q->wire;
    log_audit(KV("op", wire_message_name(wire_message_find(r->op))), KV("use", r->use),
              KV("identity", record_identity(r->token.len > 0)), KV("tenant", r->tenant),
              KV("volume_id", r->volume_id), KV("fingerprint", r->fingerprint), KV("kms", r->kms),
              KV("peer_uid", q->peer), KV("result", error_code_name(err->code)),
              KV("reason", err->msg));
}

void ops_error_reply(uint16_t op, const struct error *err, struct wire_reply *ret)
{
    *ret = (struct wire_reply){ .op = op };
    /* Both arrays of the reply are as long as what goes in, but for a long message's end. */
    (void)!str_copy(ret->code, sizeof(ret->code), error_code_name(err->code));
    (void)snprintf(ret->message, sizeof(ret->message), "%.511s", err->msg);
}

/* What libcrypto once had no memory to load it never has again (recipient/libcrypto.h), and TLS is
 * libcrypto's too. So, when something fails after that, a new process is worth more than this one:
 * callers repeat, and whoever started us does so again. */
static void end_when_broken(struct keyd *k, const struct error *err)
{
    if (!wipe_explains(err))
        return;
    k->broken = true;
    event_loop_stop(k->loop);
}

static void end(struct keyd_request *q, const struct error *err)
{
    struct keyd *k = q->keyd;
    k->counters.requests[q->wire.op][err->code]++;
    if (ops[q->wire.op].audited)
        audit(q, err);
    end_when_broken(k, err);
    q->done(q);
}

void ops_end_ok(struct keyd_request *q)
{
    const struct error none = ERROR_INIT;
    end(q, &none);
}

void ops_end_failed(struct keyd_request *q, const struct error *err)
{
    ops_error_reply(q->wire.op, err, &q->reply);
    end(q, err);
}

void ops_start(struct keyd_request *q)
{
    const struct op *op = &ops[q->wire.op];
    struct error err = ERROR_INIT;
    q->reply = (struct wire_reply){ .op = q->wire.op, .code = WIRE_OK };
    const char *name = wire_message_name(wire_message_find(q->wire.op));
    if (!op->always && !q->keyd->allowed[q->wire.op])
        (void)error_set(&err, ERR_PERMISSION, "this coffer-keyd does not answer %s", name);
    else if (!op->always && !q->peer_may)
        (void)error_set(&err, ERR_PERMISSION, "uid %u may not ask this coffer-keyd for %s", q->peer,
                        name);
    if (err.code == ERR_OK)
        op->run(q);
    else
        ops_end_failed(q, &err);
}

static int allow_one(const char *name, bool ret[WIRE_OP_LIMIT], struct error *err)
{
    uint16_t op = WIRE_NONE;
    if (wire_message_by_name(name, &op) == NULL)
        return error_set(err, ERR_INVALID,
                         "'%s' is not an operation (MINT, UNWRAP, DESTROY, WRAP_FOR, "
                         "UNWRAP_CLIENT, SERVER_KEY, STATUS)",
                         name);
    ret[op] = true;
    return 0;
}

int ops_allow_parse(const char *list, bool ret[WIRE_OP_LIMIT], struct error *err)
{
    bool allowed[WIRE_OP_LIMIT] = { [WIRE_STATUS] = true };
    char name[32];
    for (const char *p = list;; p++) {
        size_t len = strcspn(p, ",");
        if (len >= sizeof(name))
            return error_set(err, ERR_INVALID, "'%s' is not a list of operations", list);
        memcpy(name, p, len);
        name[len] = '\0';
        if (allow_one(name, allowed, err) < 0)
            return -1;
        p += len;
        if (*p == '\0')
            break;
    }
    memcpy(ret, allowed, sizeof(allowed));
    return 0;
}
