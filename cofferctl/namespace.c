/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/namespace.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/strbuf.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define STATUS_MAX 65536u

static int peer_of(const char *path, pid_t *ret, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (str_copy(address.sun_path, sizeof(address.sun_path), path) < 0)
        return error_set(err, ERR_INVALID, "the socket path '%s' is too long", path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        (void)error_errno(err, errno, "connect to coffer-node at '%s'", path);
        return err->code == ERR_PERMISSION ? -1 : error_recode(err, ERR_UNAVAILABLE);
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return error_errno(err, errno, "ask who serves '%s'", path);
    *ret = peer.pid;
    return 0;
}

bool namespace_is_ours(const char *status)
{
    const char *line = strstr(status, "\nNSpid:");
    if (line == NULL)
        return false;
    line += strlen("\nNSpid:");
    line += strspn(line, "\t ");
    size_t digits = strspn(line, "0123456789");
    return digits > 0 && line[digits] == '\n';
}

int namespace_check(const char *socket_path, struct error *err)
{
    AUTO_STRBUF struct strbuf status = STRBUF_INIT(STATUS_MAX);
    char name[64];
    pid_t pid = 0;
    if (peer_of(socket_path, &pid, err) < 0)
        return -1;
    (void)snprintf(name, sizeof(name), "/proc/%d/status", (int)pid);
    AUTO_CLOSE int fd = pid > 0 ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || fs_read_fd(fd, name, STATUS_MAX, &status, err) < 0 ||
        !namespace_is_ours(strbuf_text(&status)))
        return error_set(err, ERR_PRECONDITION,
                         "coffer-node is in another pid namespace and would write the passphrase "
                         "to another process: "
                         "run cofferctl where coffer-node runs (in Kubernetes: exec into its pod)");
    return 0;
}
