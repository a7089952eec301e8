"""Turns pip's installation report (stdin) into requirements with the SHA-256 of each file (stdout).

A report names the files that pip would install here, from the index that it is set up for. So the
hashes are those of this platform and this index; `make lock` names the file after the platform.
"""

import json
import sys


def locked(report: dict) -> list[str]:
    """One requirement a package, sorted. Raises ValueError for a package without a hash."""
    lines = []
    for item in report["install"]:
        download, name = item["download_info"], item["metadata"]["name"]
        if "dir_info" in download:  # this project itself
            continue
        digest = download.get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None:
            raise ValueError(f"the index gives no SHA-256 of {name}")
        lines.append(f"{name}=={item['metadata']['version']} --hash=sha256:{digest}")
    return sorted(lines, key=str.lower)


if __name__ == "__main__":
    print("# Written by `make lock`; `make setup` on this platform installs these files alone.")
    print("\n".join(locked(json.load(sys.stdin))))
