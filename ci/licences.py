"""Checks the crates of the manifest in the working directory against a deny.toml's licences and sources.

Of cargo-deny's rules: licenses.allow, licenses.exceptions, sources.unknown-git. For machines where cargo-deny is not installed.
"""

import json
import re
import subprocess
import sys
import tomllib

WORDS = re.compile(r"[()]|[^\s()]+")


def satisfied(expression, allowed):
    """Whether an SPDX expression (with `/` for OR, as old manifests have it) can be met by allowed licences alone."""
    words = WORDS.findall(expression.replace("/", " OR ")) + [None]

    def either():
        met = both()
        while words[0] == "OR":
            words.pop(0)
            # Evaluated always: both sides must be read.
            met = both() or met
        return met

    def both():
        met = one()
        while words[0] == "AND":
            words.pop(0)
            met = one() and met
        return met

    def one():
        word = words.pop(0)
        if word == "(":
            met = either()
            if words.pop(0) != ")":
                raise ValueError(f"unbalanced: {expression}")
            return met
        if word is None or word in (")", "AND", "OR", "WITH"):
            raise ValueError(f"not an SPDX expression: {expression}")
        if words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in allowed

    met = either()
    if words != [None]:
        raise ValueError(f"not an SPDX expression: {expression}")
    return met


def main(config):
    with open(config, "rb") as file:
        deny = tomllib.load(file)
    allowed = set(deny["licenses"]["allow"])
    exceptions = {e["crate"]: set(e["allow"]) for e in deny["licenses"].get("exceptions", [])}
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--all-features"]
    for target in deny["graph"]["targets"]:
        command += ["--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [p for p in metadata["packages"] if p["id"] in used]
    found = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        # A file of its own instead of an expression is for a person to read.
        expression = package["license"]
        if not expression:
            found.append(f"{name}: has no licence expression, but {package['license_file'] or 'nothing'}")
        elif not satisfied(expression, allowed | exceptions.get(package["name"], set())):
            found.append(f"{name}: {expression} is not among what deny.toml allows")
        if (package["source"] or "").startswith("git+"):
            found.append(f"{name}: comes from a Git repository, which deny.toml does not allow")
    for name in exceptions.keys() - {p["name"] for p in packages}:
        found.append(f"{name}: has an exception in deny.toml, and is not used any more")
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    print(f"licences and sources of {len(packages)} crates: {f'{len(found)} not allowed' if found else 'all allowed'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
