"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "875ef92e751797a67ba45b30b302a85169ecffcfa4626ca0cdb9f51440a8580b"
