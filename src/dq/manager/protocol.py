"""What dq's own workers and a master agree on, beyond the standard library's protocol."""

from __future__ import annotations

LEASES = "dq"  # ident of the workers' endpoint: a plain manager has none of that name
PROTOCOL = 4  # version of what is said to it
