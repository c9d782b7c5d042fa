/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/client.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/strbuf.h"
#include "keyd/wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

/* One request and its answer; on the heap, because two frames are 32 KiB and callers' threads are
 * many. */
struct exchange {
    struct wire_request request;
    struct wire_frame out, in;
    struct wire_reply reply;
};

static struct exchange *exchange_new(enum wire_op op, struct error *err)
{
    struct exchange *x = calloc(1, sizeof(*x));
    if (x == NULL)
        (void)error_memory(err);
    else
        x->request.op = (uint16_t)op;
    return x;
}

/* A request may hold a token. */
static void exchange_free(struct exchange *x)
{
    if (x != NULL)
        explicit_bzero(x, sizeof(*x));
    free(x);
}

DEFINE_AUTO(exchange, exchange_free)
#define AUTO_EXCHANGE __attribute__((cleanup(cleanup_exchange)))

static int too_late(struct error *err)
{
    return error_set(err, ERR_DEADLINE, "coffer-keyd did not answer in time");
}

/* The socket's own time limits bound connect, send and receive; 0 would mean "for ever". */
static int limit(int fd, uint64_t deadline, struct error *err)
{
    if (deadline == DEADLINE_NEVER)
        return 0;
    uint64_t left = deadline_left(deadline);
    if (left == 0)
        return too_late(err);
    struct timeval t = { .tv_sec = (time_t)(left / 1000),
                         .tv_usec = (suseconds_t)(left % 1000 * 1000) };
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0)
        return error_errno(err, errno, "limit the time for coffer-keyd");
    return 0;
}

static int connect_failed(const char *path, int sys_errno, struct error *err)
{
    if (sys_errno == EAGAIN || sys_errno == EINPROGRESS)
        return too_late(err);
    (void)error_errno(err, sys_errno, "connect to coffer-keyd at '%s'", path);
    return error_recode(err, sys_errno == EACCES || sys_errno == EPERM ? ERR_PERMISSION
                                                                       : ERR_UNAVAILABLE);
}

int keyd_socket_check(const char *path, struct error *err)
{
    const struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "coffer-keyd's socket path '%s' must be absolute", path);
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERR_INVALID,
                         "coffer-keyd's socket path '%s' is longer than %zu bytes", path,
                         sizeof(address.sun_path) - 1);
    return 0;
}

static int keyd_connect(const char *path, uint64_t deadline, int *ret_fd, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (keyd_socket_check(path, err) < 0)
        return -1;
    memcpy(address.sun_path, path, strlen(path) + 1);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    if (limit(fd, deadline, err) < 0)
        return -1;
    while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno != EINTR)
            return connect_failed(path, errno, err);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void attach_descriptor(struct msghdr *message, char *control, size_t size, int descriptor)
{
    message->msg_control = control;
    message->msg_controllen = size;
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(descriptor));
    memcpy(CMSG_DATA(c), &descriptor, sizeof(descriptor));
}

static int send_frame(int fd, struct wire_frame *frame, int descriptor, struct error *err)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec part = { .iov_base = frame->bytes, .iov_len = frame->len };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    if (descriptor >= 0)
        attach_descriptor(&message, control, sizeof(control), descriptor);
    ssize_t n;
    do
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0 || errno == EPIPE || errno == ECONNRESET)
        return 0; /* a keyd that refuses us said why before it closed: receive_reply tells */
    if (errno == EAGAIN)
        return too_late(err);
    return error_errno(err, errno, "send to coffer-keyd");
}

static int receive_reply(int fd, uint64_t deadline, struct wire_frame *ret, struct error *err)
{
    /* Closing with our request unread makes the kernel report a reset once, before the reply it
     * queued. */
    for (int resets = 0;;) {
        if (limit(fd, deadline, err) < 0)
            return -1;
        ssize_t n = recv(fd, ret->bytes, sizeof(ret->bytes), 0);
        if (n > 0) {
            ret->len = (size_t)n;
            return 0;
        }
        if (n < 0 && errno == EAGAIN)
            return too_late(err);
        if (n < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)))
            continue;
        return error_set(err, ERR_UNAVAILABLE,
                         "coffer-keyd closed the connection without an answer");
    }
}

