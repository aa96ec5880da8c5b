"""Trajectories on disk, in The Well's folder and file format.

``hdf5`` and ``schema`` are the only modules that import h5py, ``files`` holds the only
code that changes the disk.
"""

from pde_sym.store.files import lock, make_folder, remove_temporaries, write_file
from pde_sym.store.folder import (
    Manifest,
    ShardEntry,
    open_entries,
    open_entry,
    read_manifest,
    write_manifest,
)
from pde_sym.store.hdf5 import ShardReader, encode, open_shard
from pde_sym.store.shard import EnvironmentKind, Floats, Shard
from pde_sym.store.statistics import compute_statistics, read_statistics

__all__ = [
    "EnvironmentKind",
    "Floats",
    "Manifest",
    "Shard",
    "ShardEntry",
    "ShardReader",
    "compute_statistics",
    "encode",
    "lock",
    "make_folder",
    "open_entries",
    "open_entry",
    "open_shard",
    "read_manifest",
    "read_statistics",
    "remove_temporaries",
    "write_file",
    "write_manifest",
]
