/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi-fake ENDPOINT[,ENDPOINT] [drain ms [workers]]: one or two CSI servers of csi/ over ops that
 * only pretend, for the component tests and load figures. A volume id says what its call does:
 *
 *   fail:CODE      fails with that code
 *   fail:          fails with an empty message
 *   sleep:MS       takes that long whatever happens
 *   wait:MS        takes that long, or ends as CANCELLED when the client goes away
 *   anything else  works
 *
 * UnlockKey takes the outcome from the reason (same words) and writes "passphrase of <id>" to the
 * output. NodeGetVolumeStats reports how many ops began (total) and ended (used) so far.
 */
#include "common/base.h"

#include "common/deadline.h"
#include "common/log.h"
#include "common/b64.h"
#include "common/parse.h"
#include "csi/server.h"

#include <inttypes.h>
#include <sha256.h>
#include <stdatomic.h>

static atomic_uint_fast64_t began, ended;

static int act(const struct csi_call *call, const char *id, struct error *err)
{
    uint64_t ms = 0;
    if (strncmp(id, "fail:", 5) == 0) {
        if (id[5] == '\0') {
            err->code = ERR_ABORTED;
            return -1;
        }
        return error_set(err, error_code_from_name(id + 5), "failed as asked");
    }
    bool polite = strncmp(id, "wait:", 5) == 0;
    if ((!polite && strncmp(id, "sleep:", 6) != 0) || parse_u64(strchr(id, ':') + 1, &ms) < 0)
        return 0;
    for (uint64_t until = deadline_in(ms); deadline_left(until) > 0; sleep_ms(5))
        if (polite && call->cancelled(call))
            return error_set(err, ERR_CANCELED, "the client went away");
    return 0;
}

static int counted(const struct csi_call *call, const char *id, struct error *err)
{
    atomic_fetch_add(&began, 1);
    int rc = act(call, id, err);
    atomic_fetch_add(&ended, 1);
    return rc;
}

/* ---- Identity ---- */

static int plugin_info(void *ctx, struct csi_call *call, struct csi_plugin_info *ret,
                       struct error *err)
{
    *ret =
        (struct csi_plugin_info){ .name = "fake.csi.coffer.dev", .vendor_version = COFFER_VERSION };
    return 0;
}

static int plugin_caps(void *ctx, struct csi_call *call, struct csi_plugin_caps *ret,
                       struct error *err)
{
    *ret = (struct csi_plugin_caps){ true, true, true };
    return 0;
}

static int probe(void *ctx, struct csi_call *call, bool *ret_ready, struct error *err)
{
    *ret_ready = true;
    return 0;
}

/* ---- Controller ---- */

static int create(void *ctx, struct csi_call *call, const struct csi_create_volume_request *r,
                  struct csi_volume *ret, struct error *err)
{
    if (counted(call, r->name, err) < 0)
        return -1;
    static const struct csi_pair node = { "topology.fake/node", "n1" };
    static const struct csi_topology here = { .segments = { &node, 1 } };
    *ret = (struct csi_volume){ .capacity_bytes = r->required_bytes,
                                .volume_id = r->name,
                                .volume_context = r->parameters,
                                .accessible_topology = { &here, 1 } };
    return 0;
}

static int delete (void *ctx, struct csi_call *call, const struct csi_delete_volume_request *r,
                   struct error *err)
{
    return counted(call, r->volume_id, err);
}

static int validate(void *ctx, struct csi_call *call, const struct csi_validate_request *r,
                    struct csi_validate_reply *ret, struct error *err)
{
    if (counted(call, r->volume_id, err) < 0)
        return -1;
    bool one_node = r->capabilities.items[0].mode != CSI_MULTI_NODE_MULTI_WRITER;
    *ret = (struct csi_validate_reply){ one_node, one_node ? "" : "one node only" };
    return 0;
}

static int list(void *ctx, struct csi_call *call, const struct csi_list_request *r,
                struct csi_list_reply *ret, struct error *err)
{
    size_t n = r->max_entries > 0 ? r->max_entries : 3;
    struct csi_volume *items = arena_alloc(call->arena, n * sizeof(*items));
    if (items == NULL)
        return error_memory(err);
    for (size_t i = 0; i < n; i++)
        items[i] = (struct csi_volume){ .capacity_bytes = GIB(1),
                                        .volume_id = arena_printf(call->arena, "fake.%08zu", i) };
    *ret = (struct csi_list_reply){ .items = items, .n = n, .next_token = r->starting_token };
    return 0;
}

static int capacity(void *ctx, struct csi_call *call, const struct csi_capacity_request *r,
                    struct csi_capacity_reply *ret, struct error *err)
{
    *ret = (struct csi_capacity_reply){ .available = GIB(5), .minimum_volume_size = MIB(16) };
    return 0;
}

static int controller_caps(void *ctx, struct csi_call *call, struct csi_controller_caps *ret,
                           struct error *err)
{
    *ret = (struct csi_controller_caps){ true, true, true, true, true };
    return 0;
}

