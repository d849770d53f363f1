"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "4cd698569ccda5b66bef3937625359c420e4831dd88f87a4e63fdb7c0415d74d"
