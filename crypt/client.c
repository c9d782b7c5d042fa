/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/client.h"

#include "common/blockdev.h"
#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "common/proc.h"
#include "common/strbuf.h"
#include "crypt/answer.h"
#include "crypt/descriptors.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX   32768u
#define REPLY_MAX     MIB(4) /* a list of some thousand mappings */
#define SLOTS_MAX     16
#define LOOK_LIMIT_MS 300000u /* after that a keyless helper is killed */
#define WORK_LIMIT_MS 600000u /* and one that uses a key: as long as mkfs may take */
#define WAIT_MAX_MS \
    60000u /* how long the helper itself may wait for its key or for a busy mapping */

/* One verb's call: what goes to the helper and what comes back. */
struct call {
    const struct crypt_client *client;
    const char *verb;
    uint64_t limit_ms; /* this kind of child's own limit */
    uint64_t deadline;
    json_t *request; /* borrowed */
    int key_fd, device_fd, lock_fd, out_fd, new_key_fd, private_key_fd;
};

/* --- at most so many helpers at once --- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    long used;
} slots = { .lock = PTHREAD_MUTEX_INITIALIZER };
static pthread_once_t slots_once = PTHREAD_ONCE_INIT;

static void slots_init(void)
{
    pthread_condattr_t attr;

    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&slots.freed, &attr);
    (void)pthread_condattr_destroy(&attr);
}

static long slots_limit(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (cpus < 1)
        cpus = 1;
    return 2 * cpus < SLOTS_MAX ? 2 * cpus : SLOTS_MAX;
}

static int slot_take(uint64_t deadline, struct error *err)
{
    const struct timespec until = { .tv_sec = (time_t)(deadline / 1000),
                                    .tv_nsec = (long)(deadline % 1000) * 1000000 };
    const bool never = deadline == DEADLINE_NEVER;
    const long limit = slots_limit();
    int r = 0;

    (void)pthread_once(&slots_once, slots_init);
    (void)pthread_mutex_lock(&slots.lock);
    while (slots.used >= limit && r == 0)
        r = never ? pthread_cond_wait(&slots.freed, &slots.lock)
                  : pthread_cond_timedwait(&slots.freed, &slots.lock, &until);
    if (r == 0)
        slots.used++;
    (void)pthread_mutex_unlock(&slots.lock);
    return r == 0 ? 0
                  : error_set(err, ERR_DEADLINE,
                              "%ld encryption helpers are at work; none was free in time", limit);
}

static void slot_give(void)
{
    (void)pthread_mutex_lock(&slots.lock);
    slots.used--;
    (void)pthread_cond_signal(&slots.freed);
    (void)pthread_mutex_unlock(&slots.lock);
}

/* --- one call --- */

static void log_line(void *ctx, const char *line)
{
    log_warn("coffer-crypt wrote", KV("verb", (const char *)ctx), KV("line", line));
}

static int run_helper(const struct call *c, const char *request, struct proc_result *ret,
                      struct error *err)
{
    const char *const argv[] = { c->client->helper, c->verb, NULL };
    const struct proc_fd all[] = {
        { c->key_fd, FD_KEY }, { c->device_fd, FD_DEVICE },   { c->lock_fd, FD_LOCK },
        { c->out_fd, FD_OUT }, { c->new_key_fd, FD_NEW_KEY }, { c->private_key_fd, FD_PRIVATE_KEY }
    };
    struct proc_fd fds[ARRAY_SIZE(all)];
    size_t n = 0;
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (all[i].from >= 0)
            fds[n++] = all[i];
    }
    const struct proc_spec spec = {
        .argv = argv,
        .input = request,
        .input_len = strlen(request),
        .fds = fds,
        .n_fds = n,
        .max_output = REPLY_MAX,
        .limit_ms = c->limit_ms,
        .on_line = log_line,
        .ctx = (void *)(uintptr_t)c->verb,
    };
    if (slot_take(c->deadline, err) < 0)
        return -1;
    r = proc_run(&spec, ret, err);
    slot_give();
    return r;
}

/* SIGKILL says nothing about the volume: what was asked is asked again. Whoever asked by a request
 * that isn't repeated (coffer-scheduler's lock) would leave half of it behind. */
