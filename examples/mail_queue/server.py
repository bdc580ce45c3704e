"""A mail server at SMTP_SERVER that keeps what it gets: python server.py BOX"""

import os
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

address = os.environ["SMTP_SERVER"]
host, _, port = address.rpartition(":")
Controller(Mailbox(sys.argv[1]), hostname=host, port=int(port)).start()
print(f"listening on {address}", flush=True)
threading.Event().wait()  # the server has a thread of its own; this one waits to be stopped
