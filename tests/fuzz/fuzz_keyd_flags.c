/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd's own two flags: the first line is --allow, each other line a --peer, by numbers or by the
 * names of a passwd and a group file. What can't be read exactly allows nothing. The first line is
 * a socket's group too.
 *
 * covers: common/peers.c keyd/ops.c:ops_allow_parse
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "keyd/ops.h"
#include "keyd/rights.h"
#include "common/peers.h"
#include "tests/support/tmpdir.h"

static struct tmpdir names;

static void clean_up(void)
{
    tmpdir_remove(&names);
}

static void start(void)
{
    static const char passwd[] = "root:x:0:0::/:/bin/sh\n_coffer-1:x:990:991::/:/bin/false\n";
    static const char group[] = "root:x:0:\ncoffer:x:991:_coffer-1\n";

    if (names.path[0] != '\0')
        return;
    names = tmpdir_make();
    must(atexit(clean_up) == 0);
    tmpdir_write(&names, "passwd", passwd, sizeof(passwd) - 1);
    tmpdir_write(&names, "group", group, sizeof(group) - 1);
}

/* Among the words between commas: UNWRAP isn't UNWRAP_CLIENT. */
static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = list; (at = strstr(at, word)) != NULL; at += len) {
        if ((at == list || at[-1] == ',') && (at[len] == '\0' || at[len] == ','))
            return true;
    }
    return false;
}

static void check_allow(const char *list)
{
    bool allowed[WIRE_OP_LIMIT];
    struct error err = ERROR_INIT;

    mark(allowed, sizeof(allowed));
    if (ops_allow_parse(list, allowed, &err) < 0) {
        must(err.code == ERR_INVALID);
        must_be_sentence(&err);
        must_be_marked(allowed, sizeof(allowed));
        return;
    }
    must(allowed[WIRE_STATUS] && !allowed[WIRE_NONE]);
    must(allowed[WIRE_MINT] == has_word(list, "MINT"));
    must(allowed[WIRE_UNWRAP] == has_word(list, "UNWRAP"));
}

static void check_peers(const struct flag_strings *texts)
{
    struct peers p = { .n = 99 };
    struct error err = ERROR_INIT;
    char again[64];

    if (peers_parse(texts, names.path, &p, &err) < 0) {
        must(err.code == ERR_INVALID);
        must(p.n == 99);
        must_be_sentence(&err);
        return;
    }
    must(p.n == texts->len && p.n > 0 && !peers_allow(&p, UINT32_MAX, UINT32_MAX));
    for (size_t i = 0; i < p.n; i++) {
        (void)snprintf(again, sizeof(again), "%u:%u", p.items[i].uid, p.items[i].gid);
        must(peers_allow(&p, p.items[i].uid, p.items[i].gid));
        if (texts->items[i][strspn(texts->items[i], "0123456789:")] == '\0')
            must(strlen(again) <= strlen(texts->items[i])); /* leading zeros may be gone */
    }
}

/* Nobody gets more by a text than it says. */
static void check_rights(const struct flag_strings *texts)
{
    struct rights r;
    struct error err = ERROR_INIT;
    bool may[WIRE_OP_LIMIT];

    mark(&r, sizeof(r));
    if (rights_parse(texts, names.path, &r, &err) < 0) {
        must(err.code == ERR_INVALID);
        must_be_sentence(&err);
        must_be_marked(&r, sizeof(r));
        return;
    }
    must(r.peers.n == texts->len && !rights_of(&r, UINT32_MAX, UINT32_MAX, may));
    for (size_t i = 0; i < r.peers.n; i++) {
        const char *text = texts->items[i], *ops = strchr(strchr(text, ':') + 1, ':');

        must(rights_of(&r, r.peers.items[i].uid, r.peers.items[i].gid, may));
        must(r.may[i][WIRE_UNWRAP] == (ops == NULL || has_word(ops + 1, "UNWRAP")));
        must(may[WIRE_UNWRAP] || !r.may[i][WIRE_UNWRAP]);
    }
}

static void check_group(const char *text)
{
    gid_t g = 77, number = 0;
    struct error err = ERROR_INIT;

    if (peers_group_parse(text, names.path, &g, &err) < 0) {
        must(err.code == ERR_INVALID && g == 77);
        must_be_sentence(&err);
        return;
    }
    must(g != (gid_t)-1);
    must(strcmp(text, "root") == 0          ? g == 0
         : strcmp(text, "coffer") == 0      ? g == 991
         : sscanf(text, "%u", &number) == 1 ? number == g
                                            : false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);
    struct flag_strings peers = { .len = 0 };
    char *rest = text, *line;

    must(text != NULL);
    start();
    const char *allow = strsep(&rest, "\n");
    while (peers.len < ARRAY_SIZE(peers.items) && (line = strsep(&rest, "\n")) != NULL)
        peers.items[peers.len++] = line;
    check_allow(allow);
    check_group(allow);
    check_peers(&peers);
    check_rights(&peers);
    return 0;
}
