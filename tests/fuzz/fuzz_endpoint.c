/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --endpoint: the target that gRPC gets means the path that was parsed, whatever characters it has.
 *
 * covers: csi/endpoint.c:endpoint_parse
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "csi/endpoint.h"

static unsigned digit(char c)
{
    const char *digits = "0123456789ABCDEF", *at = strchr(digits, c);

    must(c != '\0' && at != NULL);
    return (unsigned)(at - digits);
}

/* "unix:" and the path, with nothing in it that a URI reads otherwise. */
static void check_target(const struct endpoint *e)
{
    const char *p = e->target + 5, *want = e->path;

    must(strncmp(e->target, "unix:", 5) == 0);
    for (; *p != '\0'; want++) {
        unsigned char c = (unsigned char)*p++;
        if (c == '%') {
            c = (unsigned char)(digit(p[0]) * 16 + digit(p[1]));
            p += 2;
        } else {
            must(strchr("?#% \"<>", c) == NULL && c > 0x20 && c < 0x7f);
        }
        must(c == (unsigned char)*want);
    }
    must(*want == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);
    struct error err = ERROR_INIT;
    struct endpoint e;

    must(text != NULL);
    mark(&e, sizeof(e));
    if (endpoint_parse(text, &e, &err) < 0) {
        must(err.code == ERR_INVALID);
        must_be_sentence(&err);
        must_be_marked(&e, sizeof(e));
        return 0;
    }
    must(e.path[0] == '/' && strlen(e.path) <= ENDPOINT_PATH_MAX);
    must(strcmp(e.path, text + strlen(text) - strlen(e.path)) == 0);
    check_target(&e);
    return 0;
}
