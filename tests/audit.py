"""Check the installed packages for known vulnerabilities with pip-audit (part of make lint).

Run:  python tests/audit.py

pip-audit reports packages unknown to its service as "no known vulnerability", and fails if the
service is unreachable. The line printed here says how many packages were actually looked up; the
exit code is 1 if a vulnerability was found, and 0 if the lookup was impossible.
"""

import json
import subprocess
import sys

_TIMEOUT = 300


def verdict(stdout: str) -> tuple[int, str]:
    """Exit code and summary line for pip-audit's JSON output (empty if it failed)."""
    try:
        packages = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError):
        return 0, "pip-audit: its service cannot be reached; NO package was audited"
    asked = [package for package in packages if "vulns" in package]
    found = [
        f"{package['name']} {package['version']}: {hole['id']}"
        for package in asked
        for hole in package["vulns"]
    ]
    if found:
        return 1, "pip-audit: " + "; ".join(found)
    unknown = len(packages) - len(asked)
    if not asked:
        return 0, f"pip-audit: its service knows none of {unknown} packages; NO package was audited"
    left = f"; {unknown} are NOT known to its service and were not audited" if unknown else ""
    return 0, f"pip-audit: {len(asked)} packages without a known vulnerability{left}"


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, "--skip-editable"], capture_output=True, text=True, timeout=_TIMEOUT
        )
        code, line = verdict(done.stdout)
    except subprocess.TimeoutExpired:
        code, line = verdict("")
    print(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
