"""The digest of the bundle inside the package, written by `make model` and held by a test."""

SHIPPED_MANIFEST_SHA256 = "0000000000000000000000000000000000000000000000000000000000000000"
