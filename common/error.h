/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h: the one error type. It lives on the caller's stack, so it can't leak and making one
 * can't fail. Every fallible function takes `struct error *err` last, returns 0 or -1, leaves its
 * outputs untouched on failure and `err` untouched on success. Codes are the subset of gRPC's that
 * CSI uses; csi/status.c alone maps them to numbers.
 *
 * Rule: a message names the thing that failed ("open '/x/y': Permission denied") and never holds a
 * key, a token or a request body.
 */
#ifndef COFFER_COMMON_ERROR_H
#define COFFER_COMMON_ERROR_H

#include "common/base.h"

enum error_code {
    ERR_OK = 0,
    ERR_CANCELED,
    ERR_INVALID, /* the caller sent something malformed; the same call can't succeed */
    ERR_DEADLINE,
    ERR_NOT_FOUND,
    ERR_EXISTS, /* same name, other content */
    ERR_PERMISSION,
    ERR_EXHAUSTED,    /* no space, no memory, no slot */
    ERR_PRECONDITION, /* the state forbids it */
    ERR_ABORTED,      /* busy: another operation holds the volume; retry */
    ERR_OUT_OF_RANGE,
    ERR_UNIMPLEMENTED,
    ERR_INTERNAL,
    ERR_UNAVAILABLE, /* something we need is not there now; retry */
    ERR_DATA_LOSS,   /* the record or the header is not what it must be */
    ERR_UNAUTHENTICATED,
    ERR_CODE_COUNT,
};

struct error {
    enum error_code code;
    int sys_errno;  /* 0 when no system call failed */
    char msg[1024]; /* one line of UTF-8, safe to show; longer texts are cut with "...", bytes that
                      are malformed or steer a terminal become '?' */
};

#define ERROR_INIT                                \
    {                                             \
        .code = ERR_OK, .sys_errno = 0, .msg = "" \
    }

/* Sets *err and returns -1, so that `return error_set(...)` reads well. err may be NULL. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The same for a failed system call: appends ": strerror"; the code follows from the errno
 * (ENOSPC/EDQUOT/ENOMEM/EMFILE/ENFILE -> EXHAUSTED, EACCES/EPERM -> PERMISSION,
 * ENOENT -> NOT_FOUND, EBUSY -> ABORTED, everything else -> INTERNAL). */
int error_errno(struct error *err, int sys_errno, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts context in front of an error that is set: "stage volume 'x': <old text>". Returns -1. */
int error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* "out of memory": ERR_EXHAUSTED, and stays that whatever error_recode is told. Returns -1. */
int error_memory(struct error *err);
bool error_is_memory(const struct error *err);

/* Gives a set error another code, keeps its text. What was lacking says nothing of what was read or
 * asked: one of memory stays as it is, and one of descriptors (EMFILE, ENFILE) becomes no code that
 * is final. Returns -1. */
int error_recode(struct error *err, enum error_code code);

/* Something may be left of the call: gives a set error a code after which it is repeated, and lets
 * one be that is such a code already (kubelet's isFinalError: CANCELLED, DEADLINE_EXCEEDED,
 * UNAVAILABLE, RESOURCE_EXHAUSTED and ABORTED aren't final). Returns -1. */
int error_not_final(struct error *err);

/* Hands on an error that was kept aside until it was clear that it is one. Returns -1. */
int error_pass(struct error *err, const struct error *from);

#ifdef COFFER_ANALYZE /* make analyze: who sees one file at a time is told what they return */
#define error_set(...)       (error_set(__VA_ARGS__), -1)
#define error_errno(...)     (error_errno(__VA_ARGS__), -1)
#define error_prefix(...)    (error_prefix(__VA_ARGS__), -1)
#define error_memory(...)    (error_memory(__VA_ARGS__), -1)
#define error_recode(...)    (error_recode(__VA_ARGS__), -1)
#define error_pass(...)      (error_pass(__VA_ARGS__), -1)
#define error_not_final(...) (error_not_final(__VA_ARGS__), -1)
#endif

/* "ABORTED", "DATA_LOSS", ...: gRPC's names. Never NULL. */
const char *error_code_name(enum error_code code);

/* The code with that name, or ERR_INTERNAL for an unknown one. */
enum error_code error_code_from_name(const char *name);

#endif
