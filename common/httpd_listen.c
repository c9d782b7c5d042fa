/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/httpd.h"

#include "common/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define BACKLOG 64

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static int parse_port(const char *text, in_port_t *ret)
{
    uint64_t port;

    if (parse_u64(text, &port) < 0 || port == 0 || port > UINT16_MAX)
        return -1;
    *ret = htons((uint16_t)port);
    return 0;
}

/* host: without brackets; "" is every address. */
static int fill(const char *host, bool brackets, in_port_t port, union address *ret)
{
    union address a;

    memset(&a, 0, sizeof(a));
    if (brackets || host[0] == '\0') {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = port;
        a.v6.sin6_addr = in6addr_any;
        if (host[0] != '\0' && inet_pton(AF_INET6, host, &a.v6.sin6_addr) != 1)
            return -1;
    } else {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = port;
        if (inet_pton(AF_INET, host, &a.v4.sin_addr) != 1)
            return -1;
    }
    *ret = a;
    return 0;
}

static int parse(const char *text, union address *ret, struct error *err)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    char host[INET6_ADDRSTRLEN + 1];
    in_port_t port;

    if (brackets) {
        text++;
        len -= 2;
    }
    if (colon != NULL && len < sizeof(host) && !(brackets && len == 0) &&
        parse_port(colon + 1, &port) == 0) {
        memcpy(host, text, len);
        host[len] = '\0';
        if (fill(host, brackets, port, ret) == 0)
            return 0;
    }
    return error_set(err, ERR_INVALID,
                     "--http '%s' is not ADDRESS:PORT, such as 127.0.0.1:9810, [::1]:9810 or :9810",
                     brackets ? text - 1 : text);
}

static int listen_at(const union address *a, int *ret_fd)
{
    const int on = 1, off = 0;
    bool v6 = a->any.sa_family == AF_INET6;
    AUTO_CLOSE int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        return -1;
    if (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
        return -1;
    if (bind(fd, &a->any, v6 ? sizeof(a->v6) : sizeof(a->v4)) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int httpd_check(const char *address, struct error *err)
{
    union address ignored;

    return parse(address, &ignored, err);
}

int httpd_listen(const char *address, int *ret_fd, struct error *err)
{
    union address a;

    if (parse(address, &a, err) < 0)
        return -1;
    if (listen_at(&a, ret_fd) == 0)
        return 0;
    /* a host without IPv6 has every address all the same */
    if (address[0] == ':' && errno == EAFNOSUPPORT) {
        in_port_t port = a.v6.sin6_port;
        if (fill("0.0.0.0", false, port, &a) == 0 && listen_at(&a, ret_fd) == 0)
            return 0;
    }
    return error_errno(err, errno, "listen on --http '%s'", address);
}
