"""Sends one mail, by a whole SMTP conversation with the server at SMTP_SERVER."""

import os
import smtplib
from email.message import EmailMessage


def send(to: str, subject: str, text: str) -> str:
    mail = EmailMessage()
    mail["From"] = "queue@example.org"
    mail["To"] = to
    mail["Subject"] = subject
    mail.set_content(text)
    host, _, port = os.environ["SMTP_SERVER"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as server:
        server.send_message(mail)
    return f"sent to {to}"
