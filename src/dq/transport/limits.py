"""Limits on the size of messages and on the time that a peer may take."""

from __future__ import annotations

HEARTBEAT_INTERVAL_S = 10.0  # at most, between two beats of a worker
KEEPALIVE_S = 25  # after which the connection of a machine that does not respond is closed
HANDSHAKE_TIMEOUT_S = 5.0  # in which a peer has to authenticate and send its first request
# In which more of a message has to arrive. This is not applied to a message of up to COALESCE_LIMIT
# bytes, which costs the receiver no more than an idle connection.
STALL_TIMEOUT_S = 60.0
TLS_WAIT_S = 0.05  # in which a client has to begin with TLS, if plain ones are accepted too

MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # so one message cannot exhaust the receiver's memory
# What a message may have besides its inputs or results. The largest such part is the failure of one
# task, whose characters have up to four bytes.
ENVELOPE_BYTES = 256 * 1024
SKIP_CHUNK = 64 * 1024  # bytes read at once of a message that is skipped
# Bytes received at once if the size of the message is not known yet. Most messages of one task fit.
# Each waiting connection allocates so many; 8 KiB for each of ten thousand would be 80 MB.
RECV_CHUNK = 448
COALESCE_LIMIT = 64 * 1024  # bytes up to which copying header and body together beats two writes
GROW_STEP = 1024 * 1024  # bytes that are allocated at first for a longer message
GROW_FACTOR = 4  # by which that grows when it is full; a smaller one slows down large messages
