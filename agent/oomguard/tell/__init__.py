"""Who is told: the pressure FIFO, the control socket, the log, the service manager."""
