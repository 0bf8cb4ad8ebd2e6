"""Breakages of ci/guests/broken, and guests that only look broken: the verdict must be right, and come at the earliest moment that is
certain. DIAGNOSE="name name" takes those; DIAGNOSE=all takes all 82, more than half an hour under translation, since what is told by its
absence alone takes minutes each."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
from broken_runs import Run, run
from cluster import given, image, machine  # noqa: F401

from broken import BREAKAGES, Bases

AT_ONCE = 3

# What is taken by default: of every phase, those that end within a minute.
QUICK = """
blank-disk file-system-instead-of-disk data-disk disk-cut-short grub-unknown-file-system grub-without-configuration kernel-missing
no-initrd no-initrd-silent initrd-cut-short no-such-init init-ends kernel-crashes panic-again-and-again too-little-memory
powers-itself-off reboots-for-ever ready-command-fails root-elsewhere no-systemd file-system-damaged fstab-names-an-absent-disk
ignition-config-invalid ignition-failed-silent dracut-root-elsewhere-silent
fine fine-silent fine-with-words-of-horror fine-after-one-reboot fine-on-a-third-of-a-cpu
"""


def told(of: Run):
    between = "" if of.to_verdict is None else f"{of.to_verdict:6.1f}"
    expected = "" if of.right else f"  (expected {' or '.join(of.breakage.codes) or 'ready'})"
    verdict = of.verdict or ("ready" if of.status == "succeeded" else of.status)
    return (f"{of.breakage.name:36} | {'on' if of.breakage.serial else 'off':6} | {verdict:26} | {between:>9} | {of.seconds:7.0f} | "
            f"{'right' if of.right else 'WRONG'}{expected}")


def can(breakage):
    """Whether this host has what the recipe takes."""
    return (breakage.guest != "ignition" or "GUEST_IGNITION" in os.environ) and (not breakage.needs or shutil.which(breakage.needs))


@pytest.fixture(scope="module")
def bases():
    with Bases(given("GUEST_TINY", "disk image of the tiny guest"), given("GUEST_DEBIAN", "disk image of the Debian guest"),
               os.environ.get("GUEST_IGNITION")) as made:
        made.work.chmod(0o755)
        yield made


def test_breakages_get_their_verdicts(machine, image, bases, aloud):
    wanted = os.environ.get("DIAGNOSE", QUICK).split()
    chosen = [b for b in BREAKAGES if (wanted == ["all"] or b.name in wanted) and can(b)]
    # The longest first, so that none is left alone at the end.
    chosen.sort(key=lambda b: -b.limit)
    begun = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = []
        for one in as_completed([pool.submit(run, machine, image, bases, b) for b in chosen]):
            runs.append(one.result())
            aloud(told(runs[-1]))
    runs.sort(key=lambda r: BREAKAGES.index(r.breakage))
    wrong = [r for r in runs if not r.right]
    aloud("\n\nbreakage                             | serial | verdict                    | from sign | seconds | right or wrong")
    aloud("\n".join(told(r) for r in runs))
    if left := [b.name for b in BREAKAGES if not can(b)]:
        aloud(f"\nnot to be made here: {', '.join(left)}")
    aloud(f"\n{len(runs) - len(wrong)} of {len(runs)} right, {time.monotonic() - begun:.0f} s")
    for bad in wrong:
        print(f"\n===== {bad.breakage.name}\n{bad.log[-6000:]}")
    assert not wrong, ", ".join(r.breakage.name for r in wrong)
