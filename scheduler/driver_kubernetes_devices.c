/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices come and go. The volume's record has the list, which coffer-node changes; the claim's
 * annotations have a copy, by which clouds are found. So that no kill leaves them apart, the claim
 * says first what the change will make of the copy (KUBE_CHANGE), then the node is asked, then the
 * copy is brought up to date and the note goes, in one request. Whoever finds such a note asks the
 * node whether the change was made, which needs no session.
 */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/b64.h"
#include "common/fault.h"
#include "volume/inline.h"
#include "volume/recipients.h"

/* Its parts are borrowed from `whole`, which is what KUBE_CHANGE has as text. */
struct change {
    json_t *whole, *attributes;
    const char *devices, *commitment;
};

/* ---- the note ---- */

static const char *annotation(const json_t *claim, const char *key)
{
    return kube_text(json_object_get(json_object_get(claim, "metadata"), "annotations"), key);
}

static int change_of(json_t *whole, struct change *ret, struct error *err)
{
    *ret = (struct change){ .whole = whole,
                            .attributes = json_object_get(whole, "attributes"),
                            .devices = kube_text(whole, "devices"),
                            .commitment = kube_text(whole, "commitment") };
    return json_is_object(ret->attributes) && ret->devices[0] != '\0'
               ? 0
               : error_set(err, ERR_DATA_LOSS, "the claim's annotation %s isn't whole",
                           KUBE_CHANGE);
}

static int annotate(struct driver *d, const char *id, json_t *annotations, uint64_t deadline,
                    struct error *err)
{
    return kube_patch(d, KUBE_CLAIM, id,
                      json_pack("{s:{s:o}}", "metadata", "annotations", annotations), deadline,
                      err);
}

static int note(struct driver *d, const char *id, const struct change *ch, uint64_t deadline,
                struct error *err)
{
    AUTO_FREE char *text = json_text(ch->whole, JSON_COMPACT | JSON_SORT_KEYS);

    if (text == NULL)
        return error_memory(err);
    return annotate(d, id, json_pack("{s:s}", KUBE_CHANGE, text), deadline, err);
}

static int note_no_more(struct driver *d, const char *id, uint64_t deadline, struct error *err)
{
    return annotate(d, id, json_pack("{s:n}", KUBE_CHANGE), deadline, err);
}

static int commit(struct driver *d, const char *id, const struct change *ch, uint64_t deadline,
                  struct error *err)
{
    return annotate(d, id,
                    json_pack("{s:s, s:s, s:n}", KUBE_DEVICES, ch->devices, KUBE_COMMITMENT,
                              ch->commitment, KUBE_CHANGE),
                    deadline, err);
}

/* ---- what was begun ---- */

