"""Waits for logins, as eagerly as is of use: {"nodes": [{name, address}], "ssh": argv} on stdin, {name: time of login} on stdout.

Run in the network namespace of the nodes' bridge."""

import asyncio
import json
import sys
import time

EVERY = 0.05  # seconds between two tries
LIMIT = 300


async def greeted(address):
    """One try: whether an SSH server greets."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(address, 22), 3)
        try:
            return await asyncio.wait_for(reader.readexactly(4), 20) == b"SSH-"
        finally:
            writer.close()
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
        return False


async def login(node, ssh):
    # Tries overlap: one whose packets a guest without an address has swallowed must not delay the next.
    tries = set()
    while True:
        tries.add(asyncio.create_task(greeted(node["address"])))
        done, tries = await asyncio.wait(tries, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
        if any(task.result() for task in done):
            break
        await asyncio.sleep(EVERY if done else 0)
    for task in tries:
        task.cancel()
    while True:
        argv = [*ssh, "-o", f"HostKeyAlias={node['name']}", node["address"], "--", "exit 0"]
        client = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        if await client.wait() == 0:
            return node["name"], time.time()
        await asyncio.sleep(EVERY)


async def main():
    order = json.load(sys.stdin)
    logins = asyncio.gather(*(login(node, order["ssh"]) for node in order["nodes"]))
    print(json.dumps(dict(await asyncio.wait_for(logins, LIMIT))))


asyncio.run(main())
