"""Runs the commands of a document's `console` blocks and prints the document with what they print today.

usage: walk_through.py DOCUMENT NANBOKU LAB    a lab's name takes the place of the document's own

A line `$ COMMAND` runs here, `MACHINE$ COMMAND` on that machine of the lab. The first command that fails ends it.
`openstack` is forked from this process, in the machine's network namespace, so that only starting Python is saved.
"""

import ctypes
import os
import re
import shlex
import subprocess
import sys

import session

# The lab that the document names.
NAME = "dvr"


def on_machine(nanboku, lab, machine):
    """What comes before a command that runs on a machine."""
    return [nanboku, "--lab", lab, "lab", "exec", machine, "--"]


def openstack(nanboku, lab, machine, words):
    """What a real `openstack` command prints, in the place and with the environment that `lab exec` gives it."""
    variables = subprocess.check_output(on_machine(nanboku, lab, machine) + ["env", "-0"]).decode()

    def enter():
        os.environ.update(line.split("=", 1) for line in variables.split("\0") if line)
        with open(f"/run/netns/nbk-{lab}.{machine}") as netns:
            assert ctypes.CDLL(None, use_errno=True).setns(netns.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    code, out, err = session.in_child(words, enter)
    return code, out + err


def shell(before, line):
    line = ["bash", "-c", f"set -o pipefail; {line}"]
    done = subprocess.run(before + line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode()


def run(nanboku, lab, machine, command):
    """What a command prints; it must succeed."""
    command = command.replace(f"nbk-{NAME}.", f"nbk-{lab}.")
    if command.startswith("openstack "):
        code, said = openstack(nanboku, lab, machine, shlex.split(command)[1:])
    elif machine:
        code, said = shell(on_machine(nanboku, lab, machine), command)
    else:
        command = command.replace(f"lab up {NAME}", f"lab up {NAME} --name {lab}")
        code, said = shell([], re.sub(f"lab (check|down) {NAME}", rf"lab \1 {lab}", command))
    assert code == 0, f"{machine or 'here'}: {command}: {said}"
    return said.replace(f"nbk-{lab}.", f"nbk-{NAME}.").replace(f"lab {lab} ", f"lab {NAME} ")


def main(document, nanboku, lab):
    os.environ["PATH"] = os.path.dirname(nanboku) + ":" + os.environ["PATH"]
    inside = False
    for line in open(document).read().splitlines():
        if not inside or line == "```":
            print(line)
            inside = not inside and line == "```console"
            continue
        prompt = re.match(r"(\S*)\$ (.*)", line)
        if not prompt:
            continue
        print(line, flush=True)
        print(run(nanboku, lab, prompt[1] or None, prompt[2]), end="", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
