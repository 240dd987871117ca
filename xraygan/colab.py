"""What a notebook needs in Google Colab: missing packages, and a place on Drive that outlives a disconnect."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORT_NAMES = {  # what the notebooks import, by the name it's installed under; Colab keeps its own version of what it has
    "tensorflow": "tensorflow",
    "keras": "keras",
    "numpy": "numpy",
    "pandas": "pandas",
    "matplotlib": "matplotlib",
    "kaggle": "kaggle",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "threadpoolctl": "threadpoolctl",
    "joblib": "joblib",
    "tqdm": "tqdm",
    "filelock": "filelock",
}


def prepare(drive_folder=""):
    """In Colab, install what doesn't import and keep results on Drive; anywhere else do nothing.

    Call before `utils` is imported: it reads `XRAYGAN_STORE` on import.

    Args:
        drive_folder: where to mount Google Drive, e.g. "/content/drive"; "" keeps everything on Colab's machine.
    """
    if not in_colab():
        return
    missing = missing_requirements()
    if missing:
        print(f"installing {', '.join(missing)}")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
        importlib.invalidate_caches()
    if drive_folder:
        from google.colab import drive

        drive.mount(drive_folder)
        store = Path(drive_folder) / "MyDrive" / "xraygan"
        store.mkdir(parents=True, exist_ok=True)
        os.environ["XRAYGAN_STORE"] = str(store)
        print("data, models, images and results are kept on Drive, in the folder xraygan")


def in_colab():
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # no package called google at all
        return False


def missing_requirements():
    """The pinned requirement of each package that the notebooks import and that isn't here, e.g. ["filelock==4.2.12"]."""
    pins = re.findall(r"^([a-z-]+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [
        f"{name}=={version}"
        for name, version in pins
        if name in IMPORT_NAMES and importlib.util.find_spec(IMPORT_NAMES[name]) is None
    ]
