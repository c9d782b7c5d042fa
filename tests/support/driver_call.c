/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_call.c: calls a scheduler's driver as the scheduler would, for tests:
 *   driver-call CONFIG [KEYD-SOCKET KMS]
 * reads JSON lines {"call": "create_volume", "id": ..., ...} and answers one line for each:
 * {"ok": true, ...} or {"error": {"code": "EXISTS", "message": ...}}. "seconds" is the deadline.
 */
#include "common/base.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/json.h"
#include "common/strbuf.h"
#include "http/client.h"
#include "scheduler/config.h"
#include "scheduler/driver.h"

#define SECONDS 600

struct call {
    const struct driver_ops *ops;
    struct driver *d;
    json_t *in;
    json_t *out;
    const char *id;
    struct cloud cloud; /* find's */
    uint64_t deadline;
};

static const char *text(const json_t *obj, const char *key)
{
    const char *value = json_string_value(json_object_get(obj, key));

    return value != NULL ? value : "";
}

static json_t *cloud_json(const struct cloud *c)
{
    static const char *const vms[] = { "none", "starting", "ready", "failed" };
    json_t *devices = json_array();

    for (size_t i = 0; i < c->n_devices; i++)
        (void)json_array_append_new(
            devices, json_pack("{s:s, s:s, s:s}", "name", c->devices[i].name, "fingerprint",
                               c->devices[i].fingerprint, "wrapped", c->devices[i].wrapped));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:s, s:s, s:o}", "id", c->id,
                     "volume", c->volume, "uuid", c->uuid, "commitment", c->commitment, "node",
                     c->node, "unread", c->unread, "ever_opened", c->ever_opened, "open", c->open,
                     "unsettled", c->unsettled, "vm", vms[c->vm], "reason", c->reason, "devices",
                     devices);
}

static bool add_cloud(void *ctx, const struct cloud *c)
{
    (void)json_array_append_new(ctx, cloud_json(c));
    return true;
}

static int do_each(struct call *c, struct error *err)
{
    json_t *list = json_array();

    (void)json_object_set_new(c->out, "clouds", list);
    return c->ops->each(c->d, c->deadline, add_cloud, list, err);
}

static int do_find(struct call *c, struct error *err)
{
    AUTO_CLOUD struct cloud found = { .devices = NULL };

    if (c->ops->find(c->d, c->id, "", c->deadline, &found, err) < 0)
        return -1;
    return json_object_set_new(c->out, "cloud", cloud_json(&found));
}

static int do_nodes(struct call *c, struct error *err)
{
    AUTO_FREE struct place_node *nodes = NULL;
    json_t *list = json_array();
    size_t n = 0;

    (void)json_object_set_new(c->out, "nodes", list);
    if (c->ops->nodes(c->d, c->deadline, &nodes, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:b, s:I, s:I, s:I, s:i}", "name", nodes[i].name, "schedulable",
                            nodes[i].schedulable, "memory", (json_int_t)nodes[i].memory,
                            "memory_used", (json_int_t)nodes[i].memory_used, "storage_free",
                            (json_int_t)nodes[i].storage_free, "vms", (int)nodes[i].vms));
    return 0;
}

static int do_server_key(struct call *c, struct error *err)
{
    struct cloud_server_key key;

    if (c->ops->server_key(c->d, c->deadline, &key, err) < 0)
        return -1;
    (void)json_object_set_new(c->out, "serverKey",
                              json_pack("{s:s, s:s, s:s}", "keyId", key.key_id, "hash", key.hash,
                                        "publicKey", key.public_key));
    return 0;
}

static int do_create(struct call *c, struct error *err)
{
    const json_t *s = json_object_get(c->in, "seed");
    const struct cloud_seed seed = { .name = text(s, "name"),
                                     .fingerprint = text(s, "fingerprint"),
                                     .uuid = text(s, "uuid"),
                                     .commitment = text(s, "commitment"),
                                     .public_key = text(s, "publicKey"),
                                     .algorithm = text(s, "algorithm"),
                                     .wrapped = text(s, "wrapped"),
                                     .label = text(s, "label") };

    return c->ops->create_volume(c->d, c->id, text(c->in, "node"), &seed, c->deadline, err);
}

static struct cloud_session session_of(const json_t *in)
{
    return (struct cloud_session){ .session = text(in, "session"),
                                   .server_key = text(in, "serverKey"),
                                   .fingerprint = text(in, "fingerprint") };
}

static int do_attach(struct call *c, struct error *err)
{
    const struct cloud_session s = session_of(c->in);

    return c->ops->attach(c->d, &c->cloud, &s, c->deadline, err);
}

static int do_start(struct call *c, struct error *err)
{
    return c->ops->start(c->d, &c->cloud, c->deadline, err);
}

static int do_ready(struct call *c, struct error *err)
{
    bool ready = false;

    if (c->ops->ready(c->d, &c->cloud, c->deadline, &ready, err) < 0)
        return -1;
    return json_object_set_new(c->out, "ready", json_boolean(ready));
}

static int do_stop(struct call *c, struct error *err)
{
    return c->ops->stop(c->d, &c->cloud, c->deadline, err);
}

