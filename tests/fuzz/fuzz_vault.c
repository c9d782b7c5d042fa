/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile or broken Vault answers, to the real client and drivers: only HTTP is played. The
 * first line names engine and login method ("transit approle", "session approle": what a keyd that
 * opens sessions asks), then each "== STATUS" or "==
 * FAILURE" line begins an answer, whose body follows; after the last one nobody answers. Time is
 * played too. Whatever comes: each job ends exactly once, within a bound, with a key only when it
 * was asked to unwrap, and no text of the server's gets into an error.
 *
 * covers: vault/call.c vault/token.c vault/auth.c vault/auth_approle.c vault/auth_token_file.c
 * vault/transit.c vault/kv.c vault/status.c vault/capability.c keyd/kms_vault.c
 * keyd/kms_transit.c keyd/kms_kv.c keyd/kms_vault_session.c
 * but: auth_token_login transit_create_rsa_body transit_rewrap_body transit_minimum_body
 * transit_trim_body transit_key_made (cofferctl's) but: same_identity kms_vault_stats (two services
 * at one server; metrics)
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "http/client.h"
#include "keyd/kms.h"
#include "tests/support/played_clock.h"
#include "tests/support/tmpdir.h"

#define TURNS_MAX 400

/* ---- played: HTTP ---- */

static const char *script, *script_end;

struct http_transfer {
    struct event_loop *loop;
    struct event_timer timer;
    http_done done;
    void *ctx;
};

struct http_client {
    struct event_loop *loop;
};

int http_global_init(struct error *err UNUSED)
{
    return 0;
}

int http_client_new(struct event_loop *loop, const struct http_options *o UNUSED,
                    struct http_client **ret, struct error *err UNUSED)
{
    struct http_client *c = calloc(1, sizeof(*c));

    must(c != NULL);
    c->loop = loop;
    *ret = c;
    return 0;
}

void http_client_free(struct http_client *c)
{
    free(c);
}

static const struct {
    const char *name;
    enum http_failure failure;
} failures[] = {
    { "connect", HTTP_CONNECT }, { "tls", HTTP_TLS },         { "timeout", HTTP_TIMEOUT },
    { "cut", HTTP_CUT },         { "too-big", HTTP_TOO_BIG },
};

static void set_head(struct http_reply *r, const char *head)
{
    for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
        if (strcmp(head, failures[i].name) == 0) {
            r->failure = failures[i].failure;
            r->problem = "played";
        }
    }
    if (r->failure == HTTP_WHOLE)
        r->status = strtol(head, NULL, 10) % 1000;
}

/* The next part of the script: its first line without the mark, and what follows up to the next
 * mark. The caller frees. */
static char *next_part(char head[32])
{
    const char *line = memchr(script, '\n', (size_t)(script_end - script));

    if (line == NULL)
        line = script_end;
    (void)snprintf(head, 32, "%.*s", (int)(line - script < 31 ? line - script : 31), script);
    const char *end = memmem(line, (size_t)(script_end - line), "\n== ", 4);
    const char *body = line < script_end ? line + 1 : line;
    if (end == NULL)
        end = script_end;
    size_t len = end > body ? (size_t)(end - body) : 0;
    char *copy = malloc(len + 1);
    must(copy != NULL);
    memcpy(copy, body, len);
    copy[len] = '\0';
    script = (size_t)(script_end - end) > 4 ? end + 4 : script_end;
    return copy;
}

static void on_played(void *ctx)
{
    struct http_transfer *t = ctx;
    struct http_reply reply = { .failure = HTTP_WHOLE, .problem = "", .location = "" };
    char head[32] = "connect";
    AUTO_FREE char *body = script < script_end ? next_part(head) : strdup("");

    set_head(&reply, head);
    reply.body = body;
    reply.body_len = strlen(body);
    if (reply.status == 307)
        reply.location = body;
    if (reply.status == 429)
        reply.retry_after_ms = 1000 * reply.body_len;
    t->done(t->ctx, &reply);
    free(t);
}