/* A refusal for good is that it wasn't made; anything else says nothing. */
static int settle_change(struct driver *d, const struct cloud *c, const char *text,
                         uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *whole = NULL;
    struct error why = ERROR_INIT;
    bool refused = false;
    struct change ch;

    if (json_parse(text, strlen(text), "the claim's annotation " KUBE_CHANGE, &whole, err) < 0 ||
        change_of(whole, &ch, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    if (kube_ask_node(d, c, json_incref(ch.attributes), NULL, deadline, &refused, &why) == 0)
        return commit(d, c->id, &ch, deadline, err);
    if (!refused || (why.code != ERR_PRECONDITION && why.code != ERR_UNIMPLEMENTED))
        return error_pass(err, &why);
    return note_no_more(d, c->id, deadline, err);
}

int kube_settle(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *claim = NULL;
    struct error e = ERROR_INIT;

    if (kube_ask_no_more(d, c->id, deadline, err) < 0)
        return -1;
    if (kube_get(d, KUBE_CLAIM, c->id, deadline, &claim, &e) < 0)
        return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
    const char *begun = annotation(claim, KUBE_CHANGE);
    return begun[0] == '\0' ? 0 : settle_change(d, c, begun, deadline, err);
}

/* The claim with nothing begun; *list: its devices. */
static int settled_claim(struct driver *d, const struct cloud *c, uint64_t deadline, json_t **ret,
                         json_t **list, struct error *err)
{
    AUTO_JSON json_t *claim = NULL, *devices = NULL;

    if (kube_get(d, KUBE_CLAIM, c->id, deadline, &claim, err) < 0)
        return -1;
    if (annotation(claim, KUBE_CHANGE)[0] != '\0') {
        json_decref(TAKE_PTR(claim));
        if (kube_settle(d, c, deadline, err) < 0 ||
            kube_get(d, KUBE_CLAIM, c->id, deadline, &claim, err) < 0)
            return -1;
    }
    const char *text = annotation(claim, KUBE_DEVICES);
    if (json_parse(text, strlen(text), "the claim's annotation " KUBE_DEVICES, &devices, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    *ret = TAKE_PTR(claim);
    *list = TAKE_PTR(devices);
    return 0;
}

/* ---- making one ---- */

/* What kubelet asked for again before its pod was gone may have gone well then, where the first
 * answer was that something lacked: memory, room on a disk. */
static bool is_final(const struct error *refusal)
{
    return refusal->code != ERR_EXHAUSTED;
}

/* attributes and secret are taken. What is refused is as it was; of anything else nobody knows,
 * and the rounds settle it. */
static int make_change(struct driver *d, const struct cloud *c, json_t *attributes,
                       const json_t *devices, const char *commitment, json_t *secret,
                       uint64_t deadline, struct error *err)
{
    AUTO_FREE char *text = json_text(devices, JSON_COMPACT);
    AUTO_JSON json_t *brings = secret;
    AUTO_JSON json_t *whole = json_pack("{s:o, s:s, s:s}", "attributes", attributes, "devices",
                                        text != NULL ? text : "", "commitment", commitment);
    struct error why = ERROR_INIT, e = ERROR_INIT;
    bool refused = false;
    struct change ch;

    if (text == NULL || brings == NULL || whole == NULL)
        return error_memory(err);
    if (change_of(whole, &ch, err) < 0 || note(d, c->id, &ch, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:change-noted");
    if (kube_ask_node(d, c, json_incref(ch.attributes), json_incref(brings), deadline, &refused,
                      &why) == 0)
        return commit(d, c->id, &ch, deadline, err);
    FAULT_POINT("kubernetes:change-refused");
    if (refused && is_final(&why) && note_no_more(d, c->id, deadline, &e) < 0)
        (void)error_prefix(&why, "(%s)", e.msg); /* the rounds do it */
    return error_pass(err, &why);
}

static json_t *device_named(const json_t *list, const char *key, const char *value)
{
    json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        if (strcmp(kube_text(item, key), value) == 0)
            return item;
    }
    return NULL;
}

/* ---- one comes ---- */

static int digest_of(const struct device *add, char ret[65], struct error *err)
{
    unsigned char data[RECIPIENT_WRAPPED_MAX];
    size_t len = 0;

    if (b64_decode(data, sizeof(data), add->wrapped, strlen(add->wrapped), &len) < 0)
        return error_set(err, ERR_INVALID, "what is wrapped for the device isn't base64");
    recipient_fingerprint(data, len, ret); /* SHA-256 of any bytes */
    return 0;
}

static json_t *add_attributes(const struct cloud *c, const struct device *add, const char *digest)
{
    return json_pack("{s:s, s:s, s:s, s:s}", INLINE_ACTION, INLINE_ADD, INLINE_VOLUME, c->volume,
                     INLINE_FINGERPRINT, add->fingerprint, INLINE_WRAPPED, digest);
}

static json_t *add_secret(const struct device *add, const struct cloud_session *s)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "session", s->session, "serverKey",
                     s->server_key, "fingerprint", s->fingerprint, INLINE_SECRET_KEY,
                     add->public_key, INLINE_SECRET_ALGORITHM, add->algorithm, INLINE_SECRET_FORM,
                     add->wrapped, INLINE_SECRET_LABEL, add->label);
}

int kube_add_device(struct driver *d, const struct cloud *c, const struct device *add,
                    const struct cloud_session *s, uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *claim = NULL, *list = NULL;
    char digest[65];

    if (digest_of(add, digest, err) < 0 || settled_claim(d, c, deadline, &claim, &list, err) < 0)
        return -1;
    const json_t *there = device_named(list, "fingerprint", add->fingerprint);
    if (there != NULL)
        return strcmp(kube_text(there, "wrapped"), add->wrapped) == 0
                   ? 0
                   : error_set(err, ERR_EXISTS,
                               "the device is on the list with another wrapped key");
    if (json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", add->name,
                                              "fingerprint", add->fingerprint, "algorithm",
                                              add->algorithm, "label", add->label, "publicKey",
                                              add->public_key, "wrapped", add->wrapped)) < 0)
        return error_memory(err);
    return make_change(d, c, add_attributes(c, add, digest), list,
                       annotation(claim, KUBE_COMMITMENT), add_secret(add, s), deadline, err);
}

/* ---- one goes ---- */

/* The others' forms of the new key. That nobody else's came, coffer-node sees to. */
static int take_forms(json_t *list, const char *text, struct error *err)
{
    AUTO_JSON json_t *forms = NULL;
    json_t *item;
    size_t i;

    if (json_parse(text, strlen(text), "field 'newRecipients'", &forms, err) < 0)
        return -1;
    json_array_foreach (list, i, item) {
        const char *fingerprint = kube_text(item, "fingerprint");
        json_t *wrapped =
            json_object_get(device_named(forms, "fingerprint", fingerprint), "wrapped");

        if (!json_is_string(wrapped))
            return error_set(err, ERR_INVALID, "nothing of the new key is wrapped for device %s",
                             fingerprint);
        if (json_object_set(item, "wrapped", wrapped) < 0)
            return error_memory(err);
    }
    return 0;
}

static json_t *remove_attributes(const struct cloud *c, const char *fingerprint,
                                 const struct cloud_new_key *key)
{
    return json_pack("{s:s, s:s, s:s, s:s}", INLINE_ACTION, INLINE_REMOVE, INLINE_VOLUME, c->volume,
                     INLINE_FINGERPRINT, fingerprint, INLINE_COMMITMENT, key->commitment);
}

static json_t *remove_secret(const struct cloud_session *s, const struct cloud_new_key *key)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "session", s->session, "serverKey",
                     s->server_key, "fingerprint", s->fingerprint, INLINE_SECRET_NEW_SESSION,
                     key->session.session, INLINE_SECRET_NEW_SERVER_KEY, key->session.server_key,
                     INLINE_SECRET_NEW_FINGERPRINT, key->session.fingerprint,
                     INLINE_SECRET_NEW_RECIPIENTS, key->recipients);
}

