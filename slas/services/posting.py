"""Sends mails of reports through Django's mail, one at a time, and writes down how each try went."""

import logging
import smtplib
from contextlib import suppress
from typing import Final

from django.core.mail import get_connection

from slas.services.mail_log import Sending, Told, claim, record_told
from slas.services.mail_writing import mail_of

logger = logging.getLogger(__name__)
AT_ONCE: Final = 100
_PERMANENT: Final = 500


class ServerAway(Exception):
    """The server cannot be reached, or speaks to nobody: others would fare alike."""


def send_due() -> int:
    """Send what is due, at most AT_ONCE, the longest waiting first; returns how many were tried.

    A server that is away ends the pass: it would else cost a timeout for each.
    """
    for number in range(AT_ONCE):
        sending = claim()
        if sending is None:
            return number
        try:
            told = try_once(sending)
        except ServerAway as error:
            record_told(sending, Told(problem=str(error)))
            return number + 1
        record_told(sending, told)
    return AT_ONCE


def try_once(sending: Sending) -> Told:
    """One try over a connection of its own. Raises ServerAway."""
    try:
        mail = mail_of(sending)
    except Exception as error:  # one that cannot be written must not hold up the others
        logger.exception("a mail could not be written", extra={"mail": sending.pk})
        return Told(problem=f"It could not be written: {type(error).__name__}")
    connection = get_connection()
    try:
        connection.open()
        connection.send_messages([mail])
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()), (0, b""))
        return Told(is_final=code >= _PERMANENT, problem=f"The server refuses the address: {code} {_text(text)}")
    except smtplib.SMTPDataError as error:
        is_final = error.smtp_code >= _PERMANENT
        return Told(is_final=is_final, problem=f"The server refuses it: {error.smtp_code} {_text(error.smtp_error)}")
    except smtplib.SMTPResponseException as error:
        raise ServerAway(f"The server says {error.smtp_code} {_text(error.smtp_error)}") from None
    except (OSError, smtplib.SMTPException) as error:
        raise ServerAway(f"The server cannot be reached: {_text(error)}") from None
    except Exception as error:  # whatever a message does to the library, it is tried again and seen
        logger.exception("a mail could not be sent", extra={"mail": sending.pk})
        return Told(problem=f"Something broke on our side: {type(error).__name__}")
    finally:
        # What was taken is taken, however the goodbye goes.
        with suppress(OSError, smtplib.SMTPException):
            connection.close()
    return Told(is_sent=True)


def _text(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value) or type(value).__name__
    return " ".join(text.replace("\x00", "").split())[:200]