int http_start(struct http_client *c, const struct http_request *r, http_done done, void *ctx,
               struct http_transfer **ret, struct error *err UNUSED)
{
    struct http_transfer *t = calloc(1, sizeof(*t));

    must(t != NULL && strncmp(r->url, "https://", 8) == 0 && r->deadline >= now);
    t->loop = c->loop;
    t->done = done;
    t->ctx = ctx;
    t->timer = (struct event_timer){ .fire = on_played, .ctx = t };
    event_timer_set(c->loop, &t->timer, now + 1);
    *ret = t;
    return 0;
}

void http_cancel(struct http_transfer *t)
{
    if (t == NULL)
        return;
    event_timer_stop(t->loop, &t->timer);
    free(t);
}

/* ---- the jobs ---- */

#define UUID "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

static const struct keyd_binding binding = { "v", "team-a",
                                             "p.0a1b2c3d.00112233445566778899aabbccddeeff", UUID };
static const unsigned char context[CONTEXT_SIZE] = { 1, 2, 3 };

struct one {
    struct kms_job job;
    bool unwrap;
    unsigned ended;
};

static void on_done(struct kms_job *job)
{
    struct one *o = (struct one *)((char *)job - offsetof(struct one, job));

    o->ended++;
    if (job->err.code != ERR_OK) {
        must_be_sentence(&job->err);
        must(job->plain == NULL && strstr(job->err.msg, "hvs.") == NULL);
    }
    must((job->plain != NULL) == (o->unwrap && job->err.code == ERR_OK));
    secret_free(job->plain);
}

static struct {
    struct tmpdir dir;
    struct event_loop *loop;
} real;

static void clean_up(void)
{
    event_loop_free(real.loop);
    tmpdir_remove(&real.dir);
}

static void start(void)
{
    struct error err = ERROR_INIT;

    if (real.loop != NULL)
        return;
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    real.dir = tmpdir_make();
    tmpdir_write(&real.dir, "secret", "hvs.CAESIO-not-to-be-seen\n", 26);
    must(event_loop_new(&real.loop, &err) == 0 && atexit(clean_up) == 0);
}

#define SERVER_KEY "coffer-s-1"
#define TRANSIT    "hcvault://v:8200/transit/keys/coffer-t-{tenant}"

/* The first whose name is in the head, or the first of all. */
static const struct engine {
    const char *name, *uri, *more;
    bool sessions;
} engines[] = {
    { "transit", TRANSIT, "", false },
    { "kv", "hcvault+kv://v:8200/coffer-kv/volumes", "", false },
    { "session", TRANSIT, "\"server_key\":\"" SERVER_KEY "\",", true },
};

static const struct engine *engine_of(const char *head)
{
    for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
        if (strstr(head, engines[i].name) != NULL)
            return &engines[i];
    return &engines[0];
}

static const struct {
    const char *name, *more;
} methods[] = {
    { "approle", "\"role\":\"r\",\"role_id\":\"i\",\"secret_id_path\":\"%s/secret\"" },
    { "wrapped", "\"role\":\"r\",\"role_id\":\"i\",\"secret_id_wrapped\":true,"
                 "\"secret_id_path\":\"%s/secret\"" },
    { "jwt", "\"role\":\"r\",\"token_path\":\"%s/secret\"" },
    { "token-file", "\"token_path\":\"%s/secret\"" },
};

static int open_set(const char *head, struct config **config, struct kms_set **ret)
{
    const struct engine *e = engine_of(head);
    const struct kms_env env = { .loop = real.loop,
                                 .mint = !e->sessions,
                                 .unwrap = !e->sessions,
                                 .destroy = !e->sessions,
                                 .unwrap_client = e->sessions,
                                 .server_key = e->sessions };
    struct error err = ERROR_INIT;
    size_t m = 0;
    char auth[1024], text[4096];

    while (m < ARRAY_SIZE(methods) - 1 && strstr(head, methods[m].name) == NULL)
        m++;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(auth, sizeof(auth), methods[m].more, real.dir.path);
#pragma GCC diagnostic pop
    (void)snprintf(text, sizeof(text),
                   "{\"pools\":{\"p\":{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"v\"]}},"
                   "\"kms\":{\"v\":{\"uri\":\"%s\",%s\"ca\":\"/ca\",\"addresses\":[\"b:1\"],"
                   "\"auth\":{\"method\":\"%s\",%s}}}}",
                   e->uri, e->more,
                   strcmp(methods[m].name, "wrapped") == 0 ? "approle" : methods[m].name, auth);
    must(config_decode(text, strlen(text), config, &err) == 0);
    return kms_set_open(*config, &env, ret, &err);
}

