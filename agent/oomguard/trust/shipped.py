"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "5fa065a99a258f229113acc40098e1fa65c201f38dd21e538f1fea5d7532d451"
