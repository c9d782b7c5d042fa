/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_volume.h"

#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"

#define MODE_MAX 07777u

/* ---- names and modes ---- */

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

int host_volume_name_check(const char *name, struct error *err)
{
    struct error ignored = ERROR_INIT;
    struct volume_id id;
    size_t len = strlen(name);
    bool good = len > 0 && len <= HOST_VOLUME_NAME_MAX && name[0] != '.' && name[0] != '_' &&
                name[0] != '-';
    for (size_t i = 0; good && i < len; i++)
        good = name_char(name[i]);
    if (!good)
        return error_set(err, ERR_INVALID,
                         "the name '%.100s' must be 1 to %d letters, digits, '.', '_' or '-', and "
                         "begin with a letter or digit",
                         name, HOST_VOLUME_NAME_MAX);
    if (volume_id_parse(name, &id, &ignored) == 0)
        return error_set(err, ERR_INVALID, "'%s' is a volume's id; choose a name", name);
    return 0;
}

/* As Kubernetes does where the driver has SINGLE_NODE_MULTI_WRITER, which Coffer's node has. */
static const struct {
    const char *name, *csi;
} modes[] = {
    { "RWO", "SINGLE_NODE_MULTI_WRITER" },
    { "RWOP", "SINGLE_NODE_SINGLE_WRITER" },
    { "ROX", "MULTI_NODE_READER_ONLY" },
};

static const char *csi_mode(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (strcmp(modes[i].name, name) == 0)
            return modes[i].csi;
    }
    return NULL;
}

json_t *host_volume_capability(const struct host_volume *v)
{
    const char *mode = csi_mode(v->access_mode);
    if (mode == NULL)
        return NULL;
    if (strcmp(v->fs, "none") == 0)
        return json_pack("{s:{}, s:{s:s}}", "block", "access_mode", "mode", mode);
    return json_pack("{s:{s:s}, s:{s:s}}", "mount", "fs_type", v->fs, "access_mode", "mode", mode);
}

/* ---- targets ---- */

size_t host_volume_find_target(const struct host_volume *v, const char *path)
{
    size_t i = 0;
    while (i < v->n_targets && strcmp(v->targets[i].path, path) != 0)
        i++;
    return i;
}

void host_volume_remove_target(struct host_volume *v, size_t index)
{
    for (size_t i = index; i + 1 < v->n_targets; i++)
        v->targets[i] = v->targets[i + 1];
    v->n_targets--;
}

static int read_kept(json_t *object, struct host_target *t, struct error *err)
{
    struct json_reader r = json_reader_of(object, "kept");
    uint64_t mode = 0, uid = 0, gid = 0;
    json_get_u64(&r, "mode", &mode);
    json_get_u64(&r, "uid", &uid);
    json_get_u64(&r, "gid", &gid);
    if (mode > MODE_MAX || uid >= UINT32_MAX || gid >= UINT32_MAX)
        json_problem(&r, "mode, uid or gid is out of range");
    t->kept = true;
    t->mode = (mode_t)mode;
    t->uid = (uid_t)uid;
    t->gid = (gid_t)gid;
    return json_reader_done(&r, err);
}

static int read_target(json_t *object, struct host_target *ret, struct error *err)
{
    struct json_reader r = json_reader_of(object, "targets");
    struct host_target t = { .kept = false };
    json_get_string(&r, "path", t.path, sizeof(t.path));
    json_get_bool(&r, "read_only", &t.read_only);
    json_t *kept = json_get_object_opt(&r, "kept");
    if (t.path[0] != '/')
        json_problem(&r, "a path must be absolute");
    if (json_reader_done(&r, err) < 0 || (kept != NULL && read_kept(kept, &t, err) < 0))
        return -1;
    *ret = t;
    return 0;
}

