/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/kms_vault.h"

#include "common/deadline.h"
#include "common/log.h"
#include "common/strbuf.h"
#include "vault/capability.h"

#define TEST_MS 20000u

/* ---- open and close ---- */

/* NULL for "". */
static const char *given(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

static void options_of(const struct kms_vault_config *c, struct vault_options *o)
{
    const struct kms_auth_config *a = &c->auth;
    *o = (struct vault_options){ .name_space = given(c->name_space),
                                 .ca_path = c->ca,
                                 .cert_path = given(c->client_cert),
                                 .key_path = given(c->client_key),
                                 .proxy = given(c->proxy),
                                 .timeout_ms = c->timeout_ms };
    for (size_t i = 0; i < c->n_addresses && i < VAULT_ADDRESSES_MAX; i++)
        o->addresses[i] = c->addresses[i];
    o->auth = (struct vault_auth_options){ .method = a->method,
                                           .mount = given(a->mount),
                                           .role = given(a->role),
                                           .token_path = given(a->token_path),
                                           .role_id = given(a->role_id),
                                           .secret_id_path = given(a->secret_id_path),
                                           .secret_id_wrapped = a->secret_id_wrapped };
}

/* All but what lies behind the login, and other people's logins. */
static bool same_identity(const struct kms_vault_config *a, const struct kms_vault_config *b)
{
    struct kms_vault_config x = *a;
    memcpy(x.mount, b->mount, sizeof(x.mount));
    memcpy(x.name, b->name, sizeof(x.name));
    memcpy(x.auth.pod_role, b->auth.pod_role, sizeof(x.auth.pod_role));
    memcpy(x.auth.pod_mount, b->auth.pod_mount, sizeof(x.auth.pod_mount));
    memcpy(x.server_key, b->server_key, sizeof(x.server_key));
    x.tenants_listed = b->tenants_listed;
    return memcmp(&x, b, sizeof(x)) == 0; /* decoded into zeroed memory */
}

static struct vault *find_same(const struct kms_vault_config *c, const struct kms_set *opened)
{
    for (size_t i = 0; opened != NULL && i < opened->n; i++) {
        const struct kms_vault *other = opened->items[i].state;
        if (opened->items[i].driver->close == kms_vault_close && same_identity(&other->config, c))
            return other->vault;
    }
    return NULL;
}

DEFINE_AUTO(kms_vault, kms_vault_close)
#define AUTO_KMS_VAULT __attribute__((cleanup(cleanup_kms_vault)))

/* A node's policy opens sessions beside the rest of what nodes open; who opens nothing else must
 * not. A public key is anybody's. */
static void set_may(struct kms_vault *s, const struct kms_env *env)
{
    s->may[CAP_MINT] = env->mint ? MUST : MAY_NOT;
    s->may[CAP_UNWRAP] = env->unwrap ? MUST : MAY_NOT;
    s->may[CAP_DESTROY] = env->destroy ? MUST : MAY_NOT;
    s->may[CAP_UNWRAP_CLIENT] = env->unwrap_client ? MUST : env->unwrap ? MAY : MAY_NOT;
    s->may[CAP_SERVER_KEY] = env->server_key ? MUST : MAY;
}

int kms_vault_open(const struct kms_config *config, const struct kms_env *env,
                   const struct capability_row *rows, size_t n_rows, void **ret, struct error *err)
{
    struct vault_options o;
    AUTO_KMS_VAULT struct kms_vault *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_memory(err);
    s->loop = env->loop;
    s->config = *config->vault;
    set_may(s, env);
    s->rows = rows;
    s->n_rows = n_rows;
    for (size_t i = 0; i < ARRAY_SIZE(s->bound); i++) {
        s->bound[i].names = calloc(VAULT_BOUND_MAX, sizeof(*s->bound[i].names));
        if (s->bound[i].names == NULL)
            return error_memory(err);
    }
    s->vault = find_same(&s->config, env->opened);
    s->borrowed = s->vault != NULL;
    options_of(&s->config, &o);
    if (!s->borrowed && vault_new(env->loop, &o, &s->vault, err) < 0)
        return -1;
    *ret = TAKE_PTR(s);
    return 0;
}

void kms_vault_close(void *state)
{
    struct kms_vault *s = state;
    if (!s->borrowed)
        vault_free(s->vault); /* jobs at work end here, those of who borrows it too */
    for (size_t i = 0; i < ARRAY_SIZE(s->bound); i++)
        free(s->bound[i].names);
    free(s);
}

void kms_vault_stop(void *state, void (*done)(void *ctx), void *ctx)
{
    struct kms_vault *s = state;
    if (s->borrowed)
        done(ctx);
    else
        vault_stop(s->vault, done, ctx);
}

const char *const kms_self_tests[3] = { "passed", "not yet", "failed" };

static const char *self_test(const struct kms_vault *s)
{
    return s->passed ? kms_self_tests[0] : kms_self_tests[s->refusal.code == ERR_OK ? 1 : 2];
}

bool kms_vault_stats(const void *state, struct kms_stats *ret)
{
    const struct kms_vault *s = state;
    if (s->borrowed)
        return false;
    vault_stats(s->vault, &ret->vault);
    ret->self_test = self_test(s);
    return true;
}

json_t *kms_vault_status(const void *state)
{
    const struct kms_vault *s = state;
    json_t *status = vault_status(s->vault);
    (void)json_object_set_new(status, "self_test", json_string(self_test(s)));
    (void)json_object_set_new(status, "self_test_refusal",
                              json_string(s->passed ? "" : s->refusal.msg));
    return status;
}

/* ---- a job ---- */

void vault_job_end(struct vault_job *j, const struct error *err)
{
    struct kms_job *job = j->job;
    struct error why = ERROR_INIT;
    if (err != NULL) /* which may be the job's own `refusal` */
        (void)error_pass(&why, err);
    event_timer_stop(j->s->loop, &j->limit);
    vault_guest_end(j->guest);
    secret_free(j->fresh);
    free(j);
    kms_end(job, err != NULL ? &why : NULL);
}

bool kms_vault_path(const struct kms_vault *s, const char *path, const char *name,
                    char ret[VAULT_PATH_MAX + 1])
{
    const char *mark = strstr(path, "%s");
    int n = snprintf(ret, VAULT_PATH_MAX + 1, "%s/%.*s%s%s", s->config.mount, (int)(mark - path),
                     path, name, mark + 2);
    return n >= 0 && (size_t)n <= VAULT_PATH_MAX;
}

static void ask(struct vault_job *j, const struct vault_request *template, const char *path,
                vault_done done)
{
    struct error err = ERROR_INIT;
    struct vault_request r = *template;
    char full[VAULT_PATH_MAX + 1];
    if (!kms_vault_path(j->s, path, j->name, full)) {
        (void)error_set(&err, ERR_INVALID, "a path in Vault is longer than %u bytes",
                        VAULT_PATH_MAX);
        vault_job_end(j, &err);
        return;
    }
    r.path = full;
    r.deadline = j->job->call.deadline;
    if (j->guest != NULL)
        vault_guest_call(j->guest, &r, done, j);
    else
        vault_call(j->s->vault, &r, done, j);
}

static bool out_of_memory(struct vault_job *j, bool has_body, const json_t *body)
{
    struct error err = ERROR_INIT;
    if (!has_body || body != NULL)
        return false;
    (void)error_memory(&err);
    vault_job_end(j, &err);
    return true;
}

void vault_job_ask(struct vault_job *j, const char *method, const char *path, bool has_body,
                   json_t *body, vault_done done)
{
    const struct vault_request r = { .method = method, .body = body };
    if (out_of_memory(j, has_body, body))
        return;
    ask(j, &r, path, done);
    json_decref(body);
}

void vault_job_probe(struct vault_job *j, const char *path, json_t *body, vault_done done)
{
    const struct vault_request r = { .method = "POST", .body = body, .probe = true };
    if (out_of_memory(j, true, body))
        return;
    ask(j, &r, path, done);
    json_decref(body);
}

/* ---- tenants whose key is known to bind ---- */

bool vault_bound(const struct kms_vault *s, enum bound_by by, const char *tenant)
{
    const struct tenant_set *set = &s->bound[by];
    for (size_t i = 0; i < set->n; i++) {
        if (strcmp(set->names[i], tenant) == 0)
            return true;
    }
    return false;
}

void vault_set_bound(struct kms_vault *s, enum bound_by by, const char *tenant)
{
    struct tenant_set *set = &s->bound[by];
    if (vault_bound(s, by, tenant))
        return;
    if (set->n == VAULT_BOUND_MAX)
        set->n = 0;
    if (str_copy(set->names[set->n], sizeof(set->names[0]), tenant) == 0)
        set->n++;
}

/* ---- the self-test ---- */

static void wake(struct kms_vault *s, const struct error *err)
{
    struct vault_job *j = s->waiting;
    s->waiting = NULL;
    while (j != NULL) {
        struct vault_job *next = j->next;
        j->next = NULL;
        event_timer_stop(s->loop, &j->limit);
        if (err != NULL)
            vault_job_end(j, err);
        else
            j->go(j);
        j = next;
    }
}

int capability_held(const json_t *data, const char *path, const char *capability, bool *ret,
                    struct error *err)
{
    const json_t *list = json_object_get(data, path);
    if (!json_is_array(list))
        return error_set(err, ERR_UNAVAILABLE, "Vault doesn't say what we may do at %s", path);
    *ret = vault_capability_in(list, capability);
    return 0;
}

/* False: it isn't asked about. */
static bool path_of_row(const struct kms_vault *s, const struct capability_row *row,
                        const char *name, char ret[VAULT_PATH_MAX + 1])
{
    if (row->server && s->config.server_key[0] == '\0')
        return false;
    (void)!kms_vault_path(s, row->path, row->server ? s->config.server_key : name, ret);
    return true;
}

int capability_judge(const struct kms_vault *s, const enum may may[CAP_NEVER + 1], const char *name,
                     const json_t *data, struct error *err)
{
    char path[VAULT_PATH_MAX + 1];
    bool held = false;
    for (size_t i = 0; i < s->n_rows; i++) {
        const struct capability_row *row = &s->rows[i];
        if (!path_of_row(s, row, name, path))
            continue;
        if (capability_held(data, path, row->capability, &held, err) < 0)
            return -1;
        if (may[row->of] == MUST && !held)
            return error_set(err, ERR_PERMISSION,
                             "self-test: Vault's policy must allow this identity '%s' at %s",
                             row->capability, path);
        if (may[row->of] == MAY_NOT && held)
            return error_set(err, ERR_PERMISSION,
                             "self-test: Vault's policy must not allow this identity '%s' at %s",
                             row->capability, path);
    }
    return 0;
}

static void on_capabilities(void *ctx, const struct vault_answer *answer)
{
    struct kms_vault *s = ctx;
    struct error err = answer->err;
    s->testing = false;
    s->tested_with = answer->token;
    if (err.code == ERR_DEADLINE) /* the test's, not that of those who wait for it */
        (void)error_recode(&err, ERR_UNAVAILABLE);
    /* not when the login was refused */
    if (answer->status != 0 && (err.code == ERR_PERMISSION || err.code == ERR_PRECONDITION))
        (void)error_prefix(&err, "self-test: this identity can't ask what it may do");
    if (err.code == ERR_OK)
        (void)!capability_judge(s, s->may, s->tested, json_object_get(answer->body, "data"), &err);
    s->passed = err.code == ERR_OK;
    s->refusal = err;
    if (s->passed)
        log_info("Vault's self-test passed", KV("mount", s->config.mount));
    else
        log_warn("Vault's self-test failed", KV("mount", s->config.mount), KV("reason", err.msg));
    wake(s, s->passed ? NULL : &err);
}

json_t *capability_question(const struct kms_vault *s, const char *name)
{
    char path[VAULT_PATH_MAX + 1];
    json_watch();
    json_t *paths = json_array();
    for (size_t i = 0; i < s->n_rows; i++) {
        if (path_of_row(s, &s->rows[i], name, path))
            (void)json_array_append_new(paths, json_string(path));
    }
    return json_pack("{s:o}", "paths", paths);
}

bool capability_question_whole(const json_t *question, struct vault_answer *ret)
{
    *ret = (struct vault_answer){ .err = ERROR_INIT };
    if (question != NULL && !json_no_memory())
        return true;
    (void)error_memory(&ret->err);
    return false;
}

static void test(struct kms_vault *s, const struct vault_job *first)
{
    memcpy(s->tested, first->name, sizeof(s->tested));
    json_t *body = capability_question(s, s->tested);
    const struct vault_request r = { .method = "POST",
                                     .path = "sys/capabilities-self",
                                     .body = body,
                                     .deadline = deadline_in(TEST_MS) };
    struct vault_answer none;
    s->testing = true;
    if (capability_question_whole(body, &none))
        vault_call(s->vault, &r, on_capabilities, s);
    else
        on_capabilities(s, &none);
    json_decref(body);
}

static struct vault_job **link_of(struct kms_vault *s, const struct vault_job *j)
{
    struct vault_job **p = &s->waiting;
    while (*p != j)
        p = &(*p)->next;
    return p;
}

static void on_limit(void *ctx)
{
    struct vault_job *j = ctx;
    struct error err = ERROR_INIT;
    *link_of(j->s, j) = j->next;
    (void)error_set(&err, ERR_DEADLINE, "no time is left: Vault's self-test isn't over yet");
    vault_job_end(j, &err);
}

static void enqueue(struct kms_vault *s, struct vault_job *j)
{
    *link_of(s, NULL) = j;
    event_timer_set(s->loop, &j->limit, j->job->call.deadline);
}

void vault_job_start(struct kms_vault *s, struct kms_job *job, const char *name,
                     void (*go)(struct vault_job *j))
{
    struct error err = ERROR_INIT;
    struct vault_job *j = calloc(1, sizeof(*j));
    if (j == NULL || str_copy(j->name, sizeof(j->name), name) < 0) {
        (void)error_memory(&err);
        free(j);
        kms_end(job, &err);
        return;
    }
    j->s = s;
    j->job = job;
    j->go = go;
    j->limit = (struct event_timer){ .fire = on_limit, .ctx = j };
    if (s->passed && s->tested_with == vault_token_number(s->vault)) {
        go(j);
        return;
    }
    enqueue(s, j);
    if (!s->testing)
        test(s, j);
}
