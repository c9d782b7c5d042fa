// SPDX-License-Identifier: Apache-2.0

package main

import (
	auditfile "github.com/hashicorp/vault/builtin/audit/file"
	"github.com/hashicorp/vault/internalshared/configutil"
)

var auditFile = auditfile.Factory

// limitJSON: this version has no such limits.
func limitJSON(*configutil.Listener) {}
