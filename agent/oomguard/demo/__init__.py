"""One app, twice: killed by the kernel on its own, alive under the guard."""
