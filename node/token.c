/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token.c: the token that kubelet gets for the pod that it publishes a volume for (CSIDriver's
 * tokenRequests): {"<audience>":{"token":"<JWT>","expirationTimestamp":"<RFC 3339>"}} under one
 * key. It lives in the call's arena and in jansson's memory, which are wiped both; no error quotes
 * it.
 */
#include "common/base.h"
#include "node/request.h"

#include "common/json.h"

#define TOKENS_KEY "csi.storage.k8s.io/serviceAccount.tokens"
#define AUDIENCE   "vault"

static const char *find(const struct csi_map *map)
{
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->items[i].key, TOKENS_KEY) == 0)
            return map->items[i].value;
    return NULL;
}

static int copy_token(struct arena *arena, const json_t *one, const char **ret, struct error *err)
{
    const char *text = json_string_value(json_object_get(one, "token"));

    if (text == NULL || text[0] == '\0')
        return error_set(err, ERR_INVALID,
                         TOKENS_KEY " holds no token under audience '" AUDIENCE "'");
    *ret = arena_strdup(arena, text);
    return *ret == NULL ? error_set(err, ERR_EXHAUSTED, "out of memory for the token") : 0;
}

int request_token(struct arena *arena, const struct csi_publish_request *req, const char **ret,
                  struct error *err)
{
    const char *text = find(&req->secrets);
    AUTO_JSON json_t *all = NULL;

    if (text == NULL)
        text = find(&req->volume_context);
    *ret = NULL;
    if (text == NULL)
        return 0;
    if (json_parse(text, strlen(text), TOKENS_KEY, &all, err) < 0)
        return -1;
    if (!json_is_object(all))
        return error_set(err, ERR_INVALID, TOKENS_KEY " is not a JSON object");
    const json_t *one = json_object_get(all, AUDIENCE);
    return one == NULL ? 0 : copy_token(arena, one, ret, err);
}
