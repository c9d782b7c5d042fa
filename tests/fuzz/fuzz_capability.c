/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A capability: byte 0 is the access mode, byte 1 says block, then the file system and mount flags,
 * a line each. Mount flags may be sensitive: no refusal repeats one, and none becomes anything but
 * bits of the list or an option of the file system's row.
 *
 * covers: volume/capability.c volume/fskind.c
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "volume/capability.h"
#include "volume/fskind.h"

#include <sys/mount.h>

#define FLAGS_MAX 40
#define BITS                                                                                \
    (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_LAZYTIME | MS_SYNCHRONOUS | MS_DIRSYNC | \
     MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

static size_t split(char *text, const char *flags[FLAGS_MAX])
{
    char *line;
    size_t n = 0;

    while (n < FLAGS_MAX && (line = strsep(&text, "\n")) != NULL)
        flags[n++] = line;
    return n;
}

static bool option_fits(const struct fs_option *o, const char *value)
{
    uint64_t n;

    for (size_t i = 0; o->words != NULL && o->words[i] != NULL; i++)
        if (strcmp(o->words[i], value) == 0)
            return true;
    return o->words == NULL && parse_u64(value, &n) == 0 && n >= o->min && n <= o->max;
}

/* "key=value" of that file system's row. */
static bool known_option(const struct fs_kind *kind, char *option)
{
    char *value = strchr(option, '=');

    if (value == NULL)
        return false;
    *value++ = '\0';
    for (size_t i = 0; i < kind->n_options; i++)
        if (strcmp(kind->options[i].key, option) == 0)
            return option_fits(&kind->options[i], value);
    return false;
}

static void check_options(const struct capability *c)
{
    const char *fs = capability_fs(c);
    struct capability_mount m;
    struct error err = ERROR_INIT;
    char *rest = m.data, *option;

    must(capability_mount_options(c, fs, &m, &err) == 0);
    must((m.flags & ~(unsigned long)BITS) == 0 && fs_kind_find(fs) != NULL);
    while (m.data[0] != '\0' && (option = strsep(&rest, ",")) != NULL)
        must(known_option(fs_kind_find(fs), option));
}

/* The refusal of one flag alone is a text of ours: the same for every unknown one. */
static void must_not_repeat(const char *fs_type, const char *flag)
{
    static const char *const unknown = "?";
    struct capability c = { .mode = CAPABILITY_SINGLE_NODE_WRITER, .fs_type = fs_type };
    struct error err = ERROR_INIT, other = ERROR_INIT;

    c.mount_flags = &unknown;
    c.n_mount_flags = 1;
    must(capability_check(&c, &other) < 0);
    c.mount_flags = &flag;
    if (capability_check(&c, &err) < 0)
        must(strcmp(err.msg, other.msg) == 0 || strstr(err.msg, " is refused: ") != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = size < 2 ? NULL : strndup((const char *)data + 2, size - 2);
    const char *lines[FLAGS_MAX];
    struct error err = ERROR_INIT;

    if (text == NULL)
        return 0;
    size_t n = split(text, lines);
    const struct capability c = { .mode = data[0],
                                  .block = data[1] == 'b',
                                  .fs_type = n > 0 ? lines[0] : "",
                                  .mount_flags = lines + (n > 0),
                                  .n_mount_flags = n > 0 ? n - 1 : 0 };

    for (size_t i = 0; i < c.n_mount_flags; i++)
        must_not_repeat(c.fs_type, c.mount_flags[i]);
    if (capability_check(&c, &err) < 0) {
        must(err.code == ERR_INVALID);
        must_be_sentence(&err);
    } else if (!c.block) {
        check_options(&c);
    }
    return 0;
}
