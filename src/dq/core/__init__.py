"""The pure state of a master: no clock, lock, thread, socket or file."""
