"""Types of messages, made ready before several threads meet them."""

import sys

import msgspec


def settle(module: str) -> None:
    """Have msgspec look at the structs that a module defines, while one thread imports it.

    It looks at a type when that is first met, and notes it down before it has found everything. A second thread that
    comes then follows a null pointer, and the process is gone (msgspec 0.22). Raises TypeError for a type that it
    cannot read.
    """
    for kind in list(vars(sys.modules[module]).values()):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module:
            msgspec.json.Decoder(kind)
