/* SPDX-License-Identifier: Apache-2.0 */
/* Which path is what, and what every request is asked for before its handler. What the handlers do:
 * tests/component/scheduler*.py. */
#include "common/base.h"
#include "scheduler/api.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "tests/unit/scheduler/played_driver.h"

#include <dlfcn.h>

#define CLOUD "/v1/clouds/" DEVICE

static struct scheduler *const s = &played_scheduler;

/* Takes the status, the code and the sentence of an answer; "" without an error. */
struct got {
    unsigned int status;
    char code[32], message[256], allow[32];
};

static struct got ask(enum api_door door, const char *method, const char *target, const char *type,
                      const char *proof, const char *body, size_t len)
{
    const struct api_request q = { .door = door,
                                   .method = method,
                                   .target = target,
                                   .content_type = type,
                                   .proof = proof,
                                   .body = { .data = body, .len = len } };
    AUTO_REPLY struct reply r = REPLY_INIT;
    struct waiter w = { .done = NULL };
    struct got got = { .status = 0 };

    assert_true(api_handle(s, &q, &r, &w));
    AUTO_JSON json_t *answer = NULL;
    struct error no_json = ERROR_INIT; /* a page of the admin's is text */
    (void)!json_parse(r.body, r.len, "the answer", &answer, &no_json);
    const json_t *error = json_object_get(answer, "error");
    got.status = r.status;
    memcpy(got.allow, r.allow, sizeof(got.allow));
    if (error != NULL) {
        (void)snprintf(got.code, sizeof(got.code), "%s",
                       json_string_value(json_object_get(error, "code")));
        (void)snprintf(got.message, sizeof(got.message), "%s",
                       json_string_value(json_object_get(error, "message")));
    }
    return got;
}

static struct got get(const char *target)
{
    return ask(DOOR_PUBLIC, "GET", target, NULL, NULL, NULL, 0);
}

static struct got post(const char *target, const char *type, const char *proof, const char *body)
{
    return ask(DOOR_PUBLIC, "POST", target, type, proof, body, strlen(body));
}

static void assert_got(struct got got, unsigned int status, const char *code, const char *message)
{
    assert_string_equal(got.message, message);
    assert_string_equal(got.code, code);
    assert_int_equal(got.status, status);
}

/* ---- paths ---- */

static void test_every_route(void **state UNUSED)
{
    scheduler_round(s);
    for (size_t i = 0; i < api_n_routes; i++) {
        const struct api_route *r = &api_routes[i];
        const char *open = strchr(r->path, '{');
        char target[200];
        struct got got;

        if (open != NULL)
            (void)snprintf(target, sizeof(target), "%.*s%s%s", (int)(open - r->path), r->path,
                           r->door == DOOR_PUBLIC ? DEVICE : ID, strchr(open, '}') + 1);
        else
            (void)snprintf(target, sizeof(target), "%s", r->path);
        got = ask(r->door, r->method, target, "application/json", NULL, "{", r->body ? 1 : 0);
        /* it got as far as what it is asked for first */
        if (r->proof)
            assert_int_equal(got.status, 401);
        else if (r->body)
            assert_int_equal(got.status, 400);
        else
            assert_true(got.status == 200 || strcmp(got.code, "") == 0);
        got = ask(r->door == DOOR_PUBLIC ? DOOR_ADMIN : DOOR_PUBLIC, r->method, target, NULL, NULL,
                  NULL, 0);
        assert_got(got, 404, "not_found", "there is no such path"); /* each door has its own */
        assert_true(r->method[0] == 'G' || r->proof || strcmp(r->path, "/v1/challenges") == 0);
    }
}

static void test_no_such_path(void **state UNUSED)
{
    static const char *const paths[] = {
        "/",           "",          "/v1",          "/v1/clouds",  "/v1/clouds/",
        CLOUD "/",     CLOUD "/x",  CLOUD "/lock/", "//v1/clouds", "/v1/openapi.jsonx",
        "/V1/clouds/", "v1/clouds", CLOUD "x/lockx"
    };
    char target[TARGET_MAX + 2];

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        assert_got(get(paths[i]), 404, "not_found", "there is no such path");
    memset(target, 'a', sizeof(target));
    target[0] = '/';
    target[sizeof(target) - 1] = '\0';
    assert_got(get(target), 404, "not_found", "there is no such path");
    target[TARGET_MAX] = '\0'; /* as long as it may be */
    assert_got(get(target), 404, "not_found", "there is no such path");
}

static void test_methods(void **state UNUSED)
{
    struct got got = ask(DOOR_PUBLIC, "PUT", CLOUD, NULL, NULL, NULL, 0);

    assert_got(got, 405, "method_not_allowed", "this path takes GET, DELETE alone");
    assert_string_equal(got.allow, "GET, DELETE");
    got = get(CLOUD "/lock");
    assert_got(got, 405, "method_not_allowed", "this path takes POST alone");
    assert_string_equal(got.allow, "POST");
    got = ask(DOOR_PUBLIC, "get", CLOUD, NULL, NULL, NULL, 0);
    assert_int_equal(got.status, 405);
}

