"""What dq's own workers and a master agree on, beyond the standard library's protocol."""

from __future__ import annotations

LEASES = "dq"  # ident of the workers' endpoint; a plain manager does not have it
PROTOCOL = 10  # version of the messages to it
