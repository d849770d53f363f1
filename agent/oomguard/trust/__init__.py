"""What may be loaded: bundles whose every byte is known."""
