/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/vm_probe.h"

#include "common/cleanup.h"
#include "common/error.h"
#include "common/strbuf.h"
#include "scheduler/unix_connect.h"

#define STATUS_LEN 12u /* "HTTP/1.1 200" */

static bool is_ok(const char line[STATUS_LEN])
{
    return memcmp(line, "HTTP/1.", 7) == 0 && (line[7] == '0' || line[7] == '1') &&
           line[8] == ' ' && line[9] == '2' && line[10] >= '0' && line[10] <= '9' &&
           line[11] >= '0' && line[11] <= '9';
}

static int read_line(int fd, char ret[STATUS_LEN], uint64_t deadline)
{
    size_t have = 0, n = 0;

    for (; have < STATUS_LEN; have += n) {
        if (unix_read(fd, ret + have, STATUS_LEN - have, deadline, &n, NULL) < 0 || n == 0)
            return -1;
    }
    return 0;
}

bool vm_probe(const char *socket_path, const char *url_path, uint64_t deadline)
{
    AUTO_STRBUF struct strbuf request = STRBUF_INIT(1024);
    AUTO_CLOSE int fd = -1;
    char line[STATUS_LEN];

    strbuf_addf(&request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                url_path);
    if (strbuf_check(&request, "the request", NULL) < 0 ||
        unix_connect(socket_path, deadline, &fd, NULL) < 0 ||
        unix_write(fd, strbuf_text(&request), request.len, deadline, NULL) < 0)
        return false;
    return read_line(fd, line, deadline) == 0 && is_ok(line);
}
