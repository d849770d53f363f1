"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "3c17d2b7ce4e240546cb41ef6550084adf84cfcd6f9ca88355b08139f5bf0159"
