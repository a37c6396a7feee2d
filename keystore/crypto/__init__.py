"""The cryptographic room: bytes in, bytes out, over the `cryptography` package; no models, no messages, no settings."""
