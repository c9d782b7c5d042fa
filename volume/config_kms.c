/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/config_kms.h"

#include "common/parse.h"
#include "common/strbuf.h"
#include "volume/id.h"

#define TIMEOUT_DEFAULT_MS 10000u
#define TIMEOUT_MAX_MS     60000u

static const struct uri_kind {
    const char *prefix;
    enum kms_kind kind;
} uri_kinds[] = {
    { "file://", KMS_FILE },
    { "hcvault://", KMS_VAULT_TRANSIT },
    { "hcvault+kv://", KMS_VAULT_KV },
};

bool config_path_plain(const char *path)
{
    if (path[0] != '/' || path[1] == '\0')
        return false;
    for (const char *p = path + 1;;) {
        size_t n = strcspn(p, "/");

        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += n;
        if (*p == '\0')
            return true;
        p++;
    }
}

static const struct uri_kind *uri_kind_of(const char *uri)
{
    for (size_t i = 0; i < ARRAY_SIZE(uri_kinds); i++)
        if (strncmp(uri, uri_kinds[i].prefix, strlen(uri_kinds[i].prefix)) == 0)
            return &uri_kinds[i];
    return NULL;
}

/* --- the parts of a URI --- */

#define DIGITS  "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* HOST:PORT; a host is a name, an IPv4 address, or an IPv6 address in brackets. */
static bool address_valid(const char *text)
{
    const char *colon = strrchr(text, ':');
    char port[8];
    uint64_t number;

    if (colon == NULL || colon == text || str_copy(port, sizeof(port), colon + 1) < 0 ||
        parse_u64(port, &number) < 0 || number == 0 || number > 65535)
        return false;
    size_t host = (size_t)(colon - text);
    if (text[0] == '[')
        return host > 2 && colon[-1] == ']' &&
               strspn(text + 1, DIGITS "abcdefABCDEF:.") == host - 2;
    return strspn(text, LETTERS DIGITS ".-") == host;
}

/* Segments of plain characters, "/" between them: what a path in Vault may hold without escapes. */
static bool vault_path_valid(const char *text)
{
    for (const char *p = text;;) {
        size_t n = strcspn(p, "/");

        if (n == 0 || strspn(p, LETTERS DIGITS "_.-{}") < n || (n <= 2 && p[0] == '.'))
            return false;
        p += n;
        if (*p == '\0')
            return true;
        p++;
    }
}

/* At most one mark, and no other brace. */
static bool tenant_mark_valid(const char *text)
{
    const char *mark = strstr(text, CONFIG_TENANT_MARK);
    size_t before = mark == NULL ? strlen(text) : (size_t)(mark - text);

    if (strcspn(text, "{}") < before)
        return false;
    return mark == NULL || strpbrk(mark + strlen(CONFIG_TENANT_MARK), "{}") == NULL;
}

static int copy_part(char *dst, size_t size, const char *from, size_t len)
{
    if (len == 0 || len >= size)
        return -1;
    memcpy(dst, from, len);
    dst[len] = '\0';
    return 0;
}

/* transit: MOUNT/keys/NAME; KV: MOUNT/PREFIX, where MOUNT is one segment. */
static bool split_path(const char *path, enum kms_kind kind, struct kms_vault_config *v)
{
    const char *middle = kind == KMS_VAULT_TRANSIT ? "/keys/" : "/";
    const char *at = strstr(path, middle);

    return at != NULL && vault_path_valid(path) && tenant_mark_valid(path) &&
           copy_part(v->mount, sizeof(v->mount), path, (size_t)(at - path)) == 0 &&
           strchr(v->mount, '{') == NULL &&
           str_copy(v->name, sizeof(v->name), at + strlen(middle)) == 0 &&
           (kind == KMS_VAULT_KV ? strchr(v->name, '{') == NULL : strchr(v->name, '/') == NULL);
}

static void read_vault_uri(struct json_reader *r, const struct uri_kind *kind, const char *uri,
                           struct kms_vault_config *v)
{
    const char *address = uri + strlen(kind->prefix);
    size_t len = strcspn(address, "/");

    if (copy_part(v->addresses[0], sizeof(v->addresses[0]), address, len) < 0 ||
        !address_valid(v->addresses[0]) || address[len] != '/' ||
        !split_path(address + len + 1, kind->kind, v))
        json_problem(r, "uri '%.80s' must be %sHOST:PORT/MOUNT/%s", uri, kind->prefix,
                     kind->kind == KMS_VAULT_TRANSIT ? "keys/NAME" : "PREFIX");
    v->n_addresses = 1;
}

/* --- the fields beside the URI --- */

static void check_path(struct json_reader *r, const char *key, const char *path)
{
    if (path[0] != '\0' && !config_path_plain(path))
        json_problem(r, "field '%s' must be an absolute path, without empty, '.' or '..' parts",
                     key);
}

static void read_path_opt(struct json_reader *r, const char *key, char *ret, size_t size)
{
    if (json_get_string_opt(r, key, ret, size))
        check_path(r, key, ret);
}

