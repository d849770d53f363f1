"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "976694aaf5ff633d378020b90ac6d99accf1f29c1b7d66cb5ee11e2e2f882c65"
