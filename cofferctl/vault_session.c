/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_session.h"

#include "common/deadline.h"

#define ANSWER_MS 30000u

struct vault_session {
    struct event_loop *loop;
    struct vault *vault;
};

int vault_session_open(const struct vault_options *o, struct vault_session **ret, struct error *err)
{
    AUTO_VAULT_SESSION struct vault_session *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return error_memory(err);
    if (event_loop_new(&s->loop, err) < 0 || vault_new(s->loop, o, &s->vault, err) < 0)
        return -1;
    *ret = TAKE_PTR(s);
    return 0;
}

static void on_stopped(void *ctx)
{
    *(bool *)ctx = true;
}

static void stop(struct vault_session *s)
{
    struct error err = ERROR_INIT;
    bool stopped = false;

    vault_stop(s->vault, on_stopped, &stopped);
    while (!stopped && event_loop_turn(s->loop, deadline_in(ANSWER_MS), &err) == 0)
        continue;
}

void vault_session_close(struct vault_session *s)
{
    if (s == NULL)
        return;
    if (s->vault != NULL)
        stop(s);
    vault_free(s->vault);
    if (s->loop != NULL)
        event_loop_free(s->loop);
    free(s);
}

struct question {
    bool answered;
    struct error err;
    json_t *body;
};

static void on_answer(void *ctx, const struct vault_answer *answer)
{
    struct question *q = ctx;

    q->answered = true;
    q->err = answer->err;
    if (answer->err.code != ERR_OK && answer->status == 404)
        (void)error_recode(&q->err, ERR_NOT_FOUND);
    if (answer->err.code == ERR_OK && answer->body != NULL)
        q->body = json_incref((json_t *)(uintptr_t)answer->body);
}

static int ask(struct vault_session *s, const struct vault_request *r, json_t **ret,
               struct error *err)
{
    struct question q = { .err = ERROR_INIT };

    vault_call(s->vault, r, on_answer, &q);
    while (!q.answered) {
        if (event_loop_turn(s->loop, deadline_in(ANSWER_MS), err) < 0)
            return -1;
    }
    if (q.err.code != ERR_OK)
        return error_pass(err, &q.err);
    *ret = q.body;
    return 0;
}

int vault_session_get(struct vault_session *s, const char *path, json_t **ret, struct error *err)
{
    const struct vault_request r = {
        .method = "GET", .path = path, .deadline = deadline_in(ANSWER_MS), .probe = true
    };

    return ask(s, &r, ret, err);
}

int vault_session_read(struct vault_session *s, const char *path, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *answer = NULL;
    struct error problem = ERROR_INIT;

    if (vault_session_get(s, path, &answer, &problem) < 0) {
        if (problem.code != ERR_NOT_FOUND)
            return error_pass(err, &problem);
        *ret = NULL;
        return 0;
    }
    json_t *data = json_object_get(answer, "data");
    if (!json_is_object(data))
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer to %s has no data", path);
    *ret = json_incref(data);
    return 0;
}

int vault_session_post(struct vault_session *s, const char *path, const json_t *body,
                       unsigned wrap_ttl_s, json_t **ret, struct error *err)
{
    const struct vault_request r = { .method = "POST",
                                     .path = path,
                                     .body = body,
                                     .deadline = deadline_in(ANSWER_MS),
                                     .probe = true,
                                     .wrap_ttl_s = wrap_ttl_s };

    return ask(s, &r, ret, err);
}

int vault_session_write(struct vault_session *s, const char *path, const json_t *body,
                        struct error *err)
{
    AUTO_JSON json_t *answer = NULL;

    return vault_session_post(s, path, body, 0, &answer, err);
}

int vault_session_call(struct vault_session *s, const char *path, const json_t *body, json_t **ret,
                       struct error *err)
{
    const struct vault_request r = { .method = body == NULL ? "GET" : "POST",
                                     .path = path,
                                     .body = body,
                                     .deadline = deadline_in(ANSWER_MS) };

    return ask(s, &r, ret, err);
}

int vault_session_pause(struct vault_session *s, uint64_t ms, struct error *err)
{
    uint64_t until = deadline_in(ms);

    while (deadline_left(until) > 0) {
        if (event_loop_turn(s->loop, until, err) < 0)
            return -1;
    }
    return 0;
}

int vault_session_anonymous(struct vault_session *s, const char *path, json_t **ret,
                            struct error *err)
{
    const struct vault_request r = {
        .method = "GET", .path = path, .deadline = deadline_in(ANSWER_MS), .anonymous = true
    };

    return ask(s, &r, ret, err);
}
