/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_target.h"

struct key_flags key_flags;

int key_flags_check(bool with_volume, struct error *err)
{
    bool volume = with_volume && key_flags.volume[0] != '\0';
    int given = (key_flags.tenant[0] != '\0') + (volume ? 1 : 0) + (key_flags.all ? 1 : 0);

    if (given != 1)
        return error_set(err, ERR_INVALID,
                         with_volume ? "exactly one of --tenant, --volume and --all is needed"
                                     : "exactly one of --tenant and --all is needed");
    if (key_flags.tenant[0] != '\0' && !tenant_valid(key_flags.tenant))
        return error_set(err, ERR_INVALID, "--tenant '%.64s' is no tenant's name",
                         key_flags.tenant);
    return 0;
}

/* ---- what is chosen ---- */

bool key_kms_chosen(const struct kms_config *kms)
{
    const struct flag_strings *names = &vault_flags.kms;

    for (size_t i = 0; i < names->len; i++) {
        if (strcmp(names->items[i], kms->name) == 0)
            return true;
    }
    return names->len == 0 && kms->kind == KMS_VAULT_TRANSIT;
}

bool key_is_chosen(const struct ring_key *k)
{
    char name[KMS_KEY_NAME_SIZE];

    if (!key_kms_chosen(k->kms))
        return false;
    if (key_flags.tenant == NULL || key_flags.tenant[0] == '\0')
        return true;
    kms_key_name(k->kms->vault, key_flags.tenant, name);
    return strcmp(k->name, name) == 0;
}

int key_ring_want_chosen(struct key_ring *ring, const struct key_target *t, struct error *err)
{
    struct ring_key *k;

    for (size_t i = 0; key_flags.tenant[0] != '\0' && i < t->config->n_kms; i++) {
        const struct kms_config *kms = &t->config->kms[i];

        if (key_kms_chosen(kms) && key_ring_want(ring, kms, key_flags.tenant, &k, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- opening ---- */

static int check_names(const struct config *c, struct error *err)
{
    for (size_t i = 0; i < vault_flags.kms.len; i++) {
        const struct kms_config *kms = config_kms(c, vault_flags.kms.items[i]);

        if (kms == NULL)
            return error_set(err, ERR_INVALID, "--kms '%s': the configuration has no such service",
                             vault_flags.kms.items[i]);
        if (kms->kind != KMS_VAULT_TRANSIT)
            return error_set(err, ERR_INVALID,
                             "--kms '%s': only keys of Vault's transit engine have versions",
                             kms->name);
    }
    return 0;
}

static int choose(struct key_target *t, bool with_vault, struct error *err)
{
    if (check_names(t->config, err) < 0)
        return -1;
    for (size_t i = 0; i < t->config->n_kms; i++) {
        struct kms_config *kms = &t->config->kms[i];

        if (!key_kms_chosen(kms))
            continue;
        if (t->kms == NULL)
            t->kms = kms;
        if ((with_vault && vault_login_same(t->kms, kms, err) < 0) ||
            (key_flags.role[0] != '\0' && kms_config_set_role(kms, key_flags.role, err) < 0))
            return -1;
    }
    if (t->kms == NULL)
        return error_set(err, ERR_INVALID,
                         "the configuration has no key service of Vault's transit engine");
    return 0;
}

int key_target_open(const struct cli *cli, bool with_vault, struct key_target **ret,
                    struct error *err)
{
    AUTO_KEY_TARGET struct key_target *t = NULL;

    if (vault_login_prepare(err) < 0)
        return -1;
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_memory(err);
    if (config_load(cli->config, &t->config, err) < 0 || choose(t, with_vault, err) < 0 ||
        pool_set_open(t->config, &t->pools, err) < 0 ||
        (with_vault && vault_login_open(t->kms, VAULT_AS_ANYBODY, &t->login, err) < 0))
        return -1;
    *ret = TAKE_PTR(t);
    return 0;
}

void key_target_free(struct key_target *t)
{
    if (t == NULL)
        return;
    vault_session_close(t->login.session);
    pool_set_free(t->pools);
    config_free(t->config);
    free(t);
}
