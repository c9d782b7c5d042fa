/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/recipient.h"

#include "cofferctl/endpoint.h"
#include "common/b64.h"
#include "common/fs.h"
#include "common/json.h"
#include "csi/client.h"
#include "volume/id.h"

#include <fcntl.h>

#define TIMEOUT_MS 600000u

const struct output_column recipient_columns[] = {
    { "fingerprint", "fingerprint", false },
    { "algorithm", "algorithm", false },
    { "label", "label", false },
};
const size_t recipient_n_columns = ARRAY_SIZE(recipient_columns);

int recipient_call(const char *admin_socket, const char *method, const char *volume_id,
                   json_t *request, json_t **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf endpoint = STRBUF_INIT(512);
    AUTO_STRBUF struct strbuf path = STRBUF_INIT(128);
    struct volume_id id;

    if (request == NULL)
        return error_set(err, ERR_INVALID, "--reason and --label must be UTF-8 text");
    strbuf_addf(&path, "coffer.v1.NodeAdmin/%s", method);
    if (volume_id_parse(volume_id, &id, err) < 0 ||
        endpoint_of(admin_socket, "--admin-socket", &endpoint, err) < 0)
        return -1;
    return csi_client_call(strbuf_text(&endpoint), strbuf_text(&path), request, TIMEOUT_MS, ret,
                           err);
}

int recipient_key_load(const char *path, struct public_key **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(PUBLIC_KEY_MAX);

    if (fs_read_at(AT_FDCWD, path, PUBLIC_KEY_MAX, &text, err) < 0)
        return -1;
    if (public_key_parse(strbuf_text(&text), text.len, ret, err) < 0)
        return error_prefix(err, "'%s'", path);
    return 0;
}

/* --- what is shown --- */

static const char *text_of(const json_t *message, const char *field)
{
    const char *text = json_string_value(json_object_get(message, field));

    return text == NULL ? "" : text; /* the wire leaves out what is empty */
}

static int key_of(const json_t *message, struct public_key **ret, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    const char *text = text_of(message, "public_key");
    unsigned char der[PUBLIC_KEY_DER_MAX];
    size_t len = 0;

    if (b64_decode(der, sizeof(der), text, strlen(text), &len) < 0 ||
        public_key_parse(der, len, &k, err) < 0 ||
        strcmp(public_key_fingerprint(k), text_of(message, "fingerprint")) != 0)
        return error_set(err, ERR_UNAVAILABLE,
                         "the node's answer has a recipient whose public key isn't the one of its "
                         "fingerprint");
    *ret = TAKE_PTR(k);
    return 0;
}

int recipient_view(json_t *message, json_t **ret, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    char thumbprint[THUMBPRINT_LEN + 1], arcs[FINGERPRINT_LEN + 1];

    if (key_of(message, &k, err) < 0 || public_key_thumbprint(k, thumbprint, err) < 0)
        return -1;
    bool rsa = public_key_kind(k) == PUBLIC_KEY_RSA;
    if (rsa && public_key_arcs_fingerprint(k, arcs, err) < 0)
        return -1;
    *ret =
        json_pack("{s:s, s:s, s:s, s:s, s:s*, s:s, s:s}", "fingerprint", public_key_fingerprint(k),
                  "algorithm", text_of(message, "algorithm"), "label", text_of(message, "label"),
                  "thumbprint", thumbprint, "arcs_fingerprint", rsa ? arcs : NULL, "public_key",
                  text_of(message, "public_key"), "wrapped", text_of(message, "wrapped"));
    return *ret == NULL ? error_memory(err) : 0;
}
