# Trimming: old versions of a tenant's key are destroyed, and with them every ciphertext that was not rewrapped, also in
# backups. It can't be undone, so no daemon and no job has this: an administrator gets it beside rotation.hcl, for one command (cofferctl key trim).

path "@TRANSIT@/keys/+/trim" {
  capabilities        = ["update"]
  required_parameters = ["min_available_version"]
  allowed_parameters  = { "min_available_version" = [] }
}
