# Scheduler: tells users' devices which public key of the server to wrap for. (coffer-keyd --allow SERVER_KEY)
# It opens no volume and makes no key: controller and node do, when it asks them.

# Public keys and versions; a private key never leaves Vault. Not the tenants' keys.
path "@TRANSIT@/keys/@SERVER_KEY@*" {
  capabilities = ["read"]
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
