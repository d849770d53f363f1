"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "51f211ca83646e232ae1c0a938177a46f4dba443e8eaad1c72be1e26c9b4f7d5"
