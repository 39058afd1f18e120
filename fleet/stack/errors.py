"""What can go wrong while the stack starts, said in one line."""


class StackError(Exception):
    """The stack cannot start or go on; the message is one line, written for the person at the terminal."""
