"""What is read: targets, their constraints and the machine, at a few microseconds each."""
