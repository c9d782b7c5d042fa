/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/capability.h"

#include "common/parse.h"
#include "common/strbuf.h"

#include <sys/mount.h>

#define COMMIT_SECONDS_MAX 300

struct mode_rule {
    const char *name;
    bool read_only;
    const char *refusal; /* NULL: supported */
};

static const struct mode_rule modes[] = {
    [CAPABILITY_SINGLE_NODE_WRITER] = { "SINGLE_NODE_WRITER", false, NULL },
    [CAPABILITY_SINGLE_NODE_READER_ONLY] = { "SINGLE_NODE_READER_ONLY", true, NULL },
    [CAPABILITY_MULTI_NODE_READER_ONLY] = { "MULTI_NODE_READER_ONLY", true, NULL },
    [CAPABILITY_MULTI_NODE_SINGLE_WRITER] = { "MULTI_NODE_SINGLE_WRITER", false,
                                              "readers on other nodes would see a stale file "
                                              "system" },
    [CAPABILITY_MULTI_NODE_MULTI_WRITER] = { "MULTI_NODE_MULTI_WRITER", false,
                                             "two nodes that write would destroy the file system" },
    [CAPABILITY_SINGLE_NODE_SINGLE_WRITER] = { "SINGLE_NODE_SINGLE_WRITER", false, NULL },
    [CAPABILITY_SINGLE_NODE_MULTI_WRITER] = { "SINGLE_NODE_MULTI_WRITER", false, NULL },
};

struct flag_rule {
    const char *name;
    unsigned long bits;
    const char *refusal; /* NULL: supported */
};

/* Flags that only restrict, or only trade time stamps and latency; none weakens what the node
 * always sets. */
static const struct flag_rule flag_rules[] = {
    { "noatime", MS_NOATIME, NULL },
    { "nodiratime", MS_NODIRATIME, NULL },
    { "relatime", MS_RELATIME, NULL },
    { "lazytime", MS_LAZYTIME, NULL },
    { "sync", MS_SYNCHRONOUS, NULL },
    { "dirsync", MS_DIRSYNC, NULL },
    { "ro", MS_RDONLY, NULL },
    { "nosuid", MS_NOSUID, NULL },
    { "nodev", MS_NODEV, NULL },
    { "noexec", MS_NOEXEC, NULL },
    { "discard", 0, "the pool's space is reserved in full, so discarding gives nothing back" },
    { "nobarrier", 0, "data would not survive a power cut" },
    { "suid", 0, "volumes are always mounted nosuid" },
    { "dev", 0, "volumes are always mounted nodev" },
};

static const struct mode_rule *mode_find(unsigned mode)
{
    if (mode >= ARRAY_SIZE(modes) || modes[mode].name == NULL)
        return NULL;
    return &modes[mode];
}

static const struct flag_rule *flag_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(flag_rules); i++) {
        if (strcmp(flag_rules[i].name, name) == 0)
            return &flag_rules[i];
    }
    return NULL;
}

static int check_mode(unsigned mode, struct error *err)
{
    const struct mode_rule *rule = mode_find(mode);

    if (rule == NULL)
        return error_set(err, ERR_INVALID, "access mode %u is not one that Coffer knows", mode);
    if (rule->refusal != NULL)
        return error_set(err, ERR_INVALID, "access mode %s is not supported: %s", rule->name,
                         rule->refusal);
    return 0;
}

static int check_fs(const char *fs_type, struct error *err)
{
    if (fs_type[0] == '\0' || strcmp(fs_type, CAPABILITY_FS_DEFAULT) == 0)
        return 0;
    return error_set(err, ERR_INVALID,
                     "file system type '%.32s' is not supported: use ext4 or leave fs_type empty",
                     fs_type);
}

/* "commit=N": the one flag with a value. *ret_seconds is only set when the flag is that one. */
static bool flag_is_commit(const char *flag, uint64_t *ret_seconds)
{
    static const char prefix[] = "commit=";
    uint64_t seconds;

    if (strncmp(flag, prefix, sizeof(prefix) - 1) != 0)
        return false;
    if (parse_u64(flag + sizeof(prefix) - 1, &seconds) < 0 || seconds < 1 ||
        seconds > COMMIT_SECONDS_MAX)
        return false;
    *ret_seconds = seconds;
    return true;
}

static int apply_flag(const char *flag, size_t position, struct capability_mount *m,
                      struct error *err)
{
    const struct flag_rule *rule = flag_find(flag);
    uint64_t seconds;

    if (rule != NULL && rule->refusal != NULL)
        return error_set(err, ERR_INVALID, "mount flag '%s' is refused: %s", rule->name,
                         rule->refusal);
    if (rule != NULL) {
        m->flags |= rule->bits;
        return 0;
    }
    if (flag_is_commit(flag, &seconds)) {
        (void)snprintf(m->data, sizeof(m->data), "commit=%u", (unsigned)seconds);
        return 0;
    }
    return error_set(err, ERR_INVALID,
                     "mount flag number %zu is not one of noatime, nodiratime, relatime, lazytime, "
                     "sync, dirsync, ro, "
                     "nosuid, nodev, noexec, commit=1..%d",
                     position + 1, COMMIT_SECONDS_MAX);
}

int capability_mount_options(const struct capability *c, struct capability_mount *ret,
                             struct error *err)
{
    struct capability_mount m = { .flags = 0, .data = "" };

    for (size_t i = 0; i < c->n_mount_flags; i++) {
        if (apply_flag(c->mount_flags[i], i, &m, err) < 0)
            return -1;
    }
    *ret = m;
    return 0;
}

int capability_check(const struct capability *c, struct error *err)
{
    struct capability_mount unused;

    if (check_mode(c->mode, err) < 0)
        return -1;
    if (c->mount_group != NULL && c->mount_group[0] != '\0')
        return error_set(err, ERR_INVALID, "volume_mount_group is not supported: leave it empty");
    if (c->block)
        return 0;
    if (check_fs(c->fs_type, err) < 0)
        return -1;
    return capability_mount_options(c, &unused, err);
}

const char *capability_fs(const struct capability *c)
{
    return c->block ? CAPABILITY_FS_NONE : CAPABILITY_FS_DEFAULT;
}

bool capability_mode_read_only(unsigned mode)
{
    const struct mode_rule *rule = mode_find(mode);

    return rule != NULL && rule->read_only;
}

const char *capability_mode_name(unsigned mode)
{
    const struct mode_rule *rule = mode_find(mode);

    return rule != NULL ? rule->name : "UNKNOWN";
}
