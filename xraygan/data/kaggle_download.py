"""The Kaggle set of the study: downloaded by the kaggle package's own command, unpacked so that no path leaves the folder.

Run as `python -m xraygan.data.kaggle_download` (that is what `make data` does).
"""

import errno
import lzma
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import utils
from xraygan import clouds, disk

DATASET = "prashant268/chest-xray-covid19-pneumonia"
EXPECTED_COUNTS = {  # as the study found them in 2022
    "train": {"NORMAL": 1266, "COVID19": 460, "PNEUMONIA": 3418},
    "test": {"NORMAL": 317, "COVID19": 116, "PNEUMONIA": 855},
}
MAX_UNPACKED_BYTES = 20 * 10**9  # the real set unpacks to about 2 GB
MAX_COMPRESSION = 200  # JPEG hardly compresses; a bomb does
SYMLINK = 0o120000
# The kaggle package's own command, in its own process: importing the package authenticates and can exit, and it allows anonymous
# downloads by the look of the command line, so the program's name must be its own before the import. What it raises becomes a line.
KAGGLE_COMMAND = """
import sys
sys.argv[0] = "kaggle"
try:
    from kaggle.cli import main
    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
FULL = 2**16  # bytes that are free on a disk that is full
MAX_NAME_BYTES = 255  # of a file or folder, on nearly every disk
BROKEN = (  # what reading an archive raises
    *(zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, OSError),
)
ACCOUNT_HELP = (
    "If Kaggle asks for an account: create a token at https://www.kaggle.com/settings (API, 'Generate New Token') and save it as "
    "~/.kaggle/access_token, or put it into the environment variable KAGGLE_API_TOKEN (in Colab: among the Secrets, the key at the left, "
    "under that name); then run this again."
)


def download(folder):
    """Download and unpack the data set into `folder/{train,test}/CLASS/`, going on where an earlier call stopped.

    Returns:
        `folder`, which is only there when it is whole; in Kaggle, where the set can be added as an input, that input.

    Raises:
        RuntimeError: the download failed, or another process is at it; the message says what to do.
        OSError: the disk is full or read-only, in one sentence.
        ValueError: the archive is broken, hostile, or holds no train and test folder.
    """
    folder = find_input() or Path(folder)
    if folder.is_dir():
        return folder
    if clouds.find_host() == "Kaggle":
        raise RuntimeError(f"in Kaggle, add {DATASET} as an input (Add Input, at the right) and run this again.")
    with disk.held(folder.parent / "download"):
        archive = _fetch_archive(folder.parent / "download")
        unpack(archive, folder)
        archive.unlink()
    for line in count_report(folder):
        print(line)
    return folder


def find_input():
    """The set among a Kaggle notebook's inputs, which are shown at one of two places; None where it isn't."""
    owner, name = DATASET.split("/")
    places = [clouds.KAGGLE / "input" / name, clouds.KAGGLE / "input" / "datasets" / owner / name]
    return next((place for place in places if place.is_dir()), None)


def _fetch_archive(folder):
    command = [sys.executable, "-c", KAGGLE_COMMAND, "datasets", "download", DATASET, "-p", str(folder)]
    archive = folder / f"{DATASET.split('/')[1]}.zip"
    environment = os.environ | clouds.read_kaggle_token()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
        for chunk in iter(lambda: process.stdout.read1(4096), b""):  # as it comes: its progress bar has no line ends
            sys.stdout.write(chunk.decode(errors="replace"))
            sys.stdout.flush()
            if shutil.disk_usage(folder).free < FULL:
                process.kill()  # the kaggle package would take it for a bad connection and try again for a minute
                with disk.write_errors_explained(archive):
                    raise OSError(errno.ENOSPC, "full")
    if process.returncode or not archive.exists():
        raise RuntimeError(
            f"Kaggle's download of {DATASET} failed (its own message is above). If the connection broke, run this again, "
            f"it goes on where it stopped. {ACCOUNT_HELP}"
        )
    return archive


def unpack(archive, folder):
    """Unpack the images below `train/` and `test/`, wherever these stand in the archive, into a new `folder`.

    Raises:
        ValueError: no readable zip, a member that would leave the folder, a link, a bomb, or no train/ and test/.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _refuse_hostile(members)
            prefix = _prefix_of_train(members)
            draft = folder.with_name(f".unpacking-{folder.name}")
            for member in utils.progress(list(_images_below(members, prefix)), desc="unpacking", unit="image"):
                _extract(opened, member, draft.joinpath(*PurePosixPath(member.filename).parts[len(prefix) :]))
    except BROKEN as error:
        if isinstance(error, OSError) and not error.errno:
            raise  # it says already what keeps the images from being written
        raise ValueError(f"{archive.name} is broken ({error}); delete it and run this again.") from error
    draft.rename(folder)


def count_report(folder):
    """One line a part and class whose number of images isn't what the study found; one line of confirmation if none."""
    lines = []
    for part, classes in EXPECTED_COUNTS.items():
        for name, expected in classes.items():
            found = sum(1 for path in (folder / part / name).glob("*") if path.is_file())
            if found != expected:
                lines.append(f"{part}/{name} holds {found} images; the study had {expected}.")
    return lines or [
        f"{disk.display_path(folder)}: all {sum(sum(part.values()) for part in EXPECTED_COUNTS.values())} images, as the study had them."
    ]


def _refuse_hostile(members):
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise ValueError(f"the archive holds a path that leaves its folder ({member.filename!r}); nothing was unpacked.")
        if (member.external_attr >> 16) & 0o170000 == SYMLINK:
            raise ValueError(f"the archive holds a link ({member.filename!r}); nothing was unpacked.")
        if any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
            raise ValueError(
                f"the archive holds a name that is too long for a disk ({path.name[:40]!r}…); nothing was unpacked."
            )
    packed, unpacked = sum(member.compress_size for member in members), sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_COMPRESSION * max(packed, 1):
        raise ValueError(
            f"the archive would unpack {packed:,} bytes to {unpacked:,}: not a set of images; nothing was unpacked."
        )


def _prefix_of_train(members):
    """The folders above `train/`, e.g. ("Data",): the shallowest place that has both train/ and test/."""
    prefixes = {}
    for member in members:
        parts = PurePosixPath(member.filename).parts
        for depth, part in enumerate(parts[:-2]):
            if part in EXPECTED_COUNTS:
                prefixes.setdefault(parts[:depth], set()).add(part)
    whole = [prefix for prefix, found in prefixes.items() if found == set(EXPECTED_COUNTS)]
    if not whole:
        raise ValueError("the archive has no folders train/CLASS and test/CLASS side by side; nothing was unpacked.")
    return min(whole, key=lambda prefix: (len(prefix), prefix))


def _images_below(members, prefix):
    """Members `prefix/{train,test}/CLASS/IMAGE`."""
    for member in members:
        path = PurePosixPath(member.filename)
        inside = path.parts[len(prefix) :]
        is_image = path.suffix.lower() in (".jpg", ".jpeg", ".png")
        if path.parts[: len(prefix)] == prefix and len(inside) == 3 and inside[0] in EXPECTED_COUNTS and is_image:
            yield member


def _extract(opened, member, target):
    if target.exists() and target.stat().st_size == member.file_size:
        return  # from an unpacking that was cut off
    with disk.replacing(target) as draft:
        draft.write_bytes(opened.read(member))


if __name__ == "__main__":
    try:
        download(disk.STORE / "data" / "chest_xray")
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; run this again, it goes on where it stopped.")
