/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as a listener hands it on: the first line is METHOD, a space and the target, the second
 * one Content-Type, the third Coffer-Proof, the rest the body. Whatever comes is answered: by a
 * status that HTTP has, and a body that says what it is of; nothing waits, and no cloud is made by
 * a request that nobody proved.
 *
 * covers: scheduler/routes.c scheduler/reply.c scheduler/answer.c
 * but: answer_* add_* api_device_of out_of_memory (of clouds, which are there for a proof alone)
 */
#include "tests/fuzz/target.h"

#include "common/deadline.h"
#include "common/json.h"
#include "scheduler/api.h"
#include "scheduler/driver_stub.h"

#define OPTIONS                                                                    \
    "{\"nodes\":[{\"name\":\"n1\",\"memory\":1073741824,\"storage\":1073741824}]," \
    "\"server_key\":{\"key_id\":\"k:1\",\"hash\":\"SHA-256\",\"public_key\":\"AAAA\"}}"

static struct scheduler scheduler;

static void start(void)
{
    static struct scheduler_config config = { .url = "https://c.example/", .memory = 1, .size = 1 };

    config.driver = &driver_stub_ops;
    must(json_parse(OPTIONS, strlen(OPTIONS), "options", &config.options, NULL) == 0);
    scheduler.request_ms = 1000;
    must(scheduler_init(&scheduler, &config, NULL) == 0);
    scheduler_round(&scheduler);
}

/* Cuts the next line off. */
static char *line(char **rest)
{
    char *start_of = *rest, *end = strchr(*rest, '\n');

    if (end == NULL)
        return NULL;
    *end = '\0';
    *rest = end + 1;
    return start_of;
}

static void must_be_answer(const struct reply *r)
{
    AUTO_JSON json_t *value = NULL;

    must(r->status >= 200 && r->status < 600 && r->status != 500 && r->type != NULL);
    if (strcmp(r->type, "application/json") != 0)
        return;
    must(json_parse(r->body, r->len, "answer", &value, NULL) == 0);
    must((json_object_get(value, "error") != NULL) ==
         (r->status >= 400 && json_object_get(value, "status") == NULL));
}

static void ask(char *text, size_t len)
{
    char *rest = text, *first = line(&rest), *type = line(&rest), *proof = line(&rest), *target;
    AUTO_REPLY struct reply reply = REPLY_INIT;
    struct waiter waiter = { .done = NULL };

    if (proof == NULL || (target = strchr(first, ' ')) == NULL)
        return;
    *target++ = '\0';
    const struct api_request q = { .door = first[0] == '!' ? DOOR_ADMIN : DOOR_PUBLIC,
                                   .method = first[0] == '!' ? first + 1 : first,
                                   .target = target,
                                   .content_type = type[0] != '\0' ? type : NULL,
                                   .proof = proof[0] != '\0' ? proof : NULL,
                                   .body = { .data = rest, .len = len - (size_t)(rest - text) } };
    must(api_handle(&scheduler, &q, &reply, &waiter));
    must_be_answer(&reply);
    must(cloud_table_size(scheduler.table) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (scheduler.config == NULL)
        start();
    text = malloc(size + 1);
    must(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    scheduler.round_at = clock_ms(); /* its facts are never old */
    ask(text, size);
    free(text);
    return 0;
}