static void test_names(void **state UNUSED)
{
    static const char capitals[] = "0123456789ABCDEF0123456789abcdef" ID;
    static const char *const wrong[] = { "x", ID, DEVICE "0", "..", capitals };
    char target[200];

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        (void)snprintf(target, sizeof(target), "/v1/clouds/%s", wrong[i]);
        assert_got(get(target), 400, "invalid",
                   "the device's name in the path must be 64 lower-case hex digits");
    }
    assert_got(ask(DOOR_ADMIN, "GET", "/admin/clouds/" DEVICE "/explain", NULL, NULL, NULL, 0), 400,
               "invalid", "the cloud's id in the path must be 32 lower-case hex digits");
}

static void test_the_device_of_a_target(void **state UNUSED)
{
    static const struct {
        const char *target, *want;
    } cases[] = {
        { CLOUD, DEVICE },
        { CLOUD "/lock", DEVICE },
        { CLOUD "?status=number", DEVICE },
        { CLOUD "0", "" },
        { "/v1/clouds/" ID, "" },
        { "/v1/clouds/", "" },
        { "/v2/clouds/" DEVICE, "" },
        { "", "" },
        { "/v1/challenges", "" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char name[DEVICE_NAME_LEN + 1] = "before";

        api_device_of(cases[i].target, name);
        assert_string_equal(name, cases[i].want);
    }
}

/* ---- what comes with it ---- */

static void test_queries(void **state UNUSED)
{
    static const char *const wrong[] = { "?", "?x", "?status=numbers", "?status=number&a=b",
                                         "?status=number?" };
    char target[200];

    scheduler_round(s);
    assert_int_equal(get(CLOUD "?status=number").status, 404);
    assert_string_equal(get(CLOUD "?status=string").code, ""); /* it is find's 404 */
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        (void)snprintf(target, sizeof(target), CLOUD "%s", wrong[i]);
        assert_got(get(target), 400, "invalid", "the query must be status=number or status=string");
    }
    assert_got(get("/v1/openapi.json?status=number"), 400, "invalid", "this path takes no query");
}

static void test_bodies(void **state UNUSED)
{
    AUTO_FREE char *text = calloc(1, BODY_MAX + 2);

    assert_non_null(text);
    memset(text, ' ', BODY_MAX + 1);
    assert_got(post("/v1/challenges", "application/json", NULL, text), 413, "too_large",
               "the request's body is longer than 16384 bytes");
    text[BODY_MAX] = '\0';
    assert_int_equal(post("/v1/challenges", "application/json", NULL, text).status, 400);
    assert_got(ask(DOOR_PUBLIC, "GET", CLOUD, NULL, NULL, "{}", 2), 400, "invalid",
               "this request takes no body");
    assert_got(ask(DOOR_PUBLIC, "DELETE", CLOUD, NULL, NULL, "{}", 2), 400, "invalid",
               "this request takes no body");
}

static void test_types(void **state UNUSED)
{
    static const char *const right[] = { "application/json", "Application/JSON",
                                         "application/json; charset=utf-8", "application/json\t" };
    static const char *const wrong[] = { "", "text/plain", "application/jsonx", "application/jso",
                                         "application/json+x" };

    for (size_t i = 0; i < ARRAY_SIZE(right); i++)
        assert_int_equal(post("/v1/challenges", right[i], NULL, "{").status, 400);
    for (size_t i = 0; i <= ARRAY_SIZE(wrong); i++)
        assert_got(post("/v1/challenges", i < ARRAY_SIZE(wrong) ? wrong[i] : NULL, NULL, "{"), 415,
                   "unsupported_media_type", "the header Content-Type must be application/json");
}

/* ---- proofs ---- */

static void prove(const char *device, const char *path, const char *body,
                  char ret[CHALLENGE_LEN + 1 + 2 * PROOF_SECRET_LEN + 1])
{
    const struct proof_request q = {
        .method = "POST", .path = path, .body = body, .body_len = strlen(body)
    };
    AUTO_SECRET struct secret *secret = NULL;
    unsigned char mac[PROOF_SECRET_LEN];

    assert_works(proofs_challenge(s->proofs, device, ret, &secret, &err));
    assert_works(proof_compute(secret, &q, mac, &err));
    ret[CHALLENGE_LEN] = ' ';
    hex_encode(ret + CHALLENGE_LEN + 1, mac, sizeof(mac));
}

