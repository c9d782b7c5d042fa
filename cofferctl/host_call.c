/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_call.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/json.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "csi/client.h"

#include <sys/socket.h>
#include <sys/un.h>

#define SCHEME      "unix://"
#define TIMEOUT_MAX 86400u
#define PAUSE_MS    200u
#define PAUSE_LIMIT 2000u

struct host_options host_options;

int host_open(const struct cli *cli, struct host *ret, struct error *err)
{
    struct host h = { .cli = cli, .store = HOST_STORE_INIT };
    if (host_options.timeout_s == 0 || host_options.timeout_s > TIMEOUT_MAX)
        return error_set(err, ERR_INVALID, "--timeout must be 1 to %u seconds", TIMEOUT_MAX);
    h.deadline = deadline_in(host_options.timeout_s * 1000);
    if (host_store_open(host_options.state_dir, &h.store, err) < 0)
        return -1;
    *ret = h;
    return 0;
}

void host_close(struct host *h)
{
    host_store_close(&h->store);
}

int host_size_parse(const char *text, uint64_t *ret, struct error *err)
{
    uint64_t bytes;
    if (text[0] == '\0')
        return error_set(err, ERR_INVALID, "--size is needed (4Gi)");
    if (parse_size(text, &bytes) < 0 || bytes == 0 || bytes > INT64_MAX)
        return error_set(err, ERR_INVALID,
                         "--size '%s' is no size: digits, then nothing, Ki, Mi, Gi or Ti", text);
    *ret = bytes;
    return 0;
}

int host_show(const struct cli *cli, const struct host_volume *v, uint64_t size, struct error *err)
{
    static const struct output_column columns[] = { { "name", "name", false },
                                                    { "id", "id", false },
                                                    { "size", "size", true } };
    AUTO_JSON json_t *made =
        json_pack("{s:s, s:s, s:I}", "name", v->name, "id", v->id, "size", (json_int_t)size);
    return output_object(cli->out, cli->output, made, columns, ARRAY_SIZE(columns), err);
}

struct server {
    const char *name, *path;
};

static struct server server_of(enum host_daemon to)
{
    struct server s = { "coffer-controller", host_options.controller_socket };
    if (to == HOST_NODE)
        s = (struct server){ "coffer-node", host_options.node_socket };
    if (s.path != NULL && strncmp(s.path, SCHEME, strlen(SCHEME)) == 0)
        s.path += strlen(SCHEME);
    return s;
}

/* Whether anybody listens, in our words: gRPC has many for it. ERR_UNAVAILABLE, ERR_PERMISSION. */
static int probe(const struct server *s, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (str_copy(address.sun_path, sizeof(address.sun_path), s->path) < 0)
        return error_set(err, ERR_INVALID, "the socket path '%s' is too long", s->path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return 0;
    (void)error_errno(err, errno, "%s doesn't answer at '%s'", s->name, s->path);
    return err->code == ERR_PERMISSION ? -1 : error_recode(err, ERR_UNAVAILABLE);
}

/* What the core itself says, when no answer of the server came. */
static int reword(const struct server *s, struct error *err)
{
    struct error local = ERROR_INIT;
    if (err->code == ERR_DEADLINE)
        return error_set(err, ERR_DEADLINE, "%s gave no answer within %llu s (--timeout)", s->name,
                         (unsigned long long)host_options.timeout_s);
    if (err->code != ERR_UNAVAILABLE || probe(s, &local) == 0)
        return -1;
    *err = local;
    return -1;
}

static int call_once(const struct host *h, const struct server *s, const char *method,
                     json_t *request, json_t **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf endpoint = STRBUF_INIT(HOST_PATH_MAX);
    uint64_t left = deadline_left(h->deadline);
    if (probe(s, err) < 0)
        return -1;
    strbuf_addf(&endpoint, SCHEME "%s", s->path);
    if (strbuf_check(&endpoint, "the socket path", err) < 0)
        return -1;
    if (csi_client_call(strbuf_text(&endpoint), method, request, left > 0 ? left : 1, ret, err) ==
        0)
        return 0;
    return reword(s, err);
}

static bool may_change(const struct error *err)
{
    return err->code == ERR_ABORTED || err->code == ERR_UNAVAILABLE;
}

int host_call(const struct host *h, enum host_daemon to, const char *method, json_t *request,
              json_t **ret, struct error *err)
{
    AUTO_JSON json_t *owned = request;
    AUTO_JSON json_t *reply = NULL;
    struct server s = server_of(to);
    struct error waited = ERROR_INIT; /* for what: the deadline alone would tell nothing */
    uint64_t pause = PAUSE_MS;
    if (owned == NULL)
        return error_set(err, ERR_INVALID, "an argument is not UTF-8 text");
    while (call_once(h, &s, method, owned, &reply, err) < 0) {
        if (err->code == ERR_DEADLINE && waited.code != ERR_OK)
            *err = waited;
        if (!may_change(err) || deadline_left(h->deadline) <= pause)
            return -1;
        if (waited.code == ERR_OK)
            (void)fprintf(h->cli->notes, "cofferctl: waiting: %s\n", err->msg);
        waited = *err;
        sleep_ms(pause);
        pause = pause * 2 < PAUSE_LIMIT ? pause * 2 : PAUSE_LIMIT;
    }
    if (ret != NULL)
        *ret = TAKE_PTR(reply);
    return 0;
}
