# Does with a connected stream what a program can do, against a server that obeys: the first byte of a connection says what it does.
import array, ctypes, errno, fcntl, os, select, signal, socket, struct, sys, termios, threading, time

address = ("127.0.0.1", int(sys.argv[1]))


def connect(order):
    stream = socket.create_connection(address)
    stream.sendall(order)
    return stream


def readable(stream):
    number = array.array("i", [0])
    fcntl.ioctl(stream, termios.FIONREAD, number)
    return number[0]


def wait(stream, events):
    poll = select.poll()
    poll.register(stream, events)
    return poll.poll(20_000)[0][1]


def fails(act, *arguments):
    try:
        return act(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


echo = connect(b"e")
echo.sendall(b"0123456789")
while readable(echo) < 10:
    wait(echo, select.POLLIN)
print("peek", echo.recv(4, socket.MSG_PEEK), echo.recv(4, socket.MSG_PEEK), readable(echo))
print("trunc", ctypes.CDLL(None).recv(echo.fileno(), None, 2, socket.MSG_TRUNC), echo.recv(2))
parts = [bytearray(2), bytearray(3)]
print("recvmsg", echo.recvmsg_into(parts)[0], parts)
print("rest", echo.recv(100), fails(echo.recv, 1, socket.MSG_DONTWAIT))
echo.sendmsg([b"abc", b"", b"def"])
print("waitall", echo.recv(6, socket.MSG_WAITALL))
echo.settimeout(None)
echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
before = time.monotonic()
print("limit", fails(echo.recv, 1), 0.04 < time.monotonic() - before < 10)
echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
print("zero", echo.recv(0), echo.send(b""))

copy = echo.dup()
child = os.fork()
if child == 0:
    copy.sendall(b"from a child")
    os._exit(0)
os.waitpid(child, 0)
print("child", echo.recv(12, socket.MSG_WAITALL))
here, there = socket.socketpair()
socket.send_fds(here, [b"x"], [copy.fileno()])
copy.close()
[passed] = socket.recv_fds(there, 1, 1)[1]
os.write(passed, b"passed")
print("passed", os.read(echo.fileno(), 6))
os.close(passed)

with open("/tmp/streams", "w+b") as file:
    file.write(bytes(range(256)) * 1000)
    file.flush()
    sent = 0
    got = bytearray()
    reader = threading.Thread(target=lambda: [got.extend(echo.recv(65536)) for _ in iter(lambda: len(got) < 256_000, False)])
    reader.start()
    while sent < 256_000:
        sent += os.sendfile(echo.fileno(), file.fileno(), sent, 256_000 - sent)
    reader.join()
print("sendfile", bytes(got) == bytes(range(256)) * 1000)
read_end, write_end = os.pipe()
os.write(write_end, b"through a pipe")
print("splice", os.splice(read_end, echo.fileno(), 100), wait(echo, select.POLLIN))
print("splice back", os.splice(echo.fileno(), write_end, 100), os.read(read_end, 100))

edges = select.epoll()
edges.register(echo, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
print("edge", edges.poll(5) == [(echo.fileno(), select.EPOLLOUT)], edges.poll(0.02))
echo.sendall(b"x")
print("edge", [events & select.EPOLLIN for _, events in edges.poll(5)], edges.poll(0.02), echo.recv(1))
edges.modify(echo, select.EPOLLIN | select.EPOLLONESHOT)
echo.sendall(b"ab")
print("once", edges.poll(5) == [(echo.fileno(), select.EPOLLIN)], edges.poll(0.02))
edges.modify(echo, select.EPOLLIN)
print("level", [edges.poll(5) == [(echo.fileno(), select.EPOLLIN)] for _ in range(3)], echo.recv(2), edges.poll(0.02))

quick = connect(b"e")
quick.setblocking(False)
block = bytes(65536)
total = 0
while True:
    try:
        total += quick.send(block)
    except BlockingIOError:
        if not select.select([], [quick], [], 0)[1]:
            break
    if total > 64 << 20:
        break
received = 0
while received < total:
    wait(quick, select.POLLIN)
    received += len(quick.recv(1 << 20))
print("full", total > 100_000, wait(quick, select.POLLOUT))
quick.close()

echo.sendall(b"last")
echo.shutdown(socket.SHUT_WR)
print("half", echo.recv(4, socket.MSG_WAITALL), echo.recv(1), fails(echo.send, b"x"))
print("over", wait(echo, select.POLLIN | select.POLLOUT | select.POLLRDHUP), echo.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
echo.close()

reset = connect(b"r")
wait(reset, select.POLLIN)
print("reset", wait(reset, select.POLLIN | select.POLLOUT | select.POLLRDHUP), fails(reset.recv, 1), reset.recv(1), fails(reset.send, b"x"))
reset = connect(b"r")
wait(reset, select.POLLIN)
print("reset", errno.errorcode[reset.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)], reset.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), reset.recv(1))
signal.signal(signal.SIGPIPE, lambda *_: print("SIGPIPE"))
os.system("true")
print("pipe", fails(reset.send, b"x"))
reset.close()

# The server says what it saw: all, and then the end, or a reset.
for name, prepare in (
    ("closed at once", lambda stream: stream.sendall(bytes(1_000_000))),
    ("unread", lambda stream: (stream.sendall(b"!"), wait(stream, select.POLLIN))),
    ("no time", lambda stream: stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))),
    ("some time", lambda stream: (stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5)), stream.sendall(b"abc"))),
):
    stream = connect(b"!" if name == "unread" else b"c")
    prepare(stream)
    stream.close()
    with connect(b"?") as asking:
        print(name, asking.recv(100))

hasty = socket.socket()
hasty.setblocking(False)
print("hasty", hasty.connect_ex(address) == errno.EINPROGRESS, wait(hasty, select.POLLOUT), hasty.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
hasty.sendall(b"e")
hasty.sendall(b"hello")
wait(hasty, select.POLLIN)
print("hasty", hasty.recv(100))
watcher = select.epoll()
watcher.register(hasty, select.EPOLLIN)
hasty.sendall(b"again")
print("hasty", len(watcher.poll(5)), hasty.recv(100))

# What is sent last arrives though nothing waits for it.
last = connect(b"c")
last.sendall(bytes(3_000_000))
os._exit(0)
