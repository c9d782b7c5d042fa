/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_secrets.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/json.h"
#include "common/secret.h"
#include "common/strbuf.h"

#include <errno.h>
#include <fcntl.h>

#define SECRETS_MAX     4096u /* what a call's secrets may have, all together: docs/csi.md */
#define NEW_SECRETS_MAX 8192u /* likewise: csi/validate.h */

const char *host_secrets_path, *host_new_secrets_path;

struct source {
    const char *flag, *path;
    size_t max;
};

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
static int parse(const struct source *s, const struct strbuf *text, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;

    if (json_parse(strbuf_text(text), text->len, "secrets", &obj, NULL) < 0 || !all_texts(obj))
        return error_set(err, ERR_INVALID, "%s: '%.200s' is no JSON object of texts", s->flag,
                         s->path);
    *ret = TAKE_PTR(obj);
    return 0;
}

static int read_from(const struct source *s, json_t **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_WIPED_INIT(s->max);

    if (s->path[0] == '\0') {
        *ret = json_object();
        return *ret == NULL ? error_memory(err) : 0;
    }
    if (secret_harden_process(err) < 0)
        return -1;
    AUTO_CLOSE int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_errno(err, errno, "%s: open '%.200s'", s->flag, s->path);
    if (fs_read_fd(fd, s->path, s->max, &text, err) < 0)
        return error_prefix(err, "%s", s->flag);
    return parse(s, &text, ret, err);
}

int host_secrets_read(json_t **ret, struct error *err)
{
    return read_from(&(struct source){ "--secrets", host_secrets_path, SECRETS_MAX }, ret, err);
}

static int add_from(const struct source *s, const char *field, json_t *request, struct error *err)
{
    AUTO_JSON json_t *secrets = NULL;

    if (read_from(s, &secrets, err) < 0)
        return -1;
    if (json_object_size(secrets) > 0 && json_object_set(request, field, secrets) < 0)
        return error_memory(err);
    return 0;
}

int host_secrets_add(json_t *request, struct error *err)
{
    return add_from(&(struct source){ "--secrets", host_secrets_path, SECRETS_MAX }, "secrets",
                    request, err);
}

int host_new_secrets_add(json_t *request, struct error *err)
{
    return add_from(&(struct source){ "--new-secrets", host_new_secrets_path, NEW_SECRETS_MAX },
                    "new_secrets", request, err);
}