static int ended_by_signal(const struct call *c, int number, struct error *err)
{
    static const struct {
        int number;
        enum error_code code;
        const char *hint;
    } KNOWN[] = {
        { SIGSYS, ERR_INTERNAL, " (its sandbox refused a system call)" },
        { SIGKILL, ERR_UNAVAILABLE,
          " (somebody killed it, or the kernel for want of memory: coffer-node's limit?)" },
    };
    enum error_code code = ERR_INTERNAL;
    const char *hint = "";

    for (size_t i = 0; i < ARRAY_SIZE(KNOWN); i++) {
        if (KNOWN[i].number == number) {
            code = KNOWN[i].code;
            hint = KNOWN[i].hint;
        }
    }
    return error_set(err, code, "coffer-crypt %s was ended by signal %d%s", c->verb, number, hint);
}

static int read_reply(const struct call *c, const struct proc_result *r, json_t **ret,
                      struct error *err)
{
    if (r->signal != 0)
        return ended_by_signal(c, r->signal, err);
    if (strbuf_check(&r->output, "coffer-crypt's reply", err) < 0)
        return -1;
    /* 127: the loader found no memory, descriptor or file for a library of it */
    if (r->output.len == 0 && r->exit_code != 0)
        return error_set(err, ERR_INTERNAL,
                         "coffer-crypt %s ended before it answered, exit code %d: its lines in "
                         "the log say why",
                         c->verb, r->exit_code);
    return answer_read(c->verb, strbuf_text(&r->output), r->output.len, r->exit_code, ret, err);
}

static int run_verb(const struct call *c, json_t **ret, struct error *err)
{
    AUTO_PROC_RESULT struct proc_result result = { .exit_code = -1,
                                                   .output = STRBUF_INIT(REPLY_MAX) };
    AUTO_FREE char *text = NULL;
    uint64_t left = deadline_left(c->deadline);

    if (left == 0)
        return error_set(err, ERR_DEADLINE, "no time was left to start coffer-crypt %s", c->verb);
    if (json_object_set_new(c->request, "wait_ms",
                            json_integer((json_int_t)(left < WAIT_MAX_MS ? left : WAIT_MAX_MS))) ==
        0)
        text = json_text(c->request, JSON_COMPACT);
    if (text == NULL || json_no_memory())
        return error_memory(err);
    if (strlen(text) > REQUEST_MAX)
        return error_set(err, ERR_INTERNAL, "no request for coffer-crypt %s could be made",
                         c->verb);
    if (run_helper(c, text, &result, err) < 0)
        return error_prefix(err, "coffer-crypt %s", c->verb);
    return read_reply(c, &result, ret, err);
}

/* --- requests and answers --- */

/* run_verb asks whether memory lacked for any field: a request without it says something else. */
static json_t *empty_request(void)
{
    json_watch();
    return json_object();
}

static json_t *volume_request(const struct crypt_volume *v)
{
    char device[DEV_TEXT_SIZE];

    json_watch();
    blockdev_text(v->device, device);
    return json_pack("{ss so ss}", "name", v->dm_name, "record", record_to_json(v->record),
                     "device", device);
}

/* A keyed call: the volume's device, its key and its lock go along. */
static struct call keyed(const struct crypt_client *c, const struct crypt_volume *v,
                         const char *verb, uint64_t deadline, int key_fd, json_t *request)
{
    return (struct call){ .client = c,
                          .verb = verb,
                          .limit_ms = WORK_LIMIT_MS,
                          .deadline = deadline,
                          .request = request,
                          .key_fd = key_fd,
                          .device_fd = v->device_fd,
                          .lock_fd = v->lock_fd,
                          .out_fd = -1,
                          .new_key_fd = -1,
                          .private_key_fd = -1 };
}

static struct call keyless(const struct crypt_client *c, const char *verb, uint64_t deadline,
                           int lock_fd, json_t *request)
{
    return (struct call){ .client = c,
                          .verb = verb,
                          .limit_ms = LOOK_LIMIT_MS,
                          .deadline = deadline,
                          .request = request,
                          .key_fd = -1,
                          .device_fd = -1,
                          .lock_fd = lock_fd,
                          .out_fd = -1,
                          .new_key_fd = -1,
                          .private_key_fd = -1 };
}

int crypt_list(const struct crypt_client *c, uint64_t deadline, struct mapping_list *ret,
               struct error *err)
{
    AUTO_JSON json_t *request = empty_request();
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyless(c, "list", deadline, -1, request);

    return run_verb(&k, &reply, err) < 0 ? -1 : answer_mappings(reply, ret, err);
}

int crypt_blank(const struct crypt_client *c, const struct crypt_volume *v, uint64_t deadline,
                struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    struct call k = keyless(c, "blank", deadline, v->lock_fd, request);

    k.device_fd = v->device_fd;
    (void)json_object_set_new(request, "stored_state", json_string(record_state_name(RECORD_NEW)));
    return run_verb(&k, &reply, err);
}

