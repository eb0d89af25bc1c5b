//! An encoded message as JSON, the way Envoy's `config_dump` shows it: proto field names, secrets redacted.
