"""Waits for logins, as eagerly as is of use: {"nodes": [{name, address}], "ssh": argv} on stdin, {name: time of login} on stdout.

Run in the network namespace of the nodes' bridge."""

import asyncio
import json
import sys
import time

EVERY = 0.05  # seconds between two tries
LIMIT = 300


async def greeted(address, patience):
    """One try: whether an SSH server greets."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(address, 22), patience)
        try:
            return await asyncio.wait_for(reader.readexactly(4), 20) == b"SSH-"
        finally:
            writer.close()
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
        return False


async def login(node, ssh):
    # One at a time: tries that wait for the node's address reach it all at once, and each is a process of its SSH server. Given
    # up soon, since TCP repeats a lost packet only after a second; now and then not so soon, since the guest may be that slow.
    number = 0
    while not await greeted(node["address"], 1.5 if number % 12 == 11 else 0.2):
        number += 1
        await asyncio.sleep(EVERY)
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
