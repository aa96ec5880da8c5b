"""``pde-sym export``: a data set in the formats of other benchmarks."""

import argparse
import json
from pathlib import Path

from pde_sym.errors import InputError
from pde_sym.seeds import Split
from pde_sym.store import (
    Manifest,
    make_folder,
    open_entries,
    open_entry,
    read_manifest,
    read_statistics,
    write_file,
)
from pde_sym.store.files import read_file
from pde_sym.store.folder import STATISTICS

MAX_STATISTICS = 1 << 26


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "pdebench: a file per split, family A (one scalar on a line, .hdf5) or B (all "
        "else, .h5). well: the same files below OUT/datasets/NAME, where clients of "
        "The Well look for them; as a path they read any data set as it is."
    )
    parser.add_argument("data", type=Path, metavar="DIR", help="folder of a data set")
    parser.add_argument(
        "--to", choices=("pdebench", "well"), required=True, help="format"
    )
    parser.add_argument(
        "--family", choices=("A", "B"), help="of PDEBench (A where it fits, else B)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where to write"
    )
    parser.add_argument("--json", action="store_true", help="print the files as JSON")


def run(arguments: argparse.Namespace) -> int:
    folder, out, manifest = arguments.data, arguments.out, read_manifest(arguments.data)
    if arguments.to == "well":
        if arguments.family is not None:
            raise InputError("--family: of PDEBench; expected --to pdebench")
        files = to_well(folder, manifest, out / "datasets" / folder.resolve().name)
    else:
        files = to_pdebench(folder, manifest, out, arguments.family)
    if arguments.json:
        print(json.dumps({"files": [str(file) for file in files]}))
    else:
        print("\n".join(str(file) for file in files))
    return 0


def to_well(folder: Path, manifest: Manifest, out: Path) -> list[Path]:
    """Copy what The Well's clients read, each file with its hash checked."""
    read_statistics(folder, manifest)
    sources = {STATISTICS: (folder / STATISTICS, MAX_STATISTICS)}
    for entry in manifest.shards:
        open_entry(folder, entry).close()
        sources[entry.file] = (entry.path(folder), entry.bytes)
    for split in Split:
        make_folder(out / "data" / split)
    for name, (source, size) in sources.items():
        write_file(out / name, read_file(source, size))
    return [out / name for name in sources]


def to_pdebench(
    folder: Path, manifest: Manifest, out: Path, family: str | None = None
) -> list[Path]:
    """Write a file per split; `InputError` when the family does not hold the data."""
    from pde_sym.store.pdebench import SUFFIX, encode_pdebench, family_of

    make_folder(out)
    files = []
    for split in Split:
        shards = [reader.load() for reader in open_entries(folder, manifest.of(split))]
        if not shards:
            continue
        own = family_of(shards[0])
        chosen = own if family is None else "A" if family == "A" else "B"
        files.append(out / f"{shards[0].system}_{split}{SUFFIX[chosen]}")
        write_file(files[-1], encode_pdebench(shards, chosen))
    return files