static int read_reply(struct exchange *x, struct error *err)
{
    struct wire_header header;
    struct error why = ERROR_INIT;
    if (wire_header_decode(x->in.bytes, x->in.len, &header, &why) < 0)
        return error_set(err, ERR_UNAVAILABLE, "coffer-keyd's answer is malformed: %s", why.msg);
    if (header.version != WIRE_VERSION)
        return error_set(err, ERR_UNAVAILABLE,
                         "coffer-keyd speaks wire version %u, this program version %u",
                         header.version, WIRE_VERSION);
    if (wire_reply_decode(x->in.bytes, x->in.len, &x->reply, &why) < 0)
        return error_set(err, ERR_UNAVAILABLE, "coffer-keyd's answer is malformed: %s", why.msg);
    if (strcmp(x->reply.code, WIRE_OK) != 0)
        return error_set(err, error_code_from_name(x->reply.code), "coffer-keyd: %s",
                         x->reply.message);
    if (x->reply.op != x->request.op)
        return error_set(err, ERR_UNAVAILABLE, "coffer-keyd answered another request");
    return 0;
}

static int exchange_run(struct exchange *x, const char *path, int descriptor, uint64_t deadline,
                        struct error *err)
{
    AUTO_CLOSE int fd = -1;
    if (keyd_connect(path, deadline, &fd, err) < 0)
        return -1;
    x->request.deadline_ms = deadline == DEADLINE_NEVER ? UINT64_MAX : deadline_left(deadline);
    if (wire_request_encode(&x->request, &x->out, err) < 0 ||
        send_frame(fd, &x->out, descriptor, err) < 0 ||
        receive_reply(fd, deadline, &x->in, err) < 0)
        return -1;
    return read_reply(x, err);
}

static int set_binding(struct wire_request *r, const struct keyd_binding *b, struct error *err)
{
    if (str_copy(r->kms, sizeof(r->kms), b->kms) < 0 ||
        str_copy(r->tenant, sizeof(r->tenant), b->tenant) < 0 ||
        str_copy(r->volume_id, sizeof(r->volume_id), b->volume_id) < 0 ||
        str_copy(r->uuid, sizeof(r->uuid), b->uuid) < 0)
        return error_set(err, ERR_INVALID, "a name of the volume is too long for coffer-keyd");
    return 0;
}

int keyd_mint(const char *socket_path, const struct keyd_binding *b, uint64_t deadline,
              struct keyd_wrapped *ret, struct error *err)
{
    AUTO_EXCHANGE struct exchange *x = exchange_new(WIRE_MINT, err);
    if (x == NULL || set_binding(&x->request, b, err) < 0 ||
        exchange_run(x, socket_path, -1, deadline, err) < 0)
        return -1;
    struct keyd_wrapped key = { .version = x->reply.key_version };
    if (str_copy(key.kind, sizeof(key.kind), x->reply.kind) < 0 ||
        str_copy(key.ciphertext, sizeof(key.ciphertext), x->reply.ciphertext) < 0)
        return error_set(err, ERR_INTERNAL, "coffer-keyd's wrapped key is too long");
    *ret = key;
    return 0;
}

static int set_key(struct wire_request *r, const struct keyd_wrapped *key, struct error *err)
{
    r->key_version = key->version;
    if (str_copy(r->kind, sizeof(r->kind), key->kind) < 0 ||
        str_copy(r->ciphertext, sizeof(r->ciphertext), key->ciphertext) < 0)
        return error_set(err, ERR_INVALID, "the wrapped key is too long for coffer-keyd");
    return 0;
}

int keyd_unwrap(const char *socket_path, const struct keyd_binding *b,
                const struct keyd_wrapped *key, enum keyd_use use, const char *token,
                int pipe_write, uint64_t deadline, struct error *err)
{
    AUTO_EXCHANGE struct exchange *x = exchange_new(WIRE_UNWRAP, err);
    if (x == NULL || set_binding(&x->request, b, err) < 0 || set_key(&x->request, key, err) < 0)
        return -1;
    struct wire_request *r = &x->request;
    if (str_copy(r->use, sizeof(r->use), keyd_use_names[use]) < 0)
        return error_set(err, ERR_INTERNAL, "the use of a key is too long for coffer-keyd");
    if (token != NULL && strlen(token) > WIRE_TOKEN_MAX)
        return error_set(err, ERR_INVALID, "the pod's token is longer than %u bytes",
                         WIRE_TOKEN_MAX);
    if (token != NULL)
        r->token = (struct wire_view){ .data = token, .len = strlen(token) };
    return exchange_run(x, socket_path, pipe_write, deadline, err);
}

