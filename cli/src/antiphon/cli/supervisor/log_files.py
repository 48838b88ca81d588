import asyncio
import shutil
from pathlib import Path

LARGEST_BYTES = 10 * 1024 * 1024
LOOK_SECONDS = 30.0


async def keep_small(folder: Path) -> None:
    """Keep every log of the folder below a size for as long as this runs; one older file is kept of each."""
    while True:
        await asyncio.to_thread(rotate, folder)
        await asyncio.sleep(LOOK_SECONDS)


def rotate(folder: Path, largest_bytes: int = LARGEST_BYTES) -> None:
    """Set aside each log that has grown too large.

    The writer has the file open and appends, so it is copied and emptied, not moved.
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > largest_bytes:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+") as file:
                file.truncate()