static void read_addresses(struct json_reader *r, struct kms_vault_config *v)
{
    const json_t *list = json_get_any_opt(r, "addresses"), *item;
    size_t i;

    if (list == NULL)
        return;
    if (!json_is_array(list))
        json_problem(r, "field 'addresses' must be an array");
    json_array_foreach (list, i, item) {
        const char *text = json_string_value(item);

        if (v->n_addresses == CONFIG_ADDRESSES_MAX)
            json_problem(r, "field 'addresses' holds more than %d", CONFIG_ADDRESSES_MAX - 1);
        else if (text == NULL || !address_valid(text) ||
                 str_copy(v->addresses[v->n_addresses], sizeof(v->addresses[0]), text) < 0)
            json_problem(r, "field 'addresses' must hold texts HOST:PORT");
        else
            v->n_addresses++;
    }
}

static const char *const auth_methods[] = { "kubernetes", "jwt", "approle", "cert", "token-file" };

static bool method_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(auth_methods); i++)
        if (strcmp(auth_methods[i], name) == 0)
            return true;
    return false;
}

/* A part of a path in Vault, when given. */
static void check_segment(struct json_reader *r, const char *key, const char *text)
{
    if (text[0] != '\0' && (!vault_path_valid(text) || strpbrk(text, "{}") != NULL))
        json_problem(r, "field '%s' holds what can't be in a path", key);
}

/* What a pod's token logs in with: kubernetes or jwt, whose logins look the same. */
static void read_pod_login(struct json_reader *r, struct kms_auth_config *a)
{
    bool same = strcmp(a->method, "kubernetes") == 0 || strcmp(a->method, "jwt") == 0;
    const char *usual = same && a->mount[0] != '\0' ? a->mount : same ? a->method : "kubernetes";
    bool given = json_get_string_opt(r, "pod_mount", a->pod_mount, sizeof(a->pod_mount));

    (void)json_get_string_opt(r, "pod_role", a->pod_role, sizeof(a->pod_role));
    check_segment(r, "pod_mount", a->pod_mount);
    check_segment(r, "pod_role", a->pod_role);
    if (given && a->pod_role[0] == '\0')
        json_problem(r, "field 'pod_mount' says nothing without 'pod_role'");
    if (a->pod_role[0] != '\0' && a->pod_mount[0] == '\0' &&
        str_copy(a->pod_mount, sizeof(a->pod_mount), usual) < 0)
        json_problem(r, "field 'pod_mount' is too long");
}

static void read_auth(struct json_reader *outer, struct kms_auth_config *a)
{
    json_t *obj = json_get_object(outer, "auth");
    struct error err = ERROR_INIT;

    if (obj == NULL)
        return;
    struct json_reader r = json_reader_of(obj, "auth");
    json_get_string(&r, "method", a->method, sizeof(a->method));
    if (!method_known(a->method))
        json_problem(&r, "there is no method '%s' (kubernetes, jwt, approle, cert, token-file)",
                     a->method);
    (void)json_get_string_opt(&r, "mount", a->mount, sizeof(a->mount));
    check_segment(&r, "mount", a->mount);
    (void)json_get_string_opt(&r, "role", a->role, sizeof(a->role));
    check_segment(&r, "role", a->role);
    read_path_opt(&r, "token_path", a->token_path, sizeof(a->token_path));
    (void)json_get_string_opt(&r, "role_id", a->role_id, sizeof(a->role_id));
    read_path_opt(&r, "secret_id_path", a->secret_id_path, sizeof(a->secret_id_path));
    (void)json_get_bool_opt(&r, "secret_id_wrapped", &a->secret_id_wrapped);
    read_pod_login(&r, a);
    if (json_reader_done(&r, &err) < 0)
        json_problem(outer, "%.180s", err.msg);
}

static void read_tenants(struct json_reader *r, struct kms_vault_config *v)
{
    char tenants[16] = "any";

    (void)json_get_string_opt(r, "tenants", tenants, sizeof(tenants));
    v->tenants_listed = strcmp(tenants, "listed") == 0;
    if (!v->tenants_listed && strcmp(tenants, "any") != 0)
        json_problem(r, "field 'tenants' must be any or listed");
}

static void check_text(struct json_reader *r, const char *key, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p <= ' ' || (unsigned char)*p > '~')
            json_problem(r, "field '%s' must be of printable ASCII without spaces", key);
    }
}

static void read_vault(struct json_reader *r, struct kms_vault_config *v)
{
    json_get_string(r, "ca", v->ca, sizeof(v->ca));
    check_path(r, "ca", v->ca);
    read_addresses(r, v);
    read_path_opt(r, "client_cert", v->client_cert, sizeof(v->client_cert));
    read_path_opt(r, "client_key", v->client_key, sizeof(v->client_key));
    if ((v->client_cert[0] == '\0') != (v->client_key[0] == '\0'))
        json_problem(r, "fields 'client_cert' and 'client_key' go together");
    (void)json_get_string_opt(r, "proxy", v->proxy, sizeof(v->proxy));
    check_text(r, "proxy", v->proxy);
    (void)json_get_string_opt(r, "namespace", v->name_space, sizeof(v->name_space));
    check_text(r, "namespace", v->name_space);
    v->timeout_ms = TIMEOUT_DEFAULT_MS;
    (void)json_get_u64_opt(r, "timeout_ms", &v->timeout_ms);
    if (v->timeout_ms < 100 || v->timeout_ms > TIMEOUT_MAX_MS)
        json_problem(r, "field 'timeout_ms' must be a number from 100 to %u", TIMEOUT_MAX_MS);
    read_tenants(r, v);
    read_auth(r, &v->auth);
}

