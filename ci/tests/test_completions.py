"""Completion in the shells themselves, and the manual pages: nodectl of the image's root file system, run on this machine."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import pytest
from cluster import image  # noqa: F401

# What is typed before Tab, and what is offered among others.
TYPED = [("nodectl po", "power"), ("nodectl power cy", "cycle"), ("nodectl wait --ju", "--junit"), ("nodectl completions z", "zsh"),
         ("nodectl power cut --a", "--all")]

BASH = r"""
source <(nodectl completions bash)
COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; read -ra COMP_WORDS <<< "$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_TYPE=9
function=$(complete -p nodectl | sed 's/.*-F \([^ ]*\).*/\1/')
$function nodectl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""

FISH = """
nodectl completions fish | source
complete -C $argv[1]
"""


@pytest.fixture
def environment(image, tmp_path):
    """nodectl of the image is found first; its libraries are the image's."""
    program = tmp_path / "nodectl"
    libraries = f"{image}/lib/x86_64-linux-gnu:{image}/usr/lib/x86_64-linux-gnu"
    program.write_text(f"#!/bin/sh\nexec {image}/lib64/ld-linux-x86-64.so.2 --library-path {libraries} --argv0 nodectl "
                       f"{image}/usr/local/bin/nodectl \"$@\"\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "xterm"}


def shell(name):
    if not shutil.which(name):
        pytest.skip(f"no {name} on this machine")
    return name


@pytest.mark.parametrize("name, script", [("bash", BASH), ("fish", FISH)])
def test_completion(environment, name, script):
    for typed, offered in TYPED:
        argv = [shell(name), "-c", script, typed] if name == "fish" else [shell(name), "-c", script, name, typed]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60)
        assert offered in done.stdout.replace(typed, ""), done


def test_completion_of_zsh(environment):
    """zsh completes on a terminal alone: it gets one, and Tab is pressed."""
    shell("zsh")
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)
    try:
        begin = "PS1='> '; autoload -U compinit; compinit -u -D; source <(nodectl completions zsh); bindkey '^I' complete-word; echo be''gun\n"
        os.write(terminal, begin.encode())
        read_until(terminal, "begun")
        for typed, offered in TYPED:
            # Ctrl-U empties the line; what is offered is unique, so that one Tab completes it.
            os.write(terminal, f"\x15{typed}\t".encode())
            read_until(terminal, offered)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def read_until(terminal, word):
    said, until = "", time.monotonic() + 60
    while word not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x08", "", said):
        assert select.select([terminal], [], [], until - time.monotonic())[0], (word, said)
        said += os.read(terminal, 4096).decode(errors="replace")


def test_manual_pages(environment, tmp_path):
    subprocess.run(["nodectl", "man", tmp_path / "man"], check=True, env=environment)
    pages = {page.name for page in (tmp_path / "man").iterdir()}
    assert {"nodectl.1", "nodectl-power.1", "nodectl-wait.1", "nodectl-logs.1"} <= pages and "nodectl-agent.1" not in pages, pages
    text = (tmp_path / "man/nodectl-power.1").read_text()
    assert "ACPI" in text and text.startswith(".ie"), text