static int remove_from(json_t *list, const char *fingerprint, struct error *err)
{
    const json_t *gone = device_named(list, "fingerprint", fingerprint), *item;
    size_t i;

    if (gone == NULL)
        return error_set(err, ERR_NOT_FOUND, "the device to remove isn't on the list");
    if (json_array_size(list) == 1)
        return error_set(err, ERR_PRECONDITION, "the last device can't be removed");
    json_array_foreach (list, i, item) {
        if (item == gone)
            return json_array_remove(list, i);
    }
    return 0;
}

int kube_remove_device(struct driver *d, const struct cloud *c, const char *fingerprint,
                       const struct cloud_session *s, const struct cloud_new_key *key,
                       uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *claim = NULL, *list = NULL;

    if (settled_claim(d, c, deadline, &claim, &list, err) < 0)
        return -1;
    if (device_named(list, "fingerprint", fingerprint) == NULL &&
        strcmp(annotation(claim, KUBE_COMMITMENT), key->commitment) == 0)
        return 0; /* its answer was lost */
    if (remove_from(list, fingerprint, err) < 0 || take_forms(list, key->recipients, err) < 0)
        return -1;
    return make_change(d, c, remove_attributes(c, fingerprint, key), list, key->commitment,
                       remove_secret(s, key), deadline, err);
}
