"""The end of servers, and of an event loop that runs in a thread of its own."""

import asyncio


async def end_server(runner):
    """Stop listening, and drop all connections. asyncio forgets a socket that it accepted, if its server is closed before the task for it begins."""
    for site in runner.sites:
        for sock in site._server.sockets:
            asyncio.get_running_loop().remove_reader(sock)
    await _turns()
    await runner.cleanup()


def end_loop(loop, thread):
    """Close what is still open in it, then the loop."""
    asyncio.run_coroutine_threadsafe(_emptied(loop), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _emptied(loop):
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for transport in list(loop._transports.values()):
        transport.abort()
    await _turns()


async def _turns():
    """Until what was asked of the loop so far is done, and what that asked for."""
    for _ in range(3):
        await asyncio.sleep(0)
