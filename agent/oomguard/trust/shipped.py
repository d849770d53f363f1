"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "8d92bc015dbc215f801fc95eef7d29740d9a594c0c7f27ed63af36cf3c416eb7"
