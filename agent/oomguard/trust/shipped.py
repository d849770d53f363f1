"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "891c9bf2c8aeeec644e98384451db1c241ca0eb921a4dc0b1e49ed440eee7310"
