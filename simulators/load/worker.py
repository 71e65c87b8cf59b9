"""One process of a load: ``python -m simulators.load.worker``, started by the parent and by nobody else.

It ends when its stdin does: a parent that was killed leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from shopfloor import logs
from shopfloor.errors import ShopfloorError
from simulators.load.channel import Channel, Failed, OpcuaJob, ParentGone


def main() -> int:
    """Do what the first line of stdin says; returns the exit status."""
    # The parent hears of Ctrl-C too and ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.set_up()
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    # Every fault that a client provokes is an error to asyncua; those of its own making come with a traceback.
    logging.getLogger("asyncua.server.uaprocessor").addFilter(lambda record: record.exc_info is not None)
    channel = Channel()
    try:
        job = channel.job()
        try:
            if isinstance(job, OpcuaJob):
                from simulators.load.opcua_process import serve  # noqa: PLC0415 - asyncua only where it is used

                asyncio.run(serve(job, channel))
            else:
                from simulators.load.publisher import publish  # noqa: PLC0415 - as above

                publish(job, channel)
        except (ShopfloorError, OSError) as error:
            channel.tell(Failed(str(error)))
            return 1
    except ParentGone:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
