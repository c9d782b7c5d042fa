/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/kms.h"

#include "keyd/frame.h"

static const struct kms_driver *const drivers[] = { &kms_file };

static const struct kms_driver *driver_of(const char *uri)
{
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strncmp(uri, drivers[i]->prefix, strlen(drivers[i]->prefix)) == 0)
            return drivers[i];
    }
    return NULL;
}

static int kms_open(const struct kms_config *config, bool allow_insecure, struct kms *ret,
                    struct error *err)
{
    const struct kms_driver *driver = driver_of(config->uri);
    if (driver == NULL)
        return error_set(err, ERR_INVALID, "key service '%s': no driver for uri '%s'", config->name,
                         config->uri);
    if (driver->insecure && !allow_insecure)
        return error_set(err, ERR_PRECONDITION,
                         "key service '%s' is insecure (%s): it needs --insecure-file-kms",
                         config->name, driver->prefix);
    struct kms kms = { .driver = driver };
    if (str_copy(kms.name, sizeof(kms.name), config->name) < 0)
        return error_set(err, ERR_INVALID, "key service '%s': the name is too long", config->name);
    if (driver->open(config, &kms.state, err) < 0)
        return error_prefix(err, "key service '%s'", config->name);
    *ret = kms;
    return 0;
}

int kms_set_open(const struct config *config, bool allow_insecure, struct kms_set **ret,
                 struct error *err)
{
    AUTO_KMS_SET struct kms_set *set = calloc(1, sizeof(*set));
    if (set == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    set->items = calloc(config->n_kms + 1, sizeof(*set->items));
    if (set->items == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < config->n_kms; i++) {
        if (kms_open(&config->kms[i], allow_insecure, &set->items[i], err) < 0)
            return -1;
        set->n++;
    }
    *ret = TAKE_PTR(set);
    return 0;
}

void kms_set_free(struct kms_set *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->n; i++)
        set->items[i].driver->close(set->items[i].state);
    free(set->items);
    free(set);
}

bool kms_set_insecure(const struct kms_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->items[i].driver->insecure)
            return true;
    }
    return false;
}

int kms_set_find(const struct kms_set *set, const char *name, const struct kms **ret,
                 struct error *err)
{
    for (size_t i = 0; i < set->n; i++) {
        if (strcmp(set->items[i].name, name) != 0)
            continue;
        *ret = &set->items[i];
        return 0;
    }
    return error_set(err, ERR_PRECONDITION, "coffer-keyd has no key service '%s'", name);
}

int kms_mint(const struct kms *kms, const struct kms_call *call, struct keyd_wrapped *ret,
             struct error *err)
{
    return kms->driver->mint(kms->state, call, ret, err);
}

int kms_unwrap(const struct kms *kms, const struct kms_call *call, const struct keyd_wrapped *key,
               struct secret **ret, struct error *err)
{
    if (strcmp(key->kind, kms->driver->kind) != 0)
        return error_set(err, ERR_PRECONDITION,
                         "key service '%s' opens keys of kind '%s', not '%s'", kms->name,
                         kms->driver->kind, key->kind);
    AUTO_SECRET struct secret *plain = NULL;
    if (kms->driver->unwrap(kms->state, call, key, &plain, err) < 0)
        return -1;
    if (secret_len(plain) != KEY_BYTES)
        return error_set(err, ERR_PRECONDITION, "key service '%s' gave a key of another size",
                         kms->name);
    *ret = TAKE_PTR(plain);
    return 0;
}

int kms_refuse_key(struct error *err)
{
    return error_set(err, ERR_PRECONDITION,
                     "the wrapped key was not made for this volume here, or it was changed");
}
