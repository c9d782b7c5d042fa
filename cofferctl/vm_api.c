/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vm_api.h"

#include "common/deadline.h"
#include "common/event.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/secret.h"
#include "common/strbuf.h"
#include "common/wipe.h"
#include "cofferctl/endpoint.h"
#include "device/proof.h"
#include "http/client.h"

#define CONNECT_MS  10000u
#define ANSWER_MS   60000u /* the server's own limit is 30 s */
#define AGAIN_MS    1000u
#define SECONDS_MAX 86400u
#define PROOF_MAX   KIB(4)
#define HOST_MAX    256u

struct vm_options vm_options;

struct vm_api {
    const struct cli *cli;
    struct event_loop *loop;
    struct http_client *http;
    struct device_key *key;
    char base[HOST_MAX + 16];
    uint64_t deadline;
    bool answered; /* once: a connection that breaks later may come back */
    bool told;     /* what is waited for was said */
};

/* ---- flags ---- */

int vm_check_key(const struct cli *cli UNUSED, struct error *err)
{
    if (vm_options.key[0] == '\0')
        return error_set(err, ERR_INVALID,
                         "--key is needed: the file with the device's private key");
    return 0;
}

static bool url_valid(const char *url)
{
    static const char scheme[] = "https://";
    const char *host = url + strlen(scheme);
    size_t len = strncmp(url, scheme, strlen(scheme)) == 0 ? strcspn(host, "/?#@ \\") : 0;

    return len > 0 && len < HOST_MAX && (host[len] == '\0' || strcmp(host + len, "/") == 0);
}

int vm_check(const struct cli *cli, struct error *err)
{
    const char *pin = vm_options.server_key;

    if (vm_check_key(cli, err) < 0)
        return -1;
    if (vm_options.url[0] == '\0')
        return error_set(err, ERR_INVALID,
                         "--url is needed: https://HOST:PORT of coffer-scheduler");
    if (!url_valid(vm_options.url))
        return error_set(err, ERR_INVALID, "--url must be https://HOST:PORT, not '%.200s'",
                         vm_options.url);
    if (pin != NULL && pin[0] != '\0' && !hex_lower_valid(pin, FINGERPRINT_LEN))
        return error_set(err, ERR_INVALID, "--server-key must be 64 lower-case hex digits");
    if (vm_options.timeout_s == 0 || vm_options.timeout_s > SECONDS_MAX)
        return error_set(err, ERR_INVALID, "--timeout must be 1 to %u", SECONDS_MAX);
    if (pin != NULL && (vm_options.session_s == 0 || vm_options.session_s > SECONDS_MAX))
        return error_set(err, ERR_INVALID, "--session-seconds must be 1 to %u", SECONDS_MAX);
    return 0;
}

/* ---- opening ---- */

int vm_prepare(struct error *err)
{
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return secret_harden_process(err) < 0 || http_global_init(err) < 0 ? -1 : 0;
}

static int make(const struct cli *cli, const struct http_options *o, struct vm_api **ret,
                struct error *err)
{
    AUTO_VM_API struct vm_api *a = calloc(1, sizeof(*a));

    if (a == NULL)
        return error_memory(err);
    a->cli = cli;
    a->deadline = deadline_in(vm_options.timeout_s * 1000);
    if (event_loop_new(&a->loop, err) < 0 || http_client_new(a->loop, o, &a->http, err) < 0)
        return -1;
    *ret = TAKE_PTR(a);
    return 0;
}

int vm_api_open(const struct cli *cli, struct vm_api **ret, struct error *err)
{
    const struct http_options o = { .ca_path = vm_options.ca, .connect_timeout_ms = CONNECT_MS };
    AUTO_VM_API struct vm_api *a = NULL;
    size_t len = strlen(vm_options.url);

    if (vm_prepare(err) < 0 || make(cli, &o, &a, err) < 0 ||
        device_key_load(vm_options.key, &a->key, err) < 0)
        return -1;
    if (vm_options.url[len - 1] == '/')
        len--;
    (void)snprintf(a->base, sizeof(a->base), "%.*s", (int)len, vm_options.url);
    *ret = TAKE_PTR(a);
    return 0;
}

