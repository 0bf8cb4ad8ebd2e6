"""How large the image is for whoever pulls it."""

import os
import re
import subprocess
from pathlib import Path

from .place import Failed
from .table import Row

LIMIT = 120.0  # MB
# gzip -6 over each layer's tar is what `docker push` sends, headers and manifests aside.
LAYERS = 'tar -xO --wildcards "*.tar" "blobs/sha256/*" 2>/dev/null | gzip -6 | wc -c'


def measure(place, _rounds, tell):
    """Of RESOURCE_IMAGE_TAR (docker save), of the image that RESOURCE_ROOTFS was exported from, or of the root file system."""
    tar = os.environ.get("RESOURCE_IMAGE_TAR")
    name = Path(place.rootfs).name
    if tar:
        source, size = "docker save", count(f'cat "$1" | {LAYERS}', tar)
    elif re.fullmatch("[0-9a-f]{64}", name) and image_is_there(name):
        source, size = "docker save", count(f'docker save "$1" | {LAYERS}', name)
    else:
        source, size = "the root file system as one layer", count('tar -C "$1" --numeric-owner -c . | gzip -6 | wc -c', place.rootfs)
    tell(f"image: {size / 1e6:.1f} MB")
    return [Row("image, compressed", f"≤ {LIMIT:.0f} MB", f"{size / 1e6:.1f} MB", size / 1e6, LIMIT, note=f"gzip -6 of {source}")]


def image_is_there(identity):
    try:
        return subprocess.run(["docker", "image", "inspect", identity], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def count(script, argument):
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script, "bash", argument], capture_output=True, text=True)
    if not done.stdout.strip().isdigit() or int(done.stdout) < 1_000_000:
        raise Failed(f"image: {script}: {done.stderr.strip()}")
    return int(done.stdout)
