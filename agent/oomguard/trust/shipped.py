"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "52695c51c2a25a8286b5e3731b7093105be3fa5cb36a87ba41f7b790ffe87afe"