int keyd_wrap_for(const char *socket_path, const struct keyd_binding *b,
                  const struct keyd_wrapped *key, const struct keyd_recipient *to,
                  uint64_t deadline, unsigned char *ret, size_t *ret_len, struct error *err)
{
    AUTO_EXCHANGE struct exchange *x = exchange_new(WIRE_WRAP_FOR, err);
    if (x == NULL || set_binding(&x->request, b, err) < 0 || set_key(&x->request, key, err) < 0)
        return -1;
    struct wire_request *r = &x->request;
    if (str_copy(r->algorithm, sizeof(r->algorithm), to->algorithm) < 0 ||
        to->key_len > RECIPIENT_KEY_MAX)
        return error_set(err, ERR_INVALID, "the recipient's key is too long for coffer-keyd");
    r->public_key = (struct wire_view){ .data = (const char *)to->key, .len = to->key_len };
    if (exchange_run(x, socket_path, -1, deadline, err) < 0)
        return -1;
    if (x->reply.wrapped.len == 0)
        return error_set(err, ERR_UNAVAILABLE, "coffer-keyd answered with an empty wrapped key");
    memcpy(ret, x->reply.wrapped.data, x->reply.wrapped.len);
    *ret_len = x->reply.wrapped.len;
    return 0;
}

static int set_session(struct wire_request *r, const struct keyd_session *s, struct error *err)
{
    if (str_copy(r->commitment, sizeof(r->commitment), s->commitment) < 0 ||
        str_copy(r->fingerprint, sizeof(r->fingerprint), s->fingerprint) < 0 ||
        str_copy(r->server_key, sizeof(r->server_key), s->server_key) < 0)
        return error_set(err, ERR_INVALID, "a name in the session is too long for coffer-keyd");
    if (s->len > KEYD_SESSION_MAX)
        return error_set(err, ERR_INVALID, "the session is longer than %u bytes", KEYD_SESSION_MAX);
    r->session = (struct wire_view){ .data = s->data, .len = s->len };
    return 0;
}

int keyd_unwrap_client(const char *socket_path, const struct keyd_binding *b,
                       const struct keyd_session *session, enum keyd_use use, int pipe_write,
                       uint64_t deadline, struct error *err)
{
    AUTO_EXCHANGE struct exchange *x = exchange_new(WIRE_UNWRAP_CLIENT, err);
    if (x == NULL || set_binding(&x->request, b, err) < 0 ||
        set_session(&x->request, session, err) < 0)
        return -1;
    if (str_copy(x->request.use, sizeof(x->request.use), keyd_use_names[use]) < 0)
        return error_set(err, ERR_INTERNAL, "the use's name is too long");
    return exchange_run(x, socket_path, pipe_write, deadline, err);
}

int keyd_server_key(const char *socket_path, const char *kms, uint64_t deadline,
                    struct keyd_server_key *ret, struct error *err)
{
    AUTO_EXCHANGE struct exchange *x = exchange_new(WIRE_SERVER_KEY, err);
    if (x == NULL)
        return -1;
    if (str_copy(x->request.kms, sizeof(x->request.kms), kms) < 0)
        return error_set(err, ERR_INVALID, "the key service's name is too long for coffer-keyd");
    if (exchange_run(x, socket_path, -1, deadline, err) < 0)
        return -1;
    struct keyd_server_key key = { .public_key_len = x->reply.public_key.len };
    if (str_copy(key.key_id, sizeof(key.key_id), x->reply.key_id) < 0 ||
        str_copy(key.hash, sizeof(key.hash), x->reply.hash) < 0 ||
        key.public_key_len > sizeof(key.public_key))
        return error_set(err, ERR_INTERNAL, "coffer-keyd's server key is too long");
    memcpy(key.public_key, x->reply.public_key.data, key.public_key_len);
    *ret = key;
    return 0;
}

int keyd_destroy(const char *socket_path, const struct keyd_binding *b, uint64_t deadline,
                 struct error *err)
{
    AUTO_EXCHANGE struct exchange *x = exchange_new(WIRE_DESTROY, err);
    if (x == NULL || set_binding(&x->request, b, err) < 0)
        return -1;
    return exchange_run(x, socket_path, -1, deadline, err);
}

int keyd_status(const char *socket_path, uint64_t deadline, struct strbuf *ret, struct error *err)
{
    AUTO_EXCHANGE struct exchange *x = exchange_new(WIRE_STATUS, err);
    if (x == NULL || exchange_run(x, socket_path, -1, deadline, err) < 0)
        return -1;
    strbuf_add(ret, x->reply.text.data, x->reply.text.len);
    return strbuf_check(ret, "coffer-keyd's status", err);
}
