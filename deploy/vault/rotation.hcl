# Rotation job: new versions of keys, and ciphertexts moved to them. (cofferctl key rotate, rewrap, retire)
# It sees no plaintext: rewrap returns a ciphertext. Trimming old versions can't be undone, so it is trim.hcl.

# Which keys there are, and their versions. "+" is one path segment, so the mount should be Coffer's own; with
# "@TENANT_KEY@*" instead, the lines for rotate and config below would lose against this one.
path "@TRANSIT@/keys" {
  capabilities = ["list"]
}
path "@TRANSIT@/keys/+" {
  capabilities = ["read"]
}

# A new version of a key. Old ciphertexts still open.
path "@TRANSIT@/keys/+/rotate" {
  capabilities = ["update"]
}

# Below which version nothing opens, and which one new ciphertexts get: both can be taken back. Not: deletion_allowed,
# exportable, allow_plaintext_backup, auto_rotate_period.
path "@TRANSIT@/keys/+/config" {
  capabilities       = ["update"]
  allowed_parameters = { "min_decryption_version" = [], "min_encryption_version" = [] }
}

# A ciphertext under the newest version, for the same context. One at a time: each record changes by compare-and-swap.
path "@TRANSIT@/rewrap/@TENANT_KEY@*" {
  capabilities        = ["update"]
  required_parameters = ["context", "ciphertext"]
  allowed_parameters  = { "context" = [], "ciphertext" = [] }
  denied_parameters   = { "batch_input" = [] }
}

# Its own token, which doesn't have the default policy, and what it may do (asked at first contact).
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
