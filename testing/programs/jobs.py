"""Job control: what a person at a terminal does with a shell, and what the shell says."""
import os
import pty
import re
import select
import sys
import time

shell, terminal = pty.fork()
if shell == 0:
    os.environ.update(PS1="ready> ", PS2="", TERM="dumb", HISTFILE="")
    os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
seen = b""


def until(what):
    """Prints what comes before `what`."""
    global seen
    while what not in seen:
        if not select.select([terminal], [], [], 60)[0]:
            sys.exit(f"no {what} after {seen}")
        seen += os.read(terminal, 4096)
    got, seen = seen.split(what, 1)
    print(re.sub(r"^\[1\] \d+", "[1] PID", got.decode().replace("\r\n", "\n"), flags=re.M), end="")


def say(*lines):
    for line in lines:
        os.write(terminal, line.encode() + b"\n")
        until(b"ready> ")


def in_foreground(line):
    """Starts a job and waits until the terminal is its own."""
    os.write(terminal, line.encode() + b"\n")
    while os.tcgetpgrp(terminal) == shell:
        pass
    # The job sets its signals after the shell has given it the terminal.
    time.sleep(0.3)


def press(key):
    os.write(terminal, key)
    until(b"ready> ")


until(b"ready> ")
say("stty -echo")
in_foreground("sleep 100")
press(b"\x1a")
say("jobs", "bg", "jobs", "kill -STOP %1; sleep 0.3", "jobs")
in_foreground("fg")
press(b"\x03")
say("echo $?")
in_foreground("cat | cat")
os.write(terminal, b"through two pipes\n")
until(b"through two pipes")
press(b"\x04")
say("echo $?", "cat & sleep 0.3", "jobs", "kill -KILL %1; sleep 0.3", "jobs", "trap 'echo interrupted' INT")
in_foreground("sleep 100")
press(b"\x03")
in_foreground("sleep 100")
press(b"\x1c")
os.write(terminal, b"exit 5\n")
print(os.waitstatus_to_exitcode(os.waitpid(shell, 0)[1]))
