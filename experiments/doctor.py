"""``pde-sym doctor``: the environment, and what is missing with its remedy.

Nothing that it looks for is imported at the top: it answers where all else fails.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PYTHONS = ((3, 11), (3, 12))
OPTIONAL = {
    "xarray": ("arrays with coordinates", "pip install 'xarray>=2024.1' 'numpy<2'"),
    "tensorboard": ("train --tensorboard", "pip install tensorboard"),
}
"""Package -> what it serves, and how it is installed."""
ALONE = {"escnn", "rocket-fft"}
"""Installed without what they declare; see the Makefile."""
MISSING = 2
"""Exit code."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"Exit code {MISSING} when something that is needed is missing."
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    report = examine()
    print(json.dumps(report, indent=1) if arguments.json else _text(report))
    return MISSING if report["remedies"] else 0


def examine() -> dict[str, Any]:
    """Return everything about the environment, as plain values."""
    packages = [_package(text) for text in _requirements()]
    remedies = [row["install"] for row in packages if not row["fits"]]
    if sys.version_info[:2] not in PYTHONS:
        remedies.insert(0, "make PYTHON=python3.11 install")
    return {
        "pde_sym": _version("pde-sym"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": packages,
        "optional": [
            {
                "name": name,
                "version": _version(name),
                "for": what,
                "install": command,
            }
            for name, (what, command) in OPTIONAL.items()
        ],
        **_machine(),
        "systems": _systems(),
        "remedies": remedies,
    }


def _requirements() -> list[str]:
    try:
        declared = metadata.requires("pde-sym") or []
    except metadata.PackageNotFoundError:
        return []
    return [text for text in declared if "extra ==" not in text]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package(requirement: str) -> dict[str, Any]:
    """Return what is there of a requirement, as ``numpy<2,>=1.26``."""
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    found = _version(name)
    options = "--no-deps " if name in ALONE else ""
    return {
        "name": name,
        "wanted": requirement[len(name) :] or "any",
        "version": found,
        "fits": found is not None and _fits(requirement, found),
        "install": f"pip install {options}'{requirement}'",
    }


def _fits(requirement: str, version: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # then it is enough that it is there
        return True
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def _machine() -> dict[str, Any]:
    """Return cores, threads, memory, disk and devices."""
    cache = Path(os.environ.get("PDE_SYM_CACHE") or Path.home() / ".cache" / "pde_sym")
    devices, threads = ["cpu"], None
    try:
        import torch
    except (ImportError, OSError):  # a broken build raises OSError
        pass
    else:
        threads = torch.get_num_threads()
        devices += [
            f"cuda:{i} {torch.cuda.get_device_name(i)}"
            for i in range(torch.cuda.device_count())
        ]
    return {
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)),
        "threads": {
            "torch": threads,
            **{n: os.environ.get(n) for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")},
        },
        "memory_gib": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1
        ),
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / (1 << 30), 1),
        "devices": devices,
        "cache": str(cache),
    }


def _systems() -> list[str]:
    try:
        from pde_sym.systems import SYSTEMS
    except ImportError:
        return []
    return [system.model_fields["kind"].default for system in SYSTEMS]


def _text(report: dict[str, Any]) -> str:
    threads = ", ".join(f"{k} {v or '-'}" for k, v in report["threads"].items())
    lines = [
        f"pde_sym   {report['pde_sym'] or 'not installed: make install'}",
        f"python    {report['python']} ({report['executable']})",
        f"platform  {report['platform']}",
        f"cores     {report['cores_allowed']} of {report['cores']}; threads: {threads}",
        f"memory    {report['memory_gib']} GiB",
        f"disk      {report['disk_free_gib']} GiB free",
        f"devices   {', '.join(report['devices'])}",
        f"cache     {report['cache']}",
        f"systems   {', '.join(report['systems']) or 'none'}",
        "packages",
    ]
    for row in report["packages"]:
        state = row["version"] or "missing"
        remedy = "" if row["fits"] else f"   {row['install']}"
        lines.append(f"  {row['name']:14} {state:10} wanted {row['wanted']}{remedy}")
    lines.append("optional")
    for row in report["optional"]:
        there = row["version"] or f"not there ({row['for']}): {row['install']}"
        lines.append(f"  {row['name']:14} {there}")
    number = len(report["remedies"])
    lines.append(
        f"{number} missing; see the commands above" if number else "all is there"
    )
    return "\n".join(lines)
