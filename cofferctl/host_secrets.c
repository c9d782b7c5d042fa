/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_secrets.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/json.h"
#include "common/strbuf.h"

#include <errno.h>
#include <fcntl.h>

#define SECRETS_MAX 4096u /* what a call's secrets may have, all together: docs/csi.md */

const char *host_secrets_path;

static bool all_texts(json_t *obj)
{
    const char *key;
    const json_t *value;

    json_object_foreach (obj, key, value) {
        if (!json_is_string(value))
            return false;
    }
    return json_is_object(obj);
}

/* The parser's own sentence may hold a piece of what it read. */
static int parse(const struct strbuf *text, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;

    if (json_parse(strbuf_text(text), text->len, "secrets", &obj, NULL) < 0 || !all_texts(obj))
        return error_set(err, ERR_INVALID, "--secrets: '%.200s' is no JSON object of texts",
                         host_secrets_path);
    *ret = TAKE_PTR(obj);
    return 0;
}

int host_secrets_read(json_t **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(SECRETS_MAX);

    if (host_secrets_path[0] == '\0') {
        *ret = json_object();
        return *ret == NULL ? error_set(err, ERR_EXHAUSTED, "out of memory") : 0;
    }
    AUTO_CLOSE int fd = open(host_secrets_path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_errno(err, errno, "--secrets: open '%.200s'", host_secrets_path);
    if (fs_read_fd(fd, host_secrets_path, SECRETS_MAX, &text, err) < 0)
        return error_prefix(err, "--secrets");
    int r = parse(&text, ret, err);
    if (text.buf != NULL)
        explicit_bzero(text.buf, text.len);
    return r;
}
