/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h: named points where a test build can be delayed, failed or killed. In every other build
 * FAULT_POINT is nothing and FAULT_FAIL is false: the code is not there (make lint checks).
 *
 * The test build reads the directory in COFFER_FAULT_DIR at each point (a daemon can be armed while
 * it runs). P is the program's name:
 *   P.arm    "record"      append each point's name to P.trace, nothing else
 *            "kill N"      the same, and SIGKILL self at the N-th point since P.trace was emptied
 *                          (1 = first)
 *            "kill NAME", "pause NAME", "fail NAME"
 *   P.trace  one name per line, O_APPEND
 *   P.paused made while a point waits; it goes on when P.arm is removed (600 s at most)
 */
#ifndef COFFER_COMMON_FAULT_H
#define COFFER_COMMON_FAULT_H

#include "common/base.h"

#ifdef COFFER_FAULT
/* True: the caller must fail with ERR_INTERNAL "injected fault". */
bool fault_point(const char *name);
#define FAULT_POINT(name) ((void)fault_point(name))
#define FAULT_FAIL(name)  fault_point(name)
#else
#define FAULT_POINT(name) ((void)0)
#define FAULT_FAIL(name)  false
#endif

#endif
