/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl config ...: the configuration file as every Coffer program reads it. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "common/json.h"
#include "common/strbuf.h"
#include "volume/config.h"

static json_t *kms_names(const struct pool_config *p)
{
    AUTO_STRBUF struct strbuf names = STRBUF_INIT(1024);
    for (size_t i = 0; i < p->n_kms; i++)
        strbuf_addf(&names, "%s%s", i > 0 ? "," : "", p->kms[i]);
    return json_string(strbuf_text(&names));
}

static int run_check(const struct cli *cli, struct error *err)
{
    static const struct output_column columns[] = {
        { "name", "POOL", false },         { "backend", "BACKEND", false },
        { "path", "PATH", false },         { "kms", "KMS", false },
        { "allocate", "ALLOCATE", false }, { "overcommit", "OVERCOMMIT", false },
    };
    AUTO_CONFIG struct config *config = NULL;
    if (config_load(cli->config, &config, err) < 0)
        return -1;
    AUTO_JSON json_t *list = json_array();
    for (size_t i = 0; i < config->n_pools; i++) {
        const struct pool_config *p = &config->pools[i];
        json_t *row = json_pack("{s:s, s:s, s:s, s:o, s:s}", "name", p->name, "backend", p->backend,
                                "path", p->path, "kms", kms_names(p), "allocate", p->allocate);
        if (pool_is_sparse(p))
            (void)json_object_set_new(row, "overcommit", json_real(p->overcommit));
        (void)json_array_append_new(list, row);
    }
    return output_list(cli->out, cli->output, list, columns, ARRAY_SIZE(columns), err);
}

const struct verb config_check = {
    .group = "config",
    .name = "check",
    .help = "read the configuration file and show its pools",
    .run = run_check,
};
