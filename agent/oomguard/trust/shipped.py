"""The bundle this package was built with; written by `make model`, held by a test."""

SHIPPED_MANIFEST_SHA256 = "4f92863ec2d1b76756ee2d6f661ee91f6b047eb982006591e25df459efd19f48"
