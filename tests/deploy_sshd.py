"""A small ssh server on the loopback interface: prints its port, and serves until its input ends.

Usage: deploy_sshd.py HOST_KEY AUTHORIZED_KEYS NAME=VALUE
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pytest imports this file to look for doctests, and asyncssh is optional
    import asyncssh


async def serve(process: asyncssh.SSHServerProcess) -> None:
    """Run a command; it ends with its connection, as a login shell would."""
    assert process.command is not None
    child = await asyncio.create_subprocess_shell(
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **dict([sys.argv[3].split("=")])},
    )
    try:
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
        ends = [asyncio.ensure_future(child.wait()), asyncio.ensure_future(process.wait_closed())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if child.returncode is not None:
            process.exit(child.returncode)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)


async def main() -> None:
    import asyncssh

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[sys.argv[1]],
        authorized_client_keys=sys.argv[2],
        process_factory=serve,
        encoding=None,
    )
    print(server.get_port(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
