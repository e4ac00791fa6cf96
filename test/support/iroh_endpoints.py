"""``python iroh_endpoints.py URL``: two endpoints that know each other by the relay at URL alone exchange data."""

import asyncio
import os
import sys

import iroh

PROTOCOL = b"chatmail-formula/test"
QUESTION = b"hello over there"
TIME_MAX = 40  # seconds


class Answering:
    """Sends back, reversed, what a stream brings."""

    def create(self, endpoint: iroh.Endpoint) -> "Answering":
        return self

    async def accept(self, connection: iroh.Connection) -> None:
        stream = await connection.accept_bi()
        question = await stream.recv().read_to_end(1000)
        await stream.send().write_all(question[::-1])
        await stream.send().finish()
        await connection.closed()

    async def shutdown(self) -> None:
        pass


async def endpoint() -> iroh.Iroh:
    """An endpoint on loopback, which nobody finds by itself."""
    options = iroh.NodeOptions(
        gc_interval_millis=None,
        blob_events=None,
        enable_docs=False,
        ipv4_addr="127.0.0.1:0",
        ipv6_addr="[::1]:0",
        node_discovery=iroh.NodeDiscoveryConfig.NONE,
        secret_key=None,
        protocols={PROTOCOL: Answering()},
    )
    return await iroh.Iroh.memory_with_options(options)


async def ask(asking: iroh.Iroh, answering: iroh.NodeAddr) -> bytes:
    connection = await asking.node().endpoint().connect(answering, PROTOCOL)
    stream = await connection.open_bi()
    await stream.send().write_all(QUESTION)
    await stream.send().finish()
    answer = await stream.recv().read_to_end(1000)
    connection.close(0, b"")
    return answer


async def exchange(relay: str) -> None:
    """Let each ask the other: to do so it connects to the relay, where the other then finds it."""
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    one, two = await endpoint(), await endpoint()
    # No address but the relay's.
    addresses = [
        iroh.NodeAddr(iroh.PublicKey.from_string(await node.net().node_id()), relay, []) for node in (one, two)
    ]
    answers = await asyncio.gather(ask(one, addresses[1]), ask(two, addresses[0]))
    assert answers == [QUESTION[::-1]] * 2, answers


asyncio.run(asyncio.wait_for(exchange(sys.argv[1]), TIME_MAX))
# iroh's own threads abort the program where Python ends under them.
os._exit(0)