static int controller_expand(void *ctx, struct csi_call *call, const struct csi_expand_request *r,
                             struct csi_controller_expand_reply *ret, struct error *err)
{
    if (counted(call, r->volume_id, err) < 0)
        return -1;
    *ret = (struct csi_controller_expand_reply){ r->required_bytes, true };
    return 0;
}

/* ---- Node ---- */

static int stage(void *ctx, struct csi_call *call, const struct csi_stage_request *r,
                 struct error *err)
{
    return counted(call, r->volume_id, err);
}

static int unstage(void *ctx, struct csi_call *call, const struct csi_unstage_request *r,
                   struct error *err)
{
    return counted(call, r->volume_id, err);
}

static int publish(void *ctx, struct csi_call *call, const struct csi_publish_request *r,
                   struct error *err)
{
    return counted(call, r->volume_id, err);
}

static int unpublish(void *ctx, struct csi_call *call, const struct csi_unpublish_request *r,
                     struct error *err)
{
    return counted(call, r->volume_id, err);
}

static int stats(void *ctx, struct csi_call *call, const struct csi_stats_request *r,
                 struct csi_stats_reply *ret, struct error *err)
{
    ret->usage[0] =
        (struct csi_usage){ .total = atomic_load(&began), .used = atomic_load(&ended), .unit = 1 };
    ret->n = 1;
    return 0;
}

static int node_expand(void *ctx, struct csi_call *call, const struct csi_expand_request *r,
                       struct csi_node_expand_reply *ret, struct error *err)
{
    ret->capacity_bytes = r->required_bytes;
    return counted(call, r->volume_id, err);
}

static int node_caps(void *ctx, struct csi_call *call, struct csi_node_caps *ret, struct error *err)
{
    *ret = (struct csi_node_caps){ true, true, true, true };
    return 0;
}

static int node_info(void *ctx, struct csi_call *call, struct csi_node_info *ret, struct error *err)
{
    static const struct csi_pair node = { "topology.fake/node", "n1" };
    *ret = (struct csi_node_info){ .node_id = "n1",
                                   .max_volumes = 7,
                                   .topology = { .segments = { &node, 1 } } };
    return 0;
}

/* ---- NodeAdmin ---- */

static int unlock_key(void *ctx, struct csi_call *call, const struct csi_unlock_key_request *r,
                      struct error *err)
{
    char path[64];
    if (counted(call, r->reason, err) < 0)
        return -1;
    (void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/fd/%" PRIu64, r->output_pid,
                   r->output_fd);
    FILE *f = fopen(path, "we");
    if (f == NULL)
        return error_set(err, ERR_INTERNAL, "can't open '%s'", path);
    (void)fprintf(f, "passphrase of %s\n", r->volume_id);
    return fclose(f) == 0 ? 0 : error_set(err, ERR_INTERNAL, "can't write '%s'", path);
}

/* What a device brought shows in the version. */
static uint64_t version_of(uint64_t version, const struct csi_map *secrets,
                           const struct csi_map *new_secrets)
{
    return version + 10 * secrets->n + 100 * new_secrets->n;
}

/* A second time: resumed. */
static int rotate_key(void *ctx, struct csi_call *call, const struct csi_rotate_key_request *r,
                      struct csi_rotate_key_reply *ret, struct error *err)
{
    if (counted(call, r->reason, err) < 0)
        return -1;
    *ret =
        (struct csi_rotate_key_reply){ .resumed = strcmp(r->reason, "again") == 0,
                                       .key_version = version_of(3, &r->secrets, &r->new_secrets) };
    return 0;
}

/* One recipient: what was asked for last. A label "again": it was there. */
static struct {
    char key[1024], algorithm[64], label[128], wrapped[1025], fingerprint[65];
} kept;

static struct csi_recipient kept_recipient(void)
{
    return (struct csi_recipient){ .fingerprint = kept.fingerprint,
                                   .algorithm = kept.algorithm,
                                   .label = kept.label,
                                   .public_key = kept.key,
                                   .wrapped = kept.wrapped };
}

static int add_recipient(void *ctx, struct csi_call *call,
                         const struct csi_add_recipient_request *r,
                         struct csi_add_recipient_reply *ret, struct error *err)
{
    unsigned char der[768], digest[32];
    size_t len = 0;

    if (counted(call, r->reason, err) < 0)
        return -1;
    if (b64_decode(der, sizeof(der), r->public_key, strlen(r->public_key), &len) < 0)
        return error_set(err, ERR_INVALID, "public_key is no base64");
    SHA2_CTX sha;
    SHA256Init(&sha);
    SHA256Update(&sha, der, len);
    SHA256Final(digest, &sha);
    hex_encode(kept.fingerprint, digest, sizeof(digest));
    (void)snprintf(kept.key, sizeof(kept.key), "%s", r->public_key);
    (void)snprintf(kept.algorithm, sizeof(kept.algorithm), "%s", r->algorithm);
    (void)snprintf(kept.label, sizeof(kept.label), "%s", r->label);
    (void)snprintf(kept.wrapped, sizeof(kept.wrapped), "%s",
                   r->secrets.n > 0 ? r->wrapped : "AQID");
    *ret = (struct csi_add_recipient_reply){ .already = strcmp(r->label, "again") == 0,
                                             .recipient = kept_recipient() };
    return 0;
}

