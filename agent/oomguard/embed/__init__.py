"""The guard inside an app: `oomguard.Guard`, its thread, and whom it tells."""
