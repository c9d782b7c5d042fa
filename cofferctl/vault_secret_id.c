/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_secret_id.h"

#include "common/fs.h"
#include "common/strbuf.h"

static int path_of(const struct vault_layout *l, const char *role, const char *last,
                   char ret[VAULT_PATH_MAX + 1], struct error *err)
{
    int n =
        snprintf(ret, VAULT_PATH_MAX + 1, "auth/%s/role/%s%s/%s", l->login, l->prefix, role, last);

    if (n < 0 || n > (int)VAULT_PATH_MAX)
        return error_set(err, ERR_INVALID, "a path in Vault is longer than %u bytes",
                         VAULT_PATH_MAX);
    return 0;
}

int vault_role_id(struct vault_session *s, const struct vault_layout *l, const char *role,
                  char ret[256], struct error *err)
{
    AUTO_JSON json_t *data = NULL;
    char path[VAULT_PATH_MAX + 1];

    if (path_of(l, role, "role-id", path, err) < 0 || vault_session_read(s, path, &data, err) < 0)
        return -1;
    const char *id = json_string_value(json_object_get(data, "role_id"));
    if (str_copy(ret, 256, id == NULL ? "" : id) < 0)
        return error_set(err, ERR_UNAVAILABLE, "the id of role '%s' is too long", role);
    return 0;
}

static const char *secret_of(const json_t *answer, bool wrapped)
{
    if (wrapped)
        return json_string_value(json_object_get(json_object_get(answer, "wrap_info"), "token"));
    return json_string_value(json_object_get(json_object_get(answer, "data"), "secret_id"));
}

int vault_secret_id_make(struct vault_session *s, const struct vault_layout *l, const char *role,
                         const char *path, unsigned wrap_ttl_s, bool *ret_made, struct error *err)
{
    AUTO_JSON json_t *answer = NULL;
    AUTO_JSON json_t *nothing = json_object();
    char at[VAULT_PATH_MAX + 1];

    if (access(path, F_OK) == 0) {
        *ret_made = false;
        return 0;
    }
    if (path_of(l, role, "secret-id", at, err) < 0 ||
        vault_session_post(s, at, nothing, wrap_ttl_s, &answer, err) < 0)
        return -1;
    const char *secret = secret_of(answer, wrap_ttl_s > 0);
    if (secret == NULL || secret[0] == '\0')
        return error_set(err, ERR_UNAVAILABLE, "Vault's answer holds no secret id");
    if (fs_write_new(path, secret, strlen(secret), 0600, err) < 0)
        return -1;
    *ret_made = true;
    return 0;
}