static int do_detach(struct call *c, struct error *err)
{
    return c->ops->detach(c->d, &c->cloud, c->deadline, err);
}

static int do_delete(struct call *c, struct error *err)
{
    return c->ops->delete_volume(c->d, &c->cloud, c->deadline, err);
}

static int copy(const json_t *from, const char *key, char *to, size_t size, struct error *err)
{
    return str_copy(to, size, text(from, key)) < 0
               ? error_set(err, ERR_INVALID, "'%s' is too long", key)
               : 0;
}

static int do_add(struct call *c, struct error *err)
{
    const json_t *in = json_object_get(c->in, "device");
    const struct cloud_session s = session_of(c->in);
    struct device add = { .label = "" };

    if (copy(in, "name", add.name, sizeof(add.name), err) < 0 ||
        copy(in, "fingerprint", add.fingerprint, sizeof(add.fingerprint), err) < 0 ||
        copy(in, "algorithm", add.algorithm, sizeof(add.algorithm), err) < 0 ||
        copy(in, "label", add.label, sizeof(add.label), err) < 0 ||
        copy(in, "publicKey", add.public_key, sizeof(add.public_key), err) < 0 ||
        copy(in, "wrapped", add.wrapped, sizeof(add.wrapped), err) < 0)
        return -1;
    return c->ops->add_device(c->d, &c->cloud, &add, &s, c->deadline, err);
}

static int do_remove(struct call *c, struct error *err)
{
    const struct cloud_session s = session_of(c->in);
    const json_t *in = json_object_get(c->in, "key");
    const struct cloud_new_key key = { .session = session_of(in),
                                       .commitment = text(in, "commitment"),
                                       .recipients = text(in, "recipients") };

    return c->ops->remove_device(c->d, &c->cloud, text(c->in, "remove"), &s, &key, c->deadline,
                                 err);
}

static int do_settle(struct call *c, struct error *err)
{
    return c->ops->settle(c->d, &c->cloud, c->deadline, err);
}

static const struct call_row {
    const char *name;
    bool finds; /* it wants the cloud's facts */
    int (*run)(struct call *c, struct error *err);
} calls[] = {
    { "each", false, do_each },
    { "find", false, do_find },
    { "nodes", false, do_nodes },
    { "server_key", false, do_server_key },
    { "create_volume", false, do_create },
    { "attach", true, do_attach },
    { "start", true, do_start },
    { "ready", true, do_ready },
    { "stop", true, do_stop },
    { "detach", true, do_detach },
    { "delete_volume", true, do_delete },
    { "add_device", true, do_add },
    { "remove_device", true, do_remove },
    { "settle", true, do_settle },
};

static int run(struct call *c, struct error *err)
{
    const char *name = text(c->in, "call");

    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        if (strcmp(calls[i].name, name) != 0)
            continue;
        if (calls[i].finds && c->ops->find(c->d, c->id, "", c->deadline, &c->cloud, err) < 0)
            return -1;
        return calls[i].run(c, err);
    }
    return error_set(err, ERR_INVALID, "there is no call '%s'", name);
}

static void answer(const struct driver_ops *ops, struct driver *d, const char *line)
{
    AUTO_JSON json_t *in = NULL, *out = json_pack("{s:b}", "ok", 1);
    struct error err = ERROR_INIT;
    char *shown;

    if (json_parse(line, strlen(line), "the call", &in, &err) == 0) {
        json_int_t seconds = json_integer_value(json_object_get(in, "seconds"));
        struct call c = { .ops = ops,
                          .d = d,
                          .in = in,
                          .out = out,
                          .id = text(in, "id"),
                          .deadline =
                              deadline_in((uint64_t)(seconds > 0 ? seconds : SECONDS) * 1000) };

        (void)run(&c, &err);
        cloud_clear(&c.cloud);
    }
    if (err.code != ERR_OK) {
        (void)json_object_clear(out);
        (void)json_object_set_new(
            out, "error",
            json_pack("{s:s, s:s}", "code", error_code_name(err.code), "message", err.msg));
    }
    shown = json_text(out, JSON_COMPACT);
    (void)printf("%s\n", shown);
    (void)fflush(stdout);
    free(shown);
}

int main(int argc, char **argv)
{
    AUTO_SCHEDULER_CONFIG struct scheduler_config *config = NULL;
    AUTO_FREE char *line = NULL;
    struct error err = ERROR_INIT;
    struct driver *d = NULL;
    size_t cap = 0;

    if (argc < 2 || http_global_init(&err) < 0 ||
        scheduler_config_load(argv[1], &config, &err) < 0) {
        (void)fprintf(stderr, "driver-call: %s\n", err.msg);
        return 1;
    }
    if (argc > 3) {
        config->keyd_socket = argv[2];
        config->kms = argv[3];
    }
    if (config->driver->open(config->options, config, &d, &err) < 0) {
        (void)fprintf(stderr, "driver-call: %s\n", err.msg);
        return 1;
    }
    while (getline(&line, &cap, stdin) > 0)
        answer(config->driver, d, line);
    config->driver->close(d);
    return 0;
}