int vm_api_open_admin(const struct cli *cli, const char *socket, struct vm_api **ret,
                      struct error *err)
{
    const struct http_options o = { .unix_path = endpoint_path(socket),
                                    .connect_timeout_ms = CONNECT_MS };
    AUTO_VM_API struct vm_api *a = NULL;

    if (vm_prepare(err) < 0 || make(cli, &o, &a, err) < 0)
        return -1;
    a->deadline = deadline_in(ANSWER_MS);
    (void)snprintf(a->base, sizeof(a->base), "http://localhost");
    *ret = TAKE_PTR(a);
    return 0;
}

void vm_api_close(struct vm_api *a)
{
    if (a == NULL)
        return;
    if (a->http != NULL)
        http_client_free(a->http);
    if (a->loop != NULL)
        event_loop_free(a->loop);
    device_key_free(a->key);
    free(a);
}

const struct device_key *vm_api_key(const struct vm_api *a)
{
    return a->key;
}

const struct cli *vm_api_cli(const struct vm_api *a)
{
    return a->cli;
}

int vm_api_pause(struct vm_api *a, uint64_t ms, struct error *err)
{
    const uint64_t until = deadline_in(ms);

    if (deadline_left(a->deadline) == 0)
        return error_set(err, ERR_DEADLINE,
                         "it isn't done after %llu seconds (--timeout); repeat the command to wait "
                         "on",
                         (unsigned long long)vm_options.timeout_s);
    while (deadline_left(until) > 0) {
        if (event_loop_turn(a->loop, until, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- one request ---- */

struct answer {
    bool done;
    enum http_failure failure;
    long status;
    char problem[512];
    struct wipe_buffer body;
};

static void answer_release(struct answer *a)
{
    wipe_buffer_release(&a->body);
}
#define AUTO_ANSWER __attribute__((cleanup(answer_release)))

static void on_reply(void *ctx, const struct http_reply *reply)
{
    struct answer *a = ctx;

    a->done = true;
    a->failure = reply->failure;
    a->status = reply->status;
    (void)snprintf(a->problem, sizeof(a->problem), "%s", reply->problem);
    if (wipe_buffer_add(&a->body, reply->body, reply->body_len, HTTP_BODY_MAX) < 0)
        a->failure = HTTP_TOO_BIG;
}

struct request { /* borrowed */
    const char *method, *path, *proof, *body;
};

static int send_once(struct vm_api *a, const struct request *q, struct answer *ret,
                     struct error *err)
{
    char url[sizeof(a->base) + 512];
    uint64_t deadline = deadline_in(ANSWER_MS);
    struct http_transfer *t = NULL;

    (void)snprintf(url, sizeof(url), "%s%s", a->base, q->path);
    struct http_request r = { .method = q->method,
                              .url = url,
                              .body = q->body,
                              .body_len = q->body == NULL ? 0 : strlen(q->body),
                              .deadline = deadline < a->deadline ? deadline : a->deadline };
    size_t n = 0;
    if (q->body != NULL)
        r.headers[n++] = (struct http_header){ "Content-Type", "application/json" };
    if (q->proof != NULL)
        r.headers[n++] = (struct http_header){ "Coffer-Proof", q->proof };
    if (http_start(a->http, &r, on_reply, ret, &t, err) < 0)
        return -1;
    while (!ret->done) {
        if (event_loop_turn(a->loop, DEADLINE_NEVER, err) < 0) {
            http_cancel(t);
            return -1;
        }
    }
    return 0;
}

/* ---- what an answer says ---- */

static const struct code_row {
    const char *name;
    enum error_code code;
    bool again;
} codes[] = {
    { "invalid", ERR_INVALID, false },        { "unauthenticated", ERR_UNAUTHENTICATED, false },
    { "forbidden", ERR_PERMISSION, false },   { "not_found", ERR_NOT_FOUND, false },
    { "conflict", ERR_EXISTS, false },        { "precondition", ERR_PRECONDITION, false },
    { "too_many", ERR_UNAVAILABLE, true },    { "unimplemented", ERR_UNIMPLEMENTED, false },
    { "unavailable", ERR_UNAVAILABLE, true }, { "deadline", ERR_DEADLINE, false },
    { "no_room", ERR_EXHAUSTED, false },
};

static const struct code_row *code_row(const char *name)
{
    for (size_t i = 0; name != NULL && i < ARRAY_SIZE(codes); i++) {
        if (strcmp(codes[i].name, name) == 0)
            return &codes[i];
    }
    return NULL;
}

/* The server's sentence, or what came instead. *ret_again: the same request may be answered later.
 */
static int judge(const struct vm_api *a, const struct answer *from, bool *ret_again,
                 struct error *err)
{
    AUTO_JSON json_t *body = NULL;

    *ret_again = false;
    if (from->failure != HTTP_WHOLE) {
        *ret_again = a->answered && from->failure != HTTP_TLS && from->failure != HTTP_TOO_BIG;
        return error_set(err, ERR_UNAVAILABLE, "%s: %s", a->base, from->problem);
    }
    if (from->body.bytes != NULL &&
        json_parse(from->body.bytes, from->body.len, "answer", &body, NULL) < 0)
        body = NULL;
    const json_t *e = json_object_get(body, "error");
    const char *text = json_string_value(json_object_get(e, "message"));
    const struct code_row *row = code_row(json_string_value(json_object_get(e, "code")));
    if (text == NULL) { /* a proxy's */
        *ret_again = from->status == 502 || from->status == 503 || from->status == 429;
        return error_set(err, ERR_UNAVAILABLE, "%s: HTTP status %ld without an answer of Coffer's",
                         a->base, from->status);
    }
    *ret_again = row != NULL && row->again;
    return error_set(err, row != NULL ? row->code : ERR_INTERNAL, "%s", text);
}

static void tell(struct vm_api *a, const struct error *why)
{
    if (!a->told)
        (void)fprintf(a->cli->notes, "cofferctl: waiting: %s\n", why->msg);
    a->told = true;
}

static bool fine(const struct answer *a)
{
    return a->failure == HTTP_WHOLE && a->status >= 200 && a->status < 300;
}

static bool is_find(const struct answer *a)
{
    return a->failure == HTTP_WHOLE && a->status == 404 && a->body.bytes != NULL &&
           strstr(a->body.bytes, "\"nonexistent\"") != NULL;
}

/* One attempt. 0: *ret has a good answer; -1 and *ret_again. */
static int attempt(struct vm_api *a, const struct request *q, struct answer *ret, bool *ret_again,
                   struct error *err)
{
    *ret_again = false;
    if (send_once(a, q, ret, err) < 0)
        return -1;
    a->answered = a->answered || ret->failure == HTTP_WHOLE;
    return fine(ret) || is_find(ret) ? 0 : judge(a, ret, ret_again, err);
}

/* make_proof: of each attempt, anew; NULL: none. */
static int ask(struct vm_api *a, struct request *q,
               int (*make_proof)(struct vm_api *a, const struct request *q, struct strbuf *ret,
                                 bool *ret_again, struct error *err),
               struct answer *ret, struct error *err)
{
    for (;;) {
        AUTO_STRBUF struct strbuf proof = STRBUF_INIT(PROOF_MAX);
        struct error why = ERROR_INIT;
        bool again = false;
        int r = make_proof == NULL ? 0 : make_proof(a, q, &proof, &again, &why);

        q->proof = make_proof == NULL ? NULL : strbuf_text(&proof);
        if (r == 0)
            r = attempt(a, q, ret, &again, &why);
        if (r == 0)
            return 0;
        answer_release(ret);
        *ret = (struct answer){ .done = false };
        if (!again || deadline_left(a->deadline) < AGAIN_MS)
            return error_pass(err, &why);
        tell(a, &why);
        if (vm_api_pause(a, AGAIN_MS, err) < 0)
            return -1;
    }
}

static int parse_body(const struct answer *from, json_t **ret, struct error *err)
{
    const char *text = from->body.bytes == NULL ? "" : from->body.bytes;

    if (json_parse(text, from->body.len, "the server's answer", ret, err) < 0)
        return error_recode(err, ERR_UNAVAILABLE);
    return 0;
}

/* ---- the device's proof ---- */

/* {"challenge", "secret", "expires"} */
static int prove_with(struct vm_api *a, json_t *answer, const struct request *q, struct strbuf *ret,
                      struct error *err)
{
    char challenge[1024], secret[DEVICE_WRAPPED_SIZE];
    uint64_t expires;
    struct json_reader r = json_reader_of(answer, "the server's challenge");
    const struct device_challenge c = { challenge, secret };
    const struct device_request proved = { q->method, q->path, q->body == NULL ? "" : q->body,
                                           q->body == NULL ? 0 : strlen(q->body) };

    json_get_string(&r, "challenge", challenge, sizeof(challenge));
    json_get_string(&r, "secret", secret, sizeof(secret));
    json_get_u64(&r, "expires", &expires);
    if (json_reader_done(&r, err) < 0)
        return error_recode(err, ERR_UNAVAILABLE);
    return device_proof(a->key, &c, &proved, ret, err);
}

static char *text_of(const json_t *body)
{
    return json_text(body, JSON_COMPACT);
}

static void text_free(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

static void cleanup_text(char **text)
{
    text_free(*text);
}
#define AUTO_TEXT __attribute__((cleanup(cleanup_text)))

static int prove(struct vm_api *a, const struct request *q, struct strbuf *ret, bool *ret_again,
                 struct error *err)
{
    AUTO_JSON json_t *body = json_pack("{s:s, s:s}", "publicKey", device_key_public(a->key),
                                       "algorithm", DEVICE_ALGORITHM);
    AUTO_TEXT char *text = text_of(body);
    AUTO_ANSWER struct answer answer = { .done = false };
    AUTO_JSON json_t *got = NULL;
    const struct request r = { .method = "POST", .path = "/v1/challenges", .body = text };

    if (text == NULL)
        return error_memory(err);
    if (attempt(a, &r, &answer, ret_again, err) < 0)
        return -1;
    *ret_again = false;
    return parse_body(&answer, &got, err) < 0 ? -1 : prove_with(a, got, q, ret, err);
}

/* ---- what verbs call ---- */

int vm_api_get(struct vm_api *a, const char *path, long *ret_status, json_t **ret,
               struct error *err)
{
    AUTO_ANSWER struct answer answer = { .done = false };
    struct request q = { .method = "GET", .path = path };

    if (ask(a, &q, NULL, &answer, err) < 0 || parse_body(&answer, ret, err) < 0)
        return -1;
    *ret_status = answer.status;
    return 0;
}

int vm_api_text(struct vm_api *a, const char *path, char **ret, struct error *err)
{
    AUTO_ANSWER struct answer answer = { .done = false };
    struct request q = { .method = "GET", .path = path };

    if (ask(a, &q, NULL, &answer, err) < 0)
        return -1;
    *ret = strdup(answer.body.bytes == NULL ? "" : answer.body.bytes);
    return *ret == NULL ? error_memory(err) : 0;
}

int vm_api_call(struct vm_api *a, const char *method, const char *path, const json_t *body,
                json_t **ret, struct error *err)
{
    AUTO_ANSWER struct answer answer = { .done = false };
    AUTO_TEXT char *text = body == NULL ? NULL : text_of(body);
    AUTO_JSON json_t *got = NULL;
    char whole[256];
    struct request q = { .method = method, .path = whole, .body = text };

    if (body != NULL && text == NULL)
        return error_memory(err);
    (void)snprintf(whole, sizeof(whole), "/v1/clouds/%s%s", device_key_name(a->key), path);
    if (ask(a, &q, prove, &answer, err) < 0 || parse_body(&answer, &got, err) < 0)
        return -1;
    if (ret != NULL)
        *ret = TAKE_PTR(got);
    return 0;
}