int crypt_format(const struct crypt_client *c, const struct crypt_volume *v,
                 enum record_state stored_state, int key_fd, uint64_t deadline, char ret_digest[65],
                 char ret_mac[65], struct mapping *ret, struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyed(c, v, "format", deadline, key_fd, request);
    char digest[65], mac[65];
    struct mapping m;

    (void)json_object_set_new(request, "read_only", json_boolean(v->read_only));
    (void)json_object_set_new(request, "stored_state",
                              json_string(record_state_name(stored_state)));
    if (run_verb(&k, &reply, err) < 0 || answer_hex(reply, "digest", digest, err) < 0 ||
        answer_hex(reply, "mac", mac, err) < 0 || answer_mapping(reply, &m, err) < 0)
        return -1;
    memcpy(ret_digest, digest, sizeof(digest));
    memcpy(ret_mac, mac, sizeof(mac));
    *ret = m;
    return 0;
}

int crypt_open(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
               uint64_t deadline, struct mapping *ret, struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyed(c, v, "open", deadline, key_fd, request);

    (void)json_object_set_new(request, "read_only", json_boolean(v->read_only));
    return run_verb(&k, &reply, err) < 0 ? -1 : answer_mapping(reply, ret, err);
}

int crypt_check(const struct crypt_client *c, const struct crypt_volume *v, uint64_t deadline,
                struct mapping *ret, struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyless(c, "check", deadline, v->lock_fd, request);

    return run_verb(&k, &reply, err) < 0 ? -1 : answer_mapping(reply, ret, err);
}

int crypt_resize(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                 uint64_t deadline, struct mapping *ret, struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyed(c, v, "resize", deadline, key_fd, request);

    return run_verb(&k, &reply, err) < 0 ? -1 : answer_mapping(reply, ret, err);
}

static json_t *close_request(const char *dm_name, const char *dm_uuid)
{
    json_watch();
    return json_pack("{ss ss*}", "name", dm_name, "dm_uuid", dm_uuid);
}

int crypt_close(const struct crypt_client *c, const char *dm_name, const char *dm_uuid, int lock_fd,
                uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *request = close_request(dm_name, dm_uuid);
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyless(c, "close", deadline, lock_fd, request);

    return run_verb(&k, &reply, err);
}

int crypt_passphrase(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                     int out_fd, uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    struct call k = keyed(c, v, "passphrase", deadline, key_fd, request);

    k.out_fd = out_fd;
    return run_verb(&k, &reply, err);
}

int crypt_rescue(const struct crypt_client *c, const struct crypt_volume *v, int private_key_fd,
                 int out_fd, uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    struct call k = keyed(c, v, "rescue", deadline, -1, request);

    k.private_key_fd = private_key_fd;
    k.out_fd = out_fd;
    return run_verb(&k, &reply, err);
}

/* A text that is no list goes as null, which is refused there. */
static json_t *recipients_request(const struct crypt_volume *v, const char *recipients)
{
    json_t *request = volume_request(v);
    json_t *list = recipients[0] == '\0' ? json_array() : json_own(recipients);

    (void)json_object_set_new(request, "recipients", list != NULL ? list : json_null());
    return request;
}

int crypt_recipients(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                     const char *recipients, uint64_t deadline, char ret_mac[65], struct error *err)
{
    AUTO_JSON json_t *request = recipients_request(v, recipients);
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyed(c, v, "recipients", deadline, key_fd, request);

    return run_verb(&k, &reply, err) < 0 ? -1 : answer_hex(reply, "mac", ret_mac, err);
}

int crypt_rekey(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                int new_key_fd, int backup_fd, const char *recipients, uint64_t deadline,
                char ret_mac[65], struct error *err)
{
    AUTO_JSON json_t *request = recipients_request(v, recipients);
    AUTO_JSON json_t *reply = NULL;
    struct call k = keyed(c, v, "rekey", deadline, key_fd, request);

    k.new_key_fd = new_key_fd;
    k.out_fd = backup_fd;
    return run_verb(&k, &reply, err) < 0 ? -1 : answer_hex(reply, "mac", ret_mac, err);
}

int crypt_prune(const struct crypt_client *c, const struct crypt_volume *v, int key_fd,
                uint64_t deadline, char ret_mac[65], struct error *err)
{
    AUTO_JSON json_t *request = volume_request(v);
    AUTO_JSON json_t *reply = NULL;
    const struct call k = keyed(c, v, "prune", deadline, key_fd, request);

    return run_verb(&k, &reply, err) < 0 ? -1 : answer_hex(reply, "mac", ret_mac, err);
}
