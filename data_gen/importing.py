"""``pde-sym import``: a stranger's HDF5 file as a data set of ours."""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_gen.build import clean, finish, refuse_foreign
from data_gen.cost import bytes_of
from pde_sym.errors import InputError, OutputError
from pde_sym.progress import progress
from pde_sym.seeds import Split
from pde_sym.store import (
    Manifest,
    Shard,
    ShardEntry,
    encode,
    lock,
    make_folder,
    open_entries,
    read_manifest,
    write_file,
    write_manifest,
)
from pde_sym.store.files import file_hash
from pde_sym.store.folder import MANIFEST, sha256
from pde_sym.store.sandbox import DEFAULT, SYSTEM, Header, Limits, reading

HELP = "a stranger's HDF5 file, The Well's or PDEBench's, as a data set"
BLOCK_BYTES = 64 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = (
        "The file is read in a process that can open no other file; links, external "
        "and virtual data are refused."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="an HDF5 file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--boundary",
        choices=("periodic", "wall"),
        help="what the axes end at, for PDEBench, whose files do not say",
    )
    for split in ("valid", "test"):
        parser.add_argument(
            f"--{split}",
            type=int,
            default=0,
            metavar="N",
            help="the last trajectories, taken from those to train on (0)",
        )
    parser.add_argument(
        "--max-gib", type=float, default=4.0, metavar="GIB", help="limit of data (4)"
    )
    parser.add_argument(
        "--max-seconds", type=int, default=600, metavar="S", help="limit of time (600)"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    limits = Limits.parse(
        {"bytes": bytes_of(arguments.max_gib), "seconds": arguments.max_seconds},
        where="limits",
    )
    number = {Split.VALID: arguments.valid, Split.TEST: arguments.test}
    header = import_file(
        arguments.file, arguments.out, number, arguments.boundary or "", limits
    )
    manifest = read_manifest(arguments.out)
    report: dict[str, Any] = {
        "path": str(arguments.out),
        "layout": header.layout,
        "trajectories": manifest.held(),
        "fields": [f.name for f in (*header.states, *header.constants)],
        "left_out": list(header.left_out),
    }
    left = f"; left out: {', '.join(header.left_out)}" if header.left_out else ""
    line = (
        f"{arguments.out}: {header.num} trajectories from the layout of "
        f"{header.layout}, fields {', '.join(report['fields'])}{left}"
    )
    print(json.dumps(report) if arguments.json else line)
    return 0


def import_file(
    path: Path,
    folder: Path,
    number: dict[Split, int],
    boundary: str = "",
    limits: Limits = DEFAULT,
) -> Header:
    """Make a data set of a stranger's file; return what was found in it.

    The same call after a crash at any point makes the same bytes.

    Raises
    ------
    DataError
        When the file is damaged, hostile or of an unknown layout.
    OutputError
        When the folder holds something else or is in use, or the disk refuses.
    """
    refuse_foreign(folder)
    config = {"imported": {"sha256": file_hash(path), "boundary": boundary}}
    # A header is read first: it tells how much a trajectory takes.
    with reading(path, 1, boundary.upper(), limits) as found:
        header = found.header
    block = max(1, min(header.num, BLOCK_BYTES // header.bytes))
    counts = _counts(header.num, number)
    make_folder(folder)
    with lock(folder), reading(path, block, boundary.upper(), limits) as found:
        manifest = Manifest(config=config, counts=counts)
        if (folder / MANIFEST).exists():
            there = read_manifest(folder, complete=False)
            if (there.config, there.counts) != (config, counts):
                raise OutputError(
                    f"{folder}: holds another data set; choose another folder"
                )
            if there.complete:
                return header
        write_manifest(folder, manifest)
        clean(folder)
        with progress("importing", header.num, "trajectories") as finished:
            start = 0
            for shard in found.shards(config, block):
                for piece, split, first in _pieces(shard, start, counts):
                    manifest = _write(folder, piece, split, first, manifest)
                start += len(shard.states)
                finished(len(shard.states))
        finish(folder, manifest)
    return header


def _counts(total: int, number: dict[Split, int]) -> dict[Split, int]:
    if min(number.values()) < 0 or sum(number.values()) >= total:
        raise InputError(
            f"--valid and --test: expected fewer than {total} trajectories together, "
            f"got {sum(number.values())}"
        )
    return {Split.TRAIN: total - sum(number.values()), **number}


def _pieces(
    shard: Shard, start: int, counts: dict[Split, int]
) -> Iterator[tuple[Shard, Split, int]]:
    """Yield the parts of a block that lie in one split each, with their numbers."""
    begin = 0
    for split in Split:
        end = begin + counts[split]
        low, high = max(begin, start), min(end, start + len(shard.states))
        if low < high:
            yield _part(shard, slice(low - start, high - start)), split, low - begin
        begin = end


def _part(shard: Shard, rows: slice) -> Shard:
    return replace(
        shard,
        states=shard.states[rows],
        environment=shard.environment[rows],
        strengths={name: values[rows] for name, values in shard.strengths.items()},
    )


def _write(
    folder: Path, shard: Shard, split: Split, first: int, manifest: Manifest
) -> Manifest:
    """Write one shard and list it."""
    data = encode(shard)
    entry = ShardEntry(
        file=f"data/{split}/{SYSTEM}-{len(manifest.of(split)):05d}.hdf5",
        split=split,
        start=first,
        count=len(shard.states),
        sha256=sha256(data),
        bytes=len(data),
    )
    write_file(entry.path(folder), data)
    manifest = manifest.with_shard(entry)
    write_manifest(folder, manifest)
    return manifest


def is_imported(manifest: Manifest) -> bool:
    """Return whether a data set came from elsewhere: it has no recipe then."""
    return SYSTEM in manifest.config


def describe_imported(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Check hashes, schema and numbers of an imported data set; return what it holds.

    Raises
    ------
    DataError
        Naming the first file and reason.
    """
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    report: dict[str, Any] = {"path": str(folder), **manifest.config}
    for reader in open_entries(folder, manifest.shards):
        reader.check_schema()
        shard = reader.load()
        for name, part in shard.fields.slices().items():
            values = shard.states[:, :, part]
            low[name] = min(low.get(name, math.inf), float(values.min()))
            high[name] = max(high.get(name, -math.inf), float(values.max()))
        report["resolution"] = list(shard.grid.shape)
        report["lengths"] = list(shard.grid.lengths)
        report["boundary"] = shard.grid.boundary
        report["frames"] = len(shard.times)
        report["given"] = list(shard.environment_fields.names)
    report["trajectories"] = manifest.held()
    report["files"] = len(manifest.shards)
    report["fields"] = {name: {"min": low[name], "max": high[name]} for name in low}
    return report


def show_imported(folder: Path, manifest: Manifest, *, as_json: bool) -> int:
    """Check and print an imported data set; return the exit code."""
    report = describe_imported(folder, manifest)
    ranges = ", ".join(
        f"{name} {row['min']:.4g} to {row['max']:.4g}"
        for name, row in report["fields"].items()
    )
    line = (
        f"{folder}: imported and sound; {report['files']} files, "
        f"{sum(manifest.held().values())} trajectories of {report['frames']} frames on "
        f"{' x '.join(map(str, report['resolution']))} points; {ranges}"
    )
    print(json.dumps(report) if as_json else line)
    return 0
