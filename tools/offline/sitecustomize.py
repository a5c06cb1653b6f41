"""On the path of every page that is executed: only this computer may be spoken to."""

import sys


def _guard(event: str, arguments: tuple) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and address[0] not in (
        "127.0.0.1",
        "::1",
        "localhost",
    ):
        raise ConnectionError(f"a page reached for the network: {address[0]}")


sys.addaudithook(_guard)
