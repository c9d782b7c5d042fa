/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/capability.h"

#include "common/parse.h"
#include "common/strbuf.h"
#include "volume/fskind.h"

#include <sys/mount.h>

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
    { "discard", 0, "whether a volume discards is its parameter 'discard', for sparse pools only" },
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
    if (fs_type[0] == '\0' || (strcmp(fs_type, FS_KIND_NONE) != 0 && fs_kind_find(fs_type) != NULL))
        return 0;
    return error_set(err, ERR_INVALID,
                     "file system type '%.32s' is not supported: use ext4, xfs or btrfs, or leave "
                     "fs_type empty (" FS_KIND_DEFAULT ")",
                     fs_type);
}

/* ---- mount flags ---- */

/* Of an option that comes twice the last one counts, so one value each is kept. */
struct options {
    const struct fs_kind *kind;
    unsigned long flags;
    unsigned numbers[FS_OPTIONS_MAX]; /* 0: not given */
    const char *words[FS_OPTIONS_MAX];
};

static bool set_option(const struct fs_option *o, const char *value, unsigned *ret_number,
                       const char **ret_word)
{
    uint64_t n;

    for (size_t i = 0; o->words != NULL && o->words[i] != NULL; i++) {
        if (strcmp(o->words[i], value) == 0) {
            *ret_word = o->words[i];
            return true;
        }
    }
    if (o->words != NULL || parse_u64(value, &n) < 0 || n < o->min || n > o->max)
        return false;
    *ret_number = (unsigned)n;
    return true;
}

static bool apply_option(const char *flag, struct options *ret)
{
    const struct fs_kind *kind = ret->kind;

    for (size_t i = 0; i < kind->n_options; i++) {
        size_t len = strlen(kind->options[i].key);

        if (strncmp(flag, kind->options[i].key, len) == 0 && flag[len] == '=')
            return set_option(&kind->options[i], flag + len + 1, &ret->numbers[i], &ret->words[i]);
    }
    return false;
}

static void describe_option(const struct fs_option *o, struct strbuf *sb)
{
    strbuf_addf(sb, ", %s=", o->key);
    if (o->words == NULL)
        strbuf_addf(sb, "%u..%u", o->min, o->max);
    for (size_t i = 0; o->words != NULL && o->words[i] != NULL; i++)
        strbuf_addf(sb, "%s%s", i > 0 ? "|" : "", o->words[i]);
}

static int unknown_flag(const struct fs_kind *kind, size_t position, struct error *err)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1024);

    for (size_t i = 0; i < ARRAY_SIZE(flag_rules); i++) {
        if (flag_rules[i].refusal == NULL)
            strbuf_addf(&sb, "%s%s", sb.len > 0 ? ", " : "", flag_rules[i].name);
    }
    for (size_t i = 0; i < kind->n_options; i++)
        describe_option(&kind->options[i], &sb);
    return error_set(err, ERR_INVALID, "mount flag number %zu is none that %s takes here: %s",
                     position + 1, kind->name, strbuf_text(&sb));
}

static int apply_flag(const char *flag, size_t position, struct options *o, struct error *err)
{
    const struct flag_rule *rule = flag_find(flag);

    if (rule != NULL && rule->refusal != NULL)
        return error_set(err, ERR_INVALID, "mount flag '%s' is refused: %s", rule->name,
                         rule->refusal);
    if (rule != NULL) {
        o->flags |= rule->bits;
        return 0;
    }
    return apply_option(flag, o) ? 0 : unknown_flag(o->kind, position, err);
}

static int write_data(const struct options *o, struct capability_mount *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(sizeof(ret->data));

    for (size_t i = 0; i < o->kind->n_options; i++) {
        const char *comma = sb.len > 0 ? "," : "", *key = o->kind->options[i].key;

        if (o->words[i] != NULL)
            strbuf_addf(&sb, "%s%s=%s", comma, key, o->words[i]);
        else if (o->numbers[i] != 0)
            strbuf_addf(&sb, "%s%s=%u", comma, key, o->numbers[i]);
    }
    if (strbuf_check(&sb, "mount flags", err) < 0)
        return -1;
    return str_copy(ret->data, sizeof(ret->data), strbuf_text(&sb)) < 0
               ? error_set(err, ERR_INVALID, "mount flags are too long")
               : 0;
}

int capability_mount_options(const struct capability *c, const char *fs,
                             struct capability_mount *ret, struct error *err)
{
    struct options o = { .kind = fs_kind_find(fs) };
    struct capability_mount m = { .flags = 0, .data = "" };

    if (o.kind == NULL)
        return error_set(err, ERR_INTERNAL, "file system '%.32s' has no row", fs);
    for (size_t i = 0; i < c->n_mount_flags; i++) {
        if (apply_flag(c->mount_flags[i], i, &o, err) < 0)
            return -1;
    }
    m.flags = o.flags;
    if (write_data(&o, &m, err) < 0)
        return -1;
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
    return capability_mount_options(c, capability_fs(c), &unused, err);
}

const char *capability_fs(const struct capability *c)
{
    if (c->block)
        return FS_KIND_NONE;
    return c->fs_type[0] == '\0' ? FS_KIND_DEFAULT : fs_kind_find(c->fs_type)->name;
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