/* --- one key service --- */

static void read_file_uri(struct json_reader *r, const struct uri_kind *kind, const char *uri)
{
    const char *path = uri + strlen(kind->prefix);

    if (!config_path_plain(path) || strpbrk(path, "?#%") != NULL)
        json_problem(r, "uri '%.80s' must be file:// and an absolute path", uri);
}

/* Vault tells one tenant's pods from another's by the key's name, so the name must hold it. */
static void check_pod_role(struct json_reader *r, enum kms_kind kind,
                           const struct kms_vault_config *v)
{
    if (v->auth.pod_role[0] == '\0')
        return;
    if (kind == KMS_VAULT_KV)
        json_problem(r, "auth: field 'pod_role' is for hcvault:// alone: the path of a stored key "
                        "doesn't say whose it is");
    else if (strstr(v->name, CONFIG_TENANT_MARK) == NULL)
        json_problem(r, "auth: field 'pod_role' needs " CONFIG_TENANT_MARK
                        " in the uri: a key for each tenant");
}

/* No tenant's key may have its name: what encrypts for a tenant would be asked to decrypt sessions.
 */
static void read_server_key(struct json_reader *r, enum kms_kind kind, struct kms_vault_config *v)
{
    const char *mark = strstr(v->name, CONFIG_TENANT_MARK);
    size_t len = mark == NULL ? strlen(v->name) : (size_t)(mark - v->name);

    if (!json_get_string_opt(r, "server_key", v->server_key, sizeof(v->server_key)))
        return;
    if (kind != KMS_VAULT_TRANSIT)
        json_problem(r, "field 'server_key' is for hcvault:// alone: a key of its transit mount");
    else if (!vault_path_valid(v->server_key) || strpbrk(v->server_key, "{}/") != NULL)
        json_problem(r, "field 'server_key' must be the name of a key");
    else if (mark == NULL ? strcmp(v->server_key, v->name) == 0
                          : strncmp(v->server_key, v->name, len) == 0)
        json_problem(r, "field 'server_key' must not be like the tenants' keys '%s'", v->name);
}

static void read_kms(struct json_reader *r, struct kms_config *ret)
{
    const struct uri_kind *kind = uri_kind_of(ret->uri);

    if (kind == NULL) {
        json_problem(r, "uri '%.80s' has no known prefix (file://, hcvault://, hcvault+kv://)",
                     ret->uri);
        return;
    }
    ret->kind = kind->kind;
    if (kind->kind == KMS_FILE) {
        read_file_uri(r, kind, ret->uri);
        return;
    }
    ret->vault = calloc(1, sizeof(*ret->vault));
    if (ret->vault == NULL) {
        json_problem_memory(r);
        return;
    }
    read_vault_uri(r, kind, ret->uri, ret->vault);
    read_vault(r, ret->vault);
    check_pod_role(r, kind->kind, ret->vault);
    read_server_key(r, kind->kind, ret->vault);
}

int kms_config_decode(const char *name, json_t *obj, struct kms_config *ret, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "kms");

    ret->vault = NULL;
    if (!kms_name_valid(name) || str_copy(ret->name, sizeof(ret->name), name) < 0)
        return error_set(err, ERR_INVALID,
                         "the name of kms '%s' must be 1 to 63 of a-z, 0-9 and '-'", name);
    json_get_string(&r, "uri", ret->uri, sizeof(ret->uri));
    read_kms(&r, ret);
    if (json_reader_done(&r, err) < 0)
        return error_set(err, ERR_INVALID, "kms '%s': %s", name, r.problem);
    return 0;
}

int kms_config_set_role(struct kms_config *c, const char *role, struct error *err)
{
    struct kms_auth_config *a = c->vault == NULL ? NULL : &c->vault->auth;

    if (a == NULL || (strcmp(a->method, "kubernetes") != 0 && strcmp(a->method, "jwt") != 0))
        return 0;
    if (strlen(role) >= sizeof(a->role) || !vault_path_valid(role) || strpbrk(role, "{}") != NULL)
        return error_set(err, ERR_INVALID, "'%.128s' can't be a role's name", role);
    return str_copy(a->role, sizeof(a->role), role);
}

void kms_key_name(const struct kms_vault_config *v, const char *tenant, char ret[KMS_KEY_NAME_SIZE])
{
    const char *mark = strstr(v->name, CONFIG_TENANT_MARK);

    if (mark == NULL)
        (void)snprintf(ret, KMS_KEY_NAME_SIZE, "%s", v->name);
    else
        (void)snprintf(ret, KMS_KEY_NAME_SIZE, "%.*s%s%s", (int)(mark - v->name), v->name, tenant,
                       mark + strlen(CONFIG_TENANT_MARK));
}
