"""The lab: real programs in real memory cgroups, until the kernel kills them or their time is over."""
