/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/launch_client.h"

#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "scheduler/unix_connect.h"

#include <sys/socket.h>

#define REPLY_MAX MIB(8) /* some 50,000 VMs */

/* ---- one question ---- */

static int read_reply(int fd, uint64_t deadline, struct strbuf *to, struct error *err)
{
    char part[4096];
    size_t n;

    do {
        if (unix_read(fd, part, sizeof(part), deadline, &n, err) < 0)
            return -1;
        strbuf_add(to, part, n);
    } while (n > 0);
    return strbuf_check(to, "its answer", err);
}

static int exchange(const char *path, json_t *request, uint64_t deadline, struct strbuf *reply,
                    struct error *err)
{
    AUTO_FREE char *text = json_text(request, JSON_COMPACT);
    AUTO_CLOSE int fd = -1;

    if (text == NULL)
        return error_memory(err);
    if (unix_connect(path, deadline, &fd, err) < 0 ||
        unix_write(fd, text, strlen(text), deadline, err) < 0)
        return -1;
    (void)shutdown(fd, SHUT_WR);
    if (read_reply(fd, deadline, reply, err) < 0)
        return -1;
    return reply->len > 0 ? 0 : error_set(err, ERR_UNAVAILABLE, "it ended without an answer");
}

/* {"error":{"code":"PRECONDITION","message":"..."}} */
static int refusal(json_t *error, struct error *err)
{
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));
    enum error_code known = code != NULL ? error_code_from_name(code) : ERR_INTERNAL;

    return error_set(err, known == ERR_OK ? ERR_INTERNAL : known, "%s",
                     message != NULL ? message : "it gave no reason");
}

static int parse_reply(const struct strbuf *text, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *reply = NULL;
    json_t *error;

    if (json_parse(strbuf_text(text), text->len, "its answer", &reply, err) < 0)
        return error_recode(err, ERR_INTERNAL);
    error = json_object_get(reply, "error");
    if (error != NULL)
        return refusal(error, err);
    if (!json_is_true(json_object_get(reply, "ok")))
        return error_set(err, ERR_INTERNAL, "its answer is neither ok nor an error");
    *ret = TAKE_PTR(reply);
    return 0;
}

/* request: taken. */
static int ask(const char *path, json_t *request, uint64_t deadline, json_t **ret,
               struct error *err)
{
    AUTO_JSON json_t *owned = request;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(REPLY_MAX);

    if (owned == NULL)
        return error_memory(err);
    if (exchange(path, owned, deadline, &text, err) < 0 || parse_reply(&text, ret, err) < 0)
        return error_prefix(err, "coffer-launch");
    return 0;
}

/* ---- the verbs ---- */

int launch_start(const char *socket_path, const char *id, uint64_t deadline, bool *ret_started,
                 struct error *err)
{
    AUTO_JSON json_t *reply = NULL;

    if (ask(socket_path, json_pack("{s:s, s:s}", "verb", "start", "id", id), deadline, &reply,
            err) < 0)
        return -1;
    *ret_started = json_is_true(json_object_get(reply, "started"));
    return 0;
}

int launch_stop(const char *socket_path, const char *id, uint64_t grace_ms, uint64_t deadline,
                struct error *err)
{
    AUTO_JSON json_t *reply = NULL;

    return ask(
        socket_path,
        json_pack("{s:s, s:s, s:I}", "verb", "stop", "id", id, "grace_ms", (json_int_t)grace_ms),
        deadline, &reply, err);
}

static int read_vm(json_t *obj, struct launch_vm *ret, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "coffer-launch's list");
    struct launch_vm vm = { .running = false };
    char state[16];

    json_get_string(&r, "id", vm.id, sizeof(vm.id));
    json_get_string(&r, "state", state, sizeof(state));
    json_get_string(&r, "status", vm.status, sizeof(vm.status));
    json_get_u64(&r, "pid", &vm.pid);
    json_get_u64(&r, "uid", &vm.uid);
    json_get_u64(&r, "memory", &vm.memory);
    if (json_reader_done(&r, err) < 0)
        return error_recode(err, ERR_INTERNAL);
    vm.running = strcmp(state, "running") == 0;
    if (!hex_lower_valid(vm.id, CLOUD_ID_LEN) || (!vm.running && strcmp(state, "exited") != 0))
        return error_set(err, ERR_INTERNAL, "coffer-launch's list has an entry that is no VM");
    *ret = vm;
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(((const struct launch_vm *)a)->id, ((const struct launch_vm *)b)->id);
}

int launch_list(const char *socket_path, uint64_t deadline, struct launch_vm **ret, size_t *ret_n,
                struct error *err)
{
    AUTO_JSON json_t *reply = NULL;
    AUTO_FREE struct launch_vm *list = NULL;
    json_t *vms, *item;
    size_t i;

    if (ask(socket_path, json_pack("{s:s}", "verb", "list"), deadline, &reply, err) < 0)
        return -1;
    vms = json_object_get(reply, "vms");
    if (!json_is_array(vms))
        return error_set(err, ERR_INTERNAL, "coffer-launch's list has no VMs");
    list = calloc(json_array_size(vms) + 1, sizeof(*list));
    if (list == NULL)
        return error_memory(err);
    json_array_foreach (vms, i, item)
        if (read_vm(item, &list[i], err) < 0)
            return -1;
    qsort(list, i, sizeof(*list), compare_ids);
    *ret = TAKE_PTR(list);
    *ret_n = i;
    return 0;
}

const struct launch_vm *launch_vm_find(const struct launch_vm *list, size_t n, const char *id)
{
    struct launch_vm key = { .running = false };

    if (n == 0 || str_copy(key.id, sizeof(key.id), id) < 0)
        return NULL;
    return bsearch(&key, list, n, sizeof(key), compare_ids);
}