static void test_proofs(void **state UNUSED)
{
    char proof[CHALLENGE_LEN + 1 + 2 * PROOF_SECRET_LEN + 1];
    unsigned long refused = atomic_load(&s->counters.proofs_refused);

    scheduler_round(s);
    assert_got(post(CLOUD "/lock", "application/json", NULL, "{}"), 401, "unauthenticated",
               "the header Coffer-Proof is missing");
    prove(DEVICE, CLOUD "/lock", "{}", proof);
    assert_got(post(CLOUD "/lock", "application/json", proof, "{ }"), 401, "unauthenticated",
               "the proof isn't of this request by the device's key");
    assert_got(post(CLOUD "/mount", "application/json", proof, "{}"), 401, "unauthenticated",
               "the proof isn't of this request by the device's key");
    assert_int_equal(atomic_load(&s->counters.proofs_refused), refused + 3);
    /* what is refused before the proof doesn't use it up */
    assert_int_equal(post(CLOUD "/lock", "text/plain", proof, "{}").status, 415);
    assert_int_equal(post(CLOUD "/lock?x", "application/json", proof, "{}").status, 400);
    assert_got(post(CLOUD "/lock", "application/json", proof, "{}"), 404, "not_found",
               "this device has no cloud");
    assert_got(post(CLOUD "/lock", "application/json", proof, "{}"), 401, "unauthenticated",
               "the challenge was used already");
    prove(OTHER OTHER, CLOUD "/lock", "{}", proof);
    assert_got(post(CLOUD "/lock", "application/json", proof, "{}"), 403, "forbidden",
               "the proof is of another device than the path's");
}

/* ---- a request that waits for an operation ---- */

static struct reply waits;

/* As exchange.c's: what the operation's thread does. */
static void answered(struct waiter *w UNUSED, const struct error *err)
{
    reply_error(&waits, err);
}

static bool at_once; /* the operation ends as soon as the lock is let go */

static void end_it(void)
{
    struct operation *op = played_entry(ID)->op;
    struct error why = ERROR_INIT;

    if (op == NULL || op->waiters == NULL)
        return;
    at_once = false;
    (void)error_set(&why, ERR_PRECONDITION, "the session is over");
    struct waiter *w = op->waiters;
    op->waiters = NULL;
    w->op = NULL;
    w->done(w, &why);
}

int pthread_mutex_unlock(pthread_mutex_t *m)
{
    int (*real)(pthread_mutex_t * m);
    void *found = dlsym(RTLD_NEXT, "pthread_mutex_unlock");

    memcpy(&real, &found, sizeof(real));
    int r = real(m);
    if (at_once && m == &s->lock)
        end_it();
    return r;
}

static bool remove_other(struct waiter *w)
{
    static const char body[] =
        "{\"name\":\"" OTHER OTHER "\",\"session\":\"AAAA\",\"serverKey\":\"k:1\","
        "\"newSession\":\"AAAA\",\"newServerKey\":\"k:1\",\"newCommitment\":\"" DEVICE "\","
        "\"newRecipients\":[]}";
    char proof[CHALLENGE_LEN + 1 + 2 * PROOF_SECRET_LEN + 1];
    const struct api_request q = { .door = DOOR_PUBLIC,
                                   .method = "POST",
                                   .target = CLOUD "/recipients/remove",
                                   .content_type = "application/json",
                                   .proof = proof,
                                   .body = { .data = body, .len = sizeof(body) - 1 } };

    prove(DEVICE, q.target, body, proof);
    return api_handle(s, &q, &waits, w);
}

/* Whatever the operation's thread writes into the reply meanwhile. */
static void test_a_waiter_that_was_given_away(void **state UNUSED)
{
    struct waiter w = { .done = answered };
    struct cloud *c = played_add(ID);
    struct device two[2];

    two[0] = two[1] = played_device;
    (void)snprintf(two[1].name, sizeof(two[1].name), "%s", OTHER OTHER);
    c->devices = two;
    c->n_devices = 2;
    scheduler_round(s);
    assert_false(remove_other(&w));
    assert_int_equal(waits.status, 0);
    assert_ptr_equal(w.op, played_entry(ID)->op);
    w.op->waiters = NULL;
    w.op = NULL;
    at_once = true;
    assert_false(remove_other(&w)); /* joins the first one */
    assert_false(at_once);
    assert_int_equal(waits.status, 412);
    reply_clear(&waits);
}

/* ---- what isn't known ---- */

/* Before a handler that needs to know clouds says anything of one. */
static void test_before_the_first_round(void **state UNUSED)
{
    assert_got(get(CLOUD), 503, "unavailable", "what clouds there are can't be told now");
    assert_int_equal(get("/v1/openapi.json").status, 200);
}

static void test_what_cant_be_read(void **state UNUSED)
{
    struct cloud *c = played_add(ID);

    c->unread = true;
    c->id[0] = '\0';
    scheduler_round(s);
    assert_got(get(CLOUD), 503, "unavailable",
               "the facts of cloud '" ID "' can't be read now; the log has the reason");
    assert_int_equal(get("/v1/clouds/" OTHER OTHER).status, 404);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_every_route),
        PLAYED_TEST(test_no_such_path),
        PLAYED_TEST(test_methods),
        PLAYED_TEST(test_names),
        PLAYED_TEST(test_the_device_of_a_target),
        PLAYED_TEST(test_queries),
        PLAYED_TEST(test_bodies),
        PLAYED_TEST(test_types),
        PLAYED_TEST(test_proofs),
        PLAYED_TEST(test_a_waiter_that_was_given_away),
        PLAYED_TEST(test_before_the_first_round),
        PLAYED_TEST(test_what_cant_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