static int read_targets(json_t *list, struct host_volume *v, struct error *err)
{
    size_t i;
    json_t *item;
    if (json_array_size(list) > HOST_TARGETS_MAX)
        return error_set(err, ERR_INVALID, "there are more than %d targets", HOST_TARGETS_MAX);
    json_array_foreach (list, i, item) {
        if (read_target(item, &v->targets[i], err) < 0)
            return -1;
        v->n_targets++;
    }
    return 0;
}

/* ---- the file ---- */

static int check_context(json_t *context, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach (context, key, value) {
        if (!json_is_string(value))
            return error_set(err, ERR_INVALID, "context: field '%s' must be a string", key);
    }
    return 0;
}

static int read_fields(json_t *object, struct host_volume *v, struct error *err)
{
    struct json_reader r = json_reader_of(object, "volume");
    struct error ignored = ERROR_INIT;
    struct volume_id id;
    uint64_t version = 0;
    json_get_u64(&r, "v", &version);
    if (version != HOST_VOLUME_VERSION)
        json_problem(&r, "version %llu is not known to this cofferctl",
                     (unsigned long long)version);
    json_get_string(&r, "name", v->name, sizeof(v->name));
    json_get_string(&r, "id", v->id, sizeof(v->id));
    json_get_string(&r, "fs", v->fs, sizeof(v->fs));
    json_get_string(&r, "access_mode", v->access_mode, sizeof(v->access_mode));
    json_t *context = json_get_object(&r, "context");
    json_t *targets = json_get_array(&r, "targets");
    if (volume_id_parse(v->id, &id, &ignored) < 0)
        json_problem(&r, "'%.80s' is no volume's id", v->id);
    if (csi_mode(v->access_mode) == NULL)
        json_problem(&r, "access_mode '%s' is none of " HOST_ACCESS_MODES, v->access_mode);
    if (json_reader_done(&r, err) < 0 || host_volume_name_check(v->name, err) < 0 ||
        check_context(context, err) < 0 || read_targets(targets, v, err) < 0)
        return -1;
    v->context = json_incref(context);
    return 0;
}

int host_volume_decode(const char *text, size_t len, struct host_volume *ret, struct error *err)
{
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    AUTO_JSON json_t *object = NULL;
    if (json_parse(text, len, "volume", &object, err) < 0 || read_fields(object, &v, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    *ret = v;
    v.context = NULL;
    return 0;
}

static json_t *target_json(const struct host_target *t)
{
    json_t *object = json_pack("{s:s, s:b}", "path", t->path, "read_only", t->read_only);
    if (t->kept)
        (void)json_object_set_new(object, "kept",
                                  json_pack("{s:I, s:I, s:I}", "mode", (json_int_t)t->mode, "uid",
                                            (json_int_t)t->uid, "gid", (json_int_t)t->gid));
    return object;
}

int host_volume_encode(const struct host_volume *v, struct strbuf *sb, struct error *err)
{
    json_watch(); /* a target without what is kept of it would be removed, not given back */
    AUTO_JSON json_t *targets = json_array();
    for (size_t i = 0; i < v->n_targets; i++)
        (void)json_array_append_new(targets, target_json(&v->targets[i]));
    AUTO_JSON json_t *object =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:O, s:O}", "v", HOST_VOLUME_VERSION, "name", v->name,
                  "id", v->id, "fs", v->fs, "access_mode", v->access_mode, "context", v->context,
                  "targets", targets);
    AUTO_FREE char *text = object != NULL ? json_text(object, JSON_INDENT(2)) : NULL;
    if (json_no_memory())
        return error_memory(err);
    if (text == NULL || json_array_size(targets) != v->n_targets)
        return error_set(err, ERR_INVALID, "volume '%s': what is to be kept is not UTF-8 text",
                         v->name);
    strbuf_addf(sb, "%s\n", text);
    return strbuf_check(sb, "what is kept of the volume", err);
}

void host_volume_release(struct host_volume *v)
{
    json_decref(v->context);
    v->context = NULL;
}
