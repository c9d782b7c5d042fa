/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h: a small LUKS2 volume in a memfd, and the storage administrator's tools against it: the
 * JSON of both header copies is changed and their checksums are made right again.
 */
#ifndef COFFER_TESTS_CRYPT_IMAGE_H
#define COFFER_TESTS_CRYPT_IMAGE_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"
#include "crypt/header.h"
#include "crypt/luks.h"
#include "volume/geometry.h"

#include <assert.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <unistd.h>

#define IMAGE_UUID      "0a1b2c3d-4e5f-4607-8899-aabbccddeeff"
#define IMAGE_SIZE      (GEOMETRY_DATA_OFFSET + MIB(1))
#define IMAGE_CSUM_AT   448 /* LUKS2 on-disk format, section 2.1 */
#define IMAGE_JSON_AT   4096
#define IMAGE_JSON_SIZE (GEOMETRY_METADATA_SIZE - IMAGE_JSON_AT)

static UNUSED int image_blank(void)
{
    int fd = memfd_create("image", MFD_CLOEXEC);

    assert(fd >= 0 && ftruncate(fd, (off_t)IMAGE_SIZE) == 0);
    return fd;
}

static UNUSED struct secret *image_passphrase(char fill)
{
    struct secret *s = secret_new(64, NULL);

    assert(s != NULL);
    memset(secret_bytes(s), fill, 64);
    secret_set_len(s, 64);
    return s;
}

static UNUSED int image_format(const char *uuid, char fill)
{
    AUTO_SECRET struct secret *pass = image_passphrase(fill);
    struct error err = ERROR_INIT;
    char path[FD_PATH_MAX];
    int fd = image_blank();

    fd_path(fd, path);
    if (luks_format(path, uuid, pass, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return fd;
}

/* The JSON of the primary header; a new reference. */
static UNUSED json_t *image_json(int fd)
{
    char text[IMAGE_JSON_SIZE];
    json_t *root;

    assert(pread(fd, text, sizeof(text), IMAGE_JSON_AT) == (ssize_t)sizeof(text));
    root = json_own(text);
    assert(root != NULL);
    return root;
}

/* Makes the checksum of the copy at `at` right, whatever the copy says now. */
static UNUSED void image_seal_copy(int fd, off_t at)
{
    unsigned char area[GEOMETRY_METADATA_SIZE];

    assert(pread(fd, area, sizeof(area), at) == (ssize_t)sizeof(area));
    memset(area + IMAGE_CSUM_AT, 0, 64);
    assert(EVP_Digest(area, sizeof(area), area + IMAGE_CSUM_AT, NULL, EVP_sha256(), NULL) == 1);
    assert(pwrite(fd, area, sizeof(area), at) == (ssize_t)sizeof(area));
}

static UNUSED void image_put_json(int fd, json_t *root)
{
    static const off_t copies[] = { 0, GEOMETRY_METADATA_SIZE };
    char area[IMAGE_JSON_SIZE] = { 0 };
    char *text = json_text(root, JSON_COMPACT);
    size_t len = text != NULL ? strlen(text) : SIZE_MAX;

    assert(len < sizeof(area));
    memcpy(area, text, len);
    free(text);
    for (size_t i = 0; i < ARRAY_SIZE(copies); i++) {
        assert(pwrite(fd, area, sizeof(area), copies[i] + IMAGE_JSON_AT) == (ssize_t)sizeof(area));
        image_seal_copy(fd, copies[i]);
    }
}

/* Sets "a.b.c" to the value (JSON text); NULL deletes it. Objects on the way are made. */
static UNUSED void json_edit(json_t *root, const char *path, const char *value)
{
    char copy[128];
    char *save = NULL, *next;
    json_t *at = root;

    assert(snprintf(copy, sizeof(copy), "%s", path) < (int)sizeof(copy));
    for (char *key = strtok_r(copy, ".", &save);; key = next) {
        next = strtok_r(NULL, ".", &save);
        if (next == NULL && value == NULL)
            assert(json_object_del(at, key) == 0);
        else if (next == NULL)
            assert(json_object_set_new(at, key, json_own(value)) == 0);
        if (next == NULL)
            return;
        if (json_object_get(at, key) == NULL)
            assert(json_object_set_new(at, key, json_object()) == 0);
        at = json_object_get(at, key);
    }
}

#endif
