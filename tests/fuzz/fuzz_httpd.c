/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request to /healthz and /metrics: what is accepted is a GET of a path inside the request, what
 * is too long is refused, and a verdict on a part of it stays when more comes.
 *
 * covers: common/httpd.c:httpd_parse
 */
#include "tests/fuzz/target.h"

#include "common/httpd.h"

static bool is_known(int status)
{
    static const int known[] = { 0, 200, 400, 405, 431, 505 };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i] == status)
            return true;
    }
    return false;
}

static void check_path(const char *data, size_t size, const char *path, size_t len)
{
    must(path >= data && path + len <= data + size && len > 0 && path[0] == '/');
    must(memcmp(data, "GET /", 5) == 0 && path == data + 4);
    for (size_t i = 0; i < len; i++)
        must((unsigned char)path[i] > ' ' && path[i] != '?' && path[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *data = (const char *)bytes, *path = NULL;
    size_t path_len = 0;

    if (size > HTTPD_REQUEST_MAX)
        size = HTTPD_REQUEST_MAX;
    int status = httpd_parse(data, size, &path, &path_len);
    must(is_known(status));
    must(status != 0 || size < HTTPD_REQUEST_MAX);
    if (status == 200)
        check_path(data, size, path, path_len);
    else
        must(path == NULL && path_len == 0);
    for (size_t part = 0; part < size && status == 0; part++)
        must(httpd_parse(data, part, &path, &path_len) == 0);
    return 0;
}
