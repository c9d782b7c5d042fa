/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of requests: the first byte says of which one. What is taken has the shapes that the rest
 * of the scheduler builds on; what is refused has one sentence, which quotes nothing of a value.
 *
 * covers: scheduler/body.c
 */
#include "tests/fuzz/target.h"

#include "common/b64.h"
#include "scheduler/body.h"

static void must_be_device(const struct device *d)
{
    must(device_name_valid(d->name) && device_name_valid(d->fingerprint));
    must(strncmp(d->algorithm, "RSA-OAEP-", 9) == 0 && d->wrapped[0] != '\0');
    must(is_plain(d->label, strlen(d->label)));
}

static void must_be_session(const struct operation_input *in, bool needed)
{
    must((in->session == NULL) == (in->server_key == NULL));
    must(!needed || in->session != NULL);
    must(in->session == NULL || in->session[0] != '\0');
}

static int deploy(const struct body *b, struct operation *op, struct error *err)
{
    char volume[CLOUD_HANDLE_MAX + 1];

    if (body_deploy(b, op, volume, err) < 0)
        return -1;
    must_be_device(&op->input.device);
    must_be_session(&op->input, false);
    must(uuid_valid(op->input.uuid) && device_name_valid(op->input.commitment));
    return 0;
}

static int mount(const struct body *b, struct operation *op, struct error *err)
{
    if (body_mount(b, op, err) < 0)
        return -1;
    must_be_session(&op->input, true);
    return 0;
}

static int add(const struct body *b, struct operation *op, struct error *err)
{
    if (body_add(b, op, err) < 0)
        return -1;
    must_be_device(&op->input.device);
    must_be_session(&op->input, true);
    return 0;
}

static int take_away(const struct body *b, struct operation *op, struct error *err)
{
    char name[DEVICE_NAME_LEN + 1];

    if (body_remove(b, op, name, err) < 0)
        return -1;
    must(device_name_valid(name) && device_name_valid(op->input.new_commitment));
    must(op->input.new_session != NULL && op->input.new_recipients[0] == '[');
    must_be_session(&op->input, true);
    return 0;
}

static int challenge(const struct body *b, struct operation *op UNUSED, struct error *err)
{
    struct body_challenge c = { .key = NULL };

    if (body_challenge(b, &c, err) < 0)
        return -1;
    must(device_name_valid(c.name) && c.algorithm != NULL);
    public_key_free(c.key);
    return 0;
}

static int empty(const struct body *b, struct operation *op UNUSED, struct error *err)
{
    return body_empty(b, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const bodies[])(const struct body *, struct operation *, struct error *) = {
        deploy, mount, add, take_away, challenge, empty
    };
    AUTO_OPERATION struct operation *op = NULL;
    struct error err = ERROR_INIT;

    if (size == 0 || size > BODY_MAX)
        return 0;
    const struct body b = { .data = (const char *)data + 1, .len = size - 1 };
    must(operation_new(OPERATION_CREATE, "", &op, NULL) == 0);
    if (bodies[data[0] % ARRAY_SIZE(bodies)](&b, op, &err) < 0)
        must_be_sentence(&err);
    return 0;
}
