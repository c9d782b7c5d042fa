/* SPDX-License-Identifier: Apache-2.0 */
/*
 * StorageClass parameters, a line "key=value" each: what is accepted is within the configuration.
 *
 * covers: volume/params.c
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "volume/params.h"

#define PARAMS_MAX 32

static const char configuration[] =
    "{\"pools\":{\"fast\":{\"backend\":\"file\",\"path\":\"/p/fast\",\"kms\":[\"lab\",\"more\"],"
    "\"allocate\":\"full\"},\"slow\":{\"backend\":\"file\",\"path\":\"/p/"
    "slow\",\"kms\":[\"lab\",\"vault\",\"no-pods\",\"kv\"],"
    "\"allocate\":\"sparse\",\"overcommit\":2},\"kept\":{\"backend\":\"file\",\"path\":\"/p/"
    "kept\",\"kms\":[\"vault\"],"
    "\"allocate\":\"full\",\"escrow\":\"/k/escrow.pem\"}},\"kms\":{\"lab\":{\"uri\":\"file:///k/"
    "lab\"},"
    "\"more\":{\"uri\":\"file:///k/more\"},"
    "\"vault\":{\"uri\":\"hcvault://v:8200/transit/keys/coffer-t-{tenant}\",\"ca\":\"/"
    "ca\",\"server_key\":\"coffer-s-1\","
    "\"auth\":{\"method\":\"jwt\",\"role\":\"r\",\"token_path\":\"/t\",\"pod_role\":\"p\"}},"
    "\"no-pods\":{\"uri\":\"hcvault://v:8200/transit/keys/coffer-n-{tenant}\",\"ca\":\"/ca\","
    "\"auth\":{\"method\":\"jwt\",\"role\":\"r\",\"token_path\":\"/t\"}},"
    "\"kv\":{\"uri\":\"hcvault+kv://v:8200/coffer-kv/volumes\",\"ca\":\"/ca\","
    "\"auth\":{\"method\":\"jwt\",\"role\":\"r\",\"token_path\":\"/t\"}}}}";

static struct config *config(void)
{
    static struct config *c;
    struct error err = ERROR_INIT;

    if (c == NULL)
        must(config_decode(configuration, strlen(configuration), &c, &err) == 0);
    return c;
}

static size_t split(char *text, struct param items[PARAMS_MAX])
{
    char *rest = text, *line;
    size_t n = 0;

    while (n < PARAMS_MAX && (line = strsep(&rest, "\n")) != NULL) {
        char *value = strchr(line, '=');
        if (value == NULL)
            continue;
        *value = '\0';
        items[n++] = (struct param){ line, value + 1 };
    }
    return n;
}

static void check_context(const struct param *items, size_t n)
{
    struct record_claim claim = { .id = NULL };

    volume_context_decode(items, n, &claim);
    must(claim.id == NULL);
    for (size_t i = 0; i < n; i++)
        must(strcmp(items[i].key, CONTEXT_UUID) != 0 || claim.uuid != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);
    struct param items[PARAMS_MAX];
    struct volume_params p;
    struct error err = ERROR_INIT;

    must(text != NULL);
    size_t n = split(text, items);

    mark(&p, sizeof(p));
    check_context(items, n);
    if (volume_params_decode(config(), items, n, &p, &err) < 0) {
        must_be_sentence(&err);
        must_be_marked(&p, sizeof(p));
        return 0;
    }
    must(config_pool(config(), p.pool->name) == p.pool && pool_allows_kms(p.pool, p.kms));
    const bool client = strcmp(p.key_source, "client") == 0;
    must((client || strcmp(p.key_source, "vault") == 0) && tenant_valid(p.tenant));
    must((!client && !p.pod) || (strcmp(p.kms, "vault") == 0 && p.pool->escrow[0] == '\0'));
    must(!client || !p.pod);
    return 0;
}
