"""How large a message may be, and how long a peer may take."""

from __future__ import annotations

KEEPALIVE_S = 25  # after which the connection of a machine that does not respond is closed
HANDSHAKE_TIMEOUT_S = 5.0  # that a peer has to authenticate and say what it wants
# Within which something more of a message has to come. One of up to COALESCE_LIMIT bytes takes no
# more than a peer that sends nothing between two messages, and is waited for as long.
STALL_TIMEOUT_S = 60.0
TLS_WAIT_S = 0.05  # that a master waits for a client to begin with TLS

MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # one message cannot exhaust the receiver
# What a message may have around its inputs or results: one task's failure, in words of up to four
# bytes a character, is the largest of what there is.
ENVELOPE_BYTES = 256 * 1024
SKIP_CHUNK = 64 * 1024  # bytes read at once of a message that is not taken
# Bytes received at once where nobody knows how many there are: most messages of one task. Who waits
# for a message has room for so many, and 8 KiB for each of ten thousand would be 80 MB.
RECV_CHUNK = 448
COALESCE_LIMIT = 64 * 1024  # bytes up to which copying header and body together beats two writes
GROW_STEP = 1024 * 1024  # bytes that are allocated at once for a message said to be longer
GROW_FACTOR = 4  # times as much once that is full: with less, large messages would be slower
