/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl pool ...: makes the places that volumes live in. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "backends/backend.h"
#include "common/fs.h"
#include "common/json.h"

#include <errno.h>

static struct {
    const char *owner;
    struct fs_owner parsed;
} options;

static const struct flag flags[] = {
    { "owner", NULL, FLAG_STRING, &options.owner, "",
      "UID:GID, by number: whom the pool's folder is given to (coffer-controller's)", NULL },
};

/* A number that is an id: not -1, which chown takes for "as it is". */
static bool parse_id(const char *text, char end, uint32_t *ret, const char **ret_rest)
{
    char *rest;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long n = strtoul(text, &rest, 10);
    if (errno != 0 || n >= UINT32_MAX || *rest != end)
        return false;
    *ret = (uint32_t)n;
    *ret_rest = rest + 1;
    return true;
}

static int check_init(const struct cli *cli UNUSED, struct error *err)
{
    const char *rest = options.owner;

    if (options.owner[0] == '\0' || (parse_id(rest, ':', &options.parsed.uid, &rest) &&
                                     parse_id(rest, '\0', &options.parsed.gid, &rest)))
        return 0;
    return error_set(err, ERR_INVALID, "--owner '%.64s' must be two numbers, UID:GID",
                     options.owner);
}

static int run_init(const struct cli *cli, struct error *err)
{
    static const struct output_column columns[] = { { "pool", "pool", false },
                                                    { "tag", "tag", false },
                                                    { "path", "path", false } };
    AUTO_CONFIG struct config *config = NULL;
    char tag[9] = "";
    if (config_load(cli->config, &config, err) < 0)
        return -1;
    const struct pool_config *p = config_pool(config, cli->operand);
    if (p == NULL)
        return error_set(err, ERR_NOT_FOUND, "'%s' has no pool '%s'", cli->config, cli->operand);
    const struct backend_ops *ops = backend_find(p->backend);
    if (ops == NULL)
        return error_set(err, ERR_INVALID, "pool '%s': unknown backend '%s'", p->name, p->backend);
    const struct fs_owner *owner = options.owner[0] == '\0' ? NULL : &options.parsed;
    if (ops->pool_init(p, owner, tag, err) < 0)
        return -1;
    AUTO_JSON json_t *made =
        json_pack("{s:s, s:s, s:s}", "pool", p->name, "tag", tag, "path", p->path);
    return output_object(cli->out, cli->output, made, columns, ARRAY_SIZE(columns), err);
}

const struct verb pool_init = {
    .group = "pool",
    .name = "init",
    .operand = "NAME",
    .help = "make a pool of the configuration in its empty directory",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check_init,
    .run = run_init,
};
