/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl pool ...: makes the places that volumes live in. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "backends/backend.h"
#include "common/json.h"

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
    if (ops->pool_init(p, tag, err) < 0)
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
    .run = run_init,
};