static void run_until(const struct one *o)
{
    struct error err = ERROR_INIT;

    for (int i = 0; i < TURNS_MAX && o->ended == 0; i++) {
        must(event_loop_turn(real.loop, deadline_in(50), &err) == 0);
    }
    must(o->ended == 1);
}

static void run_jobs(const struct kms *kms)
{
    struct keyd_wrapped key = { .kind = "", .ciphertext = "", .version = 1 };
    struct one mint = { .job = { .done = on_done } }, unwrap = mint, destroy = mint;

    mint.job.call =
        (struct kms_call){ .binding = &binding, .context = context, .deadline = deadline_in(5000) };
    kms_mint(kms, &mint.job);
    run_until(&mint);
    (void)snprintf(key.kind, sizeof(key.kind), "%s", kms->driver->kind);
    (void)snprintf(key.ciphertext, sizeof(key.ciphertext), "%s",
                   strcmp(kms->driver->kind, "kv") == 0 ? "kv:v1:" UUID : "vault:v1:AAAA");
    if (mint.job.err.code == ERR_OK)
        key = mint.job.wrapped;
    unwrap.unwrap = true;
    unwrap.job.key = &key;
    unwrap.job.call = mint.job.call;
    unwrap.job.call.deadline = deadline_in(5000);
    kms_unwrap(kms, &unwrap.job);
    destroy.job.call = unwrap.job.call;
    kms_destroy(kms, &destroy.job); /* beside the other */
    run_until(&unwrap);
    run_until(&destroy);
    must(unwrap.ended == 1 && mint.ended == 1);
}

static void run_sessions(const struct kms *kms)
{
    static const unsigned char sealed[384] = { 7 };
    const struct kms_session session = { sealed, sizeof(sealed), SERVER_KEY ":1" };
    const struct kms_call call = { .binding = &binding,
                                   .context = context,
                                   .deadline = deadline_in(5000) };
    struct one key = { .job = { .done = on_done, .call = call } };
    struct one open = { .job = { .done = on_done, .call = call, .session = &session },
                        .unwrap = true };

    kms_server_key(kms, &key.job);
    run_until(&key);
    if (key.job.err.code == ERR_OK)
        must(strncmp(key.job.server_key.key_id, SERVER_KEY ":", sizeof(SERVER_KEY)) == 0 &&
             key.job.server_key.public_key_len > 0);
    open.job.call.deadline = deadline_in(5000);
    kms_unwrap_client(kms, &open.job);
    run_until(&open);
}

/* A token of an hour is renewed, or another one is got. */
static void pass_time(void)
{
    struct error err = ERROR_INIT;

    now += 2500 * 1000;
    for (int i = 0; i < 20; i++)
        must(event_loop_turn(real.loop, deadline_in(50), &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_CONFIG struct config *config = NULL;
    AUTO_KMS_SET struct kms_set *set = NULL;
    struct error err = ERROR_INIT;
    const struct kms *kms;
    char head[32];

    start();
    script = (const char *)data;
    script_end = script + size;
    free(next_part(head));
    if (open_set(head, &config, &set) < 0)
        return 0;
    must(kms_set_find(set, "v", &kms, &err) == 0);
    void (*const run)(const struct kms *kms) =
        kms->driver == &kms_vault_transit && engine_of(head)->sessions ? run_sessions : run_jobs;
    run(kms);
    pass_time();
    run(kms);
    kms_set_stop(set, real.loop);
    json_decref(kms->driver->status(kms->state));
    return 0;
}