static int remove_recipient(void *ctx, struct csi_call *call,
                            const struct csi_remove_recipient_request *r,
                            struct csi_rotate_key_reply *ret, struct error *err)
{
    if (counted(call, r->reason, err) < 0)
        return -1;
    if (strcmp(r->fingerprint, kept.fingerprint) != 0)
        return error_set(err, ERR_NOT_FOUND, "key %s is no recipient", r->fingerprint);
    *ret =
        (struct csi_rotate_key_reply){ .key_version = version_of(4, &r->secrets, &r->new_secrets) };
    return 0;
}

static int list_recipients(void *ctx, struct csi_call *call,
                           const struct csi_list_recipients_request *r,
                           struct csi_list_recipients_reply *ret, struct error *err)
{
    static struct csi_recipient one;

    if (counted(call, r->volume_id, err) < 0)
        return -1;
    one = kept_recipient();
    if (r->secrets.n > 0)
        one.label = "lent";
    *ret = (struct csi_list_recipients_reply){ &one, kept.key[0] != '\0' };
    return 0;
}

/* One item of each outcome. */
static int reconcile(void *ctx, struct csi_call *call, const struct csi_reconcile_request *r,
                     struct csi_reconcile_reply *ret, struct error *err)
{
    static const struct csi_left_over dry[] = {
        { "mapping", "coffer-1", "fake.1", "it has no live table", "reap", "", "" },
        { "loop", "/dev/loop7", "", "it is read-only: losetup -d /dev/loop7", "none", "", "" },
    };
    static const struct csi_left_over wet[] = {
        { "mapping", "coffer-1", "fake.1", "it has no live table", "reap", "done", "" },
        { "node", "/dev/coffer/x", "", "no device has its number", "unlink", "failed", "as asked" },
        { "loop", "/dev/loop7", "", "it is read-only: losetup -d /dev/loop7", "none", "", "" },
    };
    *ret = (struct csi_reconcile_reply){ r->dry_run ? dry : wet,
                                         r->dry_run ? ARRAY_SIZE(dry) : ARRAY_SIZE(wet), false };
    return 0;
}

static const struct csi_identity_ops identity = { plugin_info, plugin_caps, probe };
static const struct csi_controller_ops controller = {
    .create_volume = create,
    .delete_volume = delete,
    .validate_capabilities = validate,
    .list_volumes = list,
    .get_capacity = capacity,
    .get_capabilities = controller_caps,
    .expand_volume = controller_expand,
};
static const struct csi_node_ops node = {
    .stage_volume = stage,
    .unstage_volume = unstage,
    .publish_volume = publish,
    .unpublish_volume = unpublish,
    .get_volume_stats = stats,
    .expand_volume = node_expand,
    .get_capabilities = node_caps,
    .get_info = node_info,
};

static const struct csi_admin_ops admin = { .unlock_key = unlock_key,
                                            .rotate_key = rotate_key,
                                            .add_recipient = add_recipient,
                                            .remove_recipient = remove_recipient,
                                            .list_recipients = list_recipients,
                                            .reconcile = reconcile };

static void print_counts(void *ctx)
{
    (void)printf("began %" PRIuFAST64 " ended %" PRIuFAST64 "\n", atomic_load(&began),
                 atomic_load(&ended));
    (void)fflush(stdout);
}

/* Of each endpoint in `list`, which is cut into them. */
static size_t start_servers(char *list, struct csi_server_options *o,
                            const struct csi_service *service, struct csi_server *ret[2])
{
    struct error err = ERROR_INIT;
    size_t n = 0;

    for (char *rest = NULL, *at = strtok_r(list, ",", &rest); at != NULL && n < 2;
         at = strtok_r(NULL, ",", &rest)) {
        o->endpoint = at;
        if (csi_server_start(o, service, &ret[n++], &err) == 0)
            continue;
        (void)fprintf(stderr, "csi-fake: %s\n", err.msg);
        csi_server_exit(1);
    }
    return n;
}

int main(int argc, char **argv)
{
    struct csi_server *servers[2] = { NULL, NULL };
    struct csi_server_options o = { .workers = 0 };
    const struct csi_service service = {
        .identity = &identity, .controller = &controller, .node = &node, .admin = &admin
    };
    uint64_t workers = 0;
    if (argc < 2 || argc > 4 || (argc > 2 && parse_u64(argv[2], &o.drain_ms) < 0) ||
        (argc > 3 && parse_u64(argv[3], &workers) < 0)) {
        (void)fprintf(stderr, "usage: csi-fake ENDPOINT[,ENDPOINT] [drain ms [workers]]\n");
        return 2;
    }
    o.workers = (unsigned)workers;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    csi_server_init();
    size_t n = start_servers(argv[1], &o, &service, servers);
    const struct csi_server_hooks hooks = { .on_usr1 = print_counts };
    csi_server_exit(csi_server_run(servers, n, &hooks) < 0 ? 3 : 0);
}
