/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/ops.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/leak.h"
#include "common/log.h"
#include "common/parse.h"
#include "keyd/context.h"
#include "keyd/pipe.h"
#include "volume/id.h"

struct op {
    bool always; /* answered whatever --allow says: it touches no key */
    bool audited;
    int (*run)(struct keyd *k, const struct wire_request *request, int descriptor,
               struct wire_reply *ret, struct error *err);
};

static const char *const uses[] = { "stage", "expand", "rotate", "break-glass" };

static int check_use(const char *use, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(uses); i++) {
        if (strcmp(uses[i], use) == 0)
            return 0;
    }
    return error_set(err, ERR_INVALID, "'%s' is not a use of a key", use);
}

/* What both keyed ops need before a driver is asked. */
struct prepared {
    const struct kms *kms;
    struct keyd_binding binding;
    unsigned char context[CONTEXT_SIZE];
};

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

static int prepare(const struct keyd *k, const struct wire_request *r, struct prepared *ret,
                   struct error *err)
{
    if (r->deadline_ms == 0)
        return error_set(err, ERR_DEADLINE, "the request came after its deadline");
    if (check_binding(r, err) < 0 || kms_set_find(k->kms, r->kms, &ret->kms, err) < 0)
        return -1;
    ret->binding = (struct keyd_binding){
        .kms = r->kms, .tenant = r->tenant, .volume_id = r->volume_id, .uuid = r->uuid
    };
    context_compute(r->tenant, r->volume_id, r->uuid, ret->context);
    return 0;
}

static struct kms_call call_of(const struct prepared *p, const struct wire_request *r)
{
    return (struct kms_call){
        .binding = &p->binding,
        .context = p->context,
        .token = r->token,
        .deadline = r->deadline_ms == UINT64_MAX ? DEADLINE_NEVER : deadline_in(r->deadline_ms),
    };
}

static int run_mint(struct keyd *k, const struct wire_request *r, int descriptor UNUSED,
                    struct wire_reply *ret, struct error *err)
{
    struct prepared p;
    struct keyd_wrapped key;
    if (prepare(k, r, &p, err) < 0)
        return -1;
    struct kms_call call = call_of(&p, r);
    if (kms_mint(p.kms, &call, &key, err) < 0)
        return -1;
    FAULT_POINT("keyd:mint:before-reply");
    ret->key_version = key.version;
    if (str_copy(ret->kind, sizeof(ret->kind), key.kind) < 0 ||
        str_copy(ret->ciphertext, sizeof(ret->ciphertext), key.ciphertext) < 0)
        return error_set(err, ERR_INTERNAL, "the wrapped key does not fit into the reply");
    return 0;
}

static int key_of(const struct wire_request *r, struct keyd_wrapped *ret, struct error *err)
{
    ret->version = r->key_version;
    if (str_copy(ret->kind, sizeof(ret->kind), r->kind) < 0 ||
        str_copy(ret->ciphertext, sizeof(ret->ciphertext), r->ciphertext) < 0)
        return error_set(err, ERR_INVALID, "the wrapped key is too long");
    return 0;
}

static int run_unwrap(struct keyd *k, const struct wire_request *r, int descriptor,
                      struct wire_reply *ret UNUSED, struct error *err)
{
    struct prepared p;
    struct keyd_wrapped key;
    if (prepare(k, r, &p, err) < 0 || check_use(r->use, err) < 0 || key_of(r, &key, err) < 0 ||
        key_pipe_check(descriptor, err) < 0)
        return -1;
    AUTO_SECRET struct secret *plain = NULL;
    struct kms_call call = call_of(&p, r);
    if (kms_unwrap(p.kms, &call, &key, &plain, err) < 0)
        return -1;
    LEAK("keyd:storage-key", secret_data(plain), secret_len(plain));
    FAULT_POINT("keyd:unwrap:before-write");
    if (key_pipe_write(descriptor, plain, err) < 0)
        return -1;
    FAULT_POINT("keyd:unwrap:after-write");
    return 0;
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

static json_t *kms_json(const struct kms_set *set)
{
    json_t *list = json_array();
    for (size_t i = 0; i < set->n; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "name", set->items[i].name,
                                                    "kind", set->items[i].driver->kind, "insecure",
                                                    set->items[i].driver->insecure));
    return list;
}

static int run_status(struct keyd *k, const struct wire_request *r UNUSED, int descriptor UNUSED,
                      struct wire_reply *ret, struct error *err)
{
    AUTO_JSON json_t *status = json_pack(
        "{s:s, s:i, s:b, s:o, s:o, s:I, s:o}", "version", COFFER_VERSION, "wire", (int)WIRE_VERSION,
        "insecure", kms_set_insecure(k->kms), "allow", allowed_json(k), "kms", kms_json(k->kms),
        "connections", (json_int_t)k->connections, "counters", counters_to_json(&k->counters));
    AUTO_FREE char *text =
        status == NULL ? NULL : json_dumps(status, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    strbuf_clear(&k->text);
    strbuf_adds(&k->text, text);
    if (strbuf_check(&k->text, "the status", err) < 0)
        return -1;
    ret->text = (struct wire_view){ .data = strbuf_text(&k->text), .len = k->text.len };
    return 0;
}

static const struct op ops[WIRE_OP_LIMIT] = {
    [WIRE_MINT] = { .audited = true, .run = run_mint },
    [WIRE_UNWRAP] = { .audited = true, .run = run_unwrap },
    [WIRE_STATUS] = { .always = true, .run = run_status },
};

static int run(struct keyd *k, const struct wire_request *request, int descriptor,
               struct wire_reply *ret, struct error *err)
{
    const struct op *op = &ops[request->op];
    if (!op->always && !k->allowed[request->op])
        return error_set(err, ERR_PERMISSION, "this coffer-keyd does not answer %s",
                         wire_message_name(wire_message_find(request->op)));
    return op->run(k, request, descriptor, ret, err);
}

static void audit(const struct wire_request *r, uid_t peer, const struct error *err)
{
    log_info("audit", KV("op", wire_message_name(wire_message_find(r->op))), KV("use", r->use),
             KV("tenant", r->tenant), KV("volume_id", r->volume_id), KV("kms", r->kms),
             KV("peer_uid", peer), KV("result", error_code_name(err->code)),
             KV("reason", err->msg));
}

void ops_error_reply(uint16_t op, const struct error *err, struct wire_reply *ret)
{
    *ret = (struct wire_reply){ .op = op };
    /* Both arrays of the reply are as long as what goes in. */
    (void)!str_copy(ret->code, sizeof(ret->code), error_code_name(err->code));
    (void)!str_copy(ret->message, sizeof(ret->message), err->msg);
}

void ops_handle(struct keyd *k, const struct wire_request *request, int descriptor, uid_t peer,
                struct wire_reply *ret)
{
    struct error err = ERROR_INIT;
    *ret = (struct wire_reply){ .op = request->op, .code = WIRE_OK };
    if (run(k, request, descriptor, ret, &err) < 0)
        ops_error_reply(request->op, &err, ret);
    k->counters.requests[request->op][err.code]++;
    if (ops[request->op].audited)
        audit(request, peer, &err);
}

static int allow_one(const char *name, bool ret[WIRE_OP_LIMIT], struct error *err)
{
    uint16_t op = WIRE_NONE;
    if (wire_message_by_name(name, &op) == NULL)
        return error_set(err, ERR_INVALID,
                         "--allow: '%s' is not an operation (MINT, UNWRAP, STATUS)", name);
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
            return error_set(err, ERR_INVALID, "--allow: '%s' is not a list of operations", list);
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
