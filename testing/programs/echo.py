"""Sends back what it receives, at the port that is its argument."""
import asyncio, sys
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, '127.0.0.1', int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
